"""JAX processes on this machine, of fake CPU devices, that run a function of a test module together."""

import importlib
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import commands

ROOT = Path(__file__).resolve().parents[2]


def run(function, processes, devices, folder, *arguments, seconds=600):
    """What a function returns in each of `processes` processes of `devices` devices.

    Args:
      function: its dotted name, from `tests` on; what it takes and returns is pickled, by way of `folder`.
    """
    port, folder = free_port(), Path(folder)
    (folder / "arguments").write_bytes(pickle.dumps(arguments))
    environment = os.environ | {
        "XLA_FLAGS": commands.xla_flags(devices),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{commands.SELDOM_GARBAGE}",
    }
    place = [*function.rsplit(".", 1), port, processes]
    started = []
    for number in range(processes):
        command = [sys.executable, "-m", "tests.helpers.process_group", folder, *place, number]
        with (folder / f"log.{number}").open("w") as log:
            started.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment, cwd=ROOT))
    try:
        _wait(started, folder, time.monotonic() + seconds)
    finally:
        for process in started:
            process.kill()
    return [pickle.loads((folder / f"result.{number}").read_bytes()) for number in range(processes)]


def _wait(started, folder, until):
    """Until all have ended well, or one has not: the others would wait for it."""
    while any(process.poll() is None for process in started):
        time.sleep(0.05)
        failed = [number for number, process in enumerate(started) if process.poll() not in (None, 0)]
        assert not failed, f"process {failed[0]}: {(folder / f'log.{failed[0]}').read_text()[-3000:]}"
        assert time.monotonic() < until, "it takes too long"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _main(folder, module, name, port, processes, number):
    import jax

    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(number))
    arguments = pickle.loads((Path(folder) / "arguments").read_bytes())
    found = getattr(importlib.import_module(module), name)(*arguments)
    (Path(folder) / f"result.{number}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
