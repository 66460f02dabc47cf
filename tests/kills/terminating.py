"""python -m tests.kills.terminating --config FILE [--batch 1] [--folder DIR] [--steps 3] [--config.KEY=VALUE ...]

How long a run takes from SIGTERM to its end, with everything saved: `mmjax.train` on random records of the experiment's
last source, a base of random weights. The first time there is no checkpoint yet, so that the frozen parameters are
written as well; the second time the same run goes on from there. Prints seconds and sizes; status 1 where a checkpoint
is not whole, or the run did not end well. The folder needs room for the frozen parameters and three checkpoints.
"""

import argparse
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmjax import config as c
from mmjax.weights import checksums, parameters
from tests.helpers import random_records
from tests.helpers.commands import ROOT
from tests.helpers.configurations import load

_MIB = 2**20


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    flags, settings = _flags().parse_known_args(arguments)
    folder = flags.folder or Path(tempfile.mkdtemp(prefix="mmjax-terminating-"))
    file = str(Path(flags.config).absolute())
    config = _on_random_records(load(file), folder / "records", flags.batch)
    line = [sys.executable, "-m", "mmjax.train", f"--config={file}", *_flags_of(config), *settings]
    line.append(f"--workdir={folder / 'run'}")
    for before in ("no checkpoint", "one checkpoint"):
        steps, seconds, status = terminate(line, flags.steps, folder / "printed.txt")
        if status:
            print(f"ended with status {status}:\n{(folder / 'printed.txt').read_text()[-3000:]}", file=sys.stderr)
            return 1
        print(f"{before} before: {seconds:.1f} s from SIGTERM in step {steps + 1} to the end; {_left(folder / 'run')}")
    if not flags.folder:
        shutil.rmtree(folder)
    return 0


def terminate(line: list[str], steps: int, printed: Path) -> tuple[int, float, int]:
    """(the last step that it told of, seconds from SIGTERM to the end, exit status) of a command stopped after `steps`.

    Args:
      printed: takes what the command prints.
    """
    with open(printed, "w") as log:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}, cwd=ROOT
        )
        told = 0
        for text in process.stdout:
            print(text, end="", file=log, flush=True)
            if text.startswith("step ") and " of " in text:
                told += 1
                last = int(text.split()[1])
                if told == steps:
                    break
        else:
            return 0, 0.0, process.wait() or 1
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        log.write(process.stdout.read())
        status = process.wait()
        return last, time.monotonic() - began, status


def _on_random_records(config: c.Experiment, folder: Path, batch: int) -> c.Experiment:
    """The experiment on one source of random records, with nothing else to do than to train."""
    data = dataclasses.replace(
        config.data, sources=(str(folder),), weights=(1.0,), batches=(batch,), frames=config.data.frames[-1:]
    )
    train = dataclasses.replace(
        config.train,
        steps=100_000,
        log_every=1,
        validate_every=0,
        sample_every=0,
        checkpoint_every=0,
        checkpoint_minutes=0.0,
        base=c.RANDOM,
        adapter="",
        photomaker="",
    )
    config = dataclasses.replace(config, data=data, train=train).validated()
    random_records.write(folder, config, max(4, batch))
    return config


def _flags_of(config: c.Experiment) -> list[str]:
    """What `_on_random_records` changed, as the command line's settings."""
    changed = {"data": ("sources", "weights", "batches", "frames")}
    changed["train"] = ("steps", "log_every", "validate_every", "sample_every", "checkpoint_every")
    changed["train"] += ("checkpoint_minutes", "base", "adapter", "photomaker")
    return [
        f"--config.{group}.{name}={getattr(getattr(config, group), name)}"
        for group, names in changed.items()
        for name in names
    ]


def _left(workdir: Path) -> str:
    """The sizes of what was saved. Raises `AssertionError` where it is not whole."""
    step = parameters.complete_step(workdir)
    sizes = []
    for name in (f"checkpoints/{step}", "frozen"):
        if (workdir / name).is_dir():
            assert checksums.damage(workdir / name) == "", f"{name}: {checksums.damage(workdir / name)}"
            sizes.append(f"{name} {_bytes(workdir / name) / _MIB:,.1f} MiB")
    return ", ".join(sizes)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.kills.terminating", description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="a file in configs/, or FILE:NAME")
    parser.add_argument("--batch", type=int, default=1, help="samples a step")
    parser.add_argument("--steps", type=int, default=3, help="steps before the signal comes")
    parser.add_argument("--folder", type=Path, help="an empty folder for records and run, which stay there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
