"""python -m tests.fuzz [--only sample,train] [--count 500] [--seed 0] [--first N] [--keep DIR]"""

import argparse
import collections
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "mmjax-fuzz-programs"))

from tests.fuzz import running, workspace  # noqa: E402
from tests.fuzz.lines import ENTRY_POINTS, Lines  # noqa: E402


def main() -> int:
    """The exit status: how many lines went wrong, at most 100."""
    flags = _flags().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmjax-fuzz-"))
    inputs = folder / "inputs"
    inputs.mkdir()
    if flags.workspace:
        workspace.make(flags.workspace)
        return 0
    made = [sys.executable, "-m", "tests.fuzz", "--workspace", str(inputs)]  # diffusers and torch stay in that process
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    warnings.simplefilter("ignore")
    running.import_all()
    wrong = sum(_entry_point(name, flags, folder, inputs) for name in flags.only.split(","))
    shutil.rmtree(folder, ignore_errors=True)
    return min(wrong, 100)


def _entry_point(name: str, flags: argparse.Namespace, folder: Path, inputs: Path) -> int:
    counts, wrong, before = collections.Counter(), 0, running.stamps(inputs)
    for number in range(flags.first, flags.first + flags.count):
        draw, here = random.Random(f"{name} {flags.seed} {number}"), folder / "line"
        here.mkdir()
        line = list(ENTRY_POINTS[name](Lines(inputs, here, draw)))
        status, printed, seconds = running.run(name, line, here, flags.limit)
        what = running.problem(status, printed) or running.changed(before, running.stamps(inputs))
        counts[what or status] += 1
        if what:
            wrong += 1
            before = running.stamps(inputs)
            print(f"{name} {number}: {what} ({seconds:.0f} s): {shlex.join(line)}\n{_last(printed)}", flush=True)
            if flags.keep:
                kept = flags.keep / f"{name}-{number}.txt"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(f"{shlex.join(line)}\n\n{printed}", errors="replace")
        shutil.rmtree(here, ignore_errors=True)
    print(f"{name}, seed {flags.seed}, {flags.count} lines: {dict(counts)}", flush=True)
    return wrong


def _last(printed: str) -> str:
    return "".join(f"    {line[:200]}\n" for line in printed.strip().splitlines()[-3:])


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.fuzz")
    parser.add_argument("--only", default=",".join(ENTRY_POINTS), help="entry points, by default all")
    parser.add_argument("--count", type=int, default=500, help="command lines for each")
    parser.add_argument("--first", type=int, default=0, help="number of the first one: with --count 1 it alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60, help="seconds after which a line hangs")
    parser.add_argument("--keep", type=Path, help="folder for what the failing lines printed")
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
