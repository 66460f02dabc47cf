"""Tracebacks of libraries that a failed checkpoint leaves behind are kept back; nobody else's are."""

import asyncio
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmjax.quiet import quiet_checkpoints


@pytest.fixture
def printed(monkeypatch):
    """What Python is told of errors that nobody catches."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: told.append(str(event.exc_value)))
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: told.append(str(error)))
    return told


def late():
    """What a thread of TensorStore leaves that reports to an event loop which is closed."""
    loop = asyncio.new_event_loop()
    loop.close()
    return event(lambda: loop.call_soon_threadsafe(print), below=1)


def ours():
    def fail():
        raise RuntimeError("a mistake of ours")

    return event(fail)


def event(fail, below=0):
    try:
        fail()
    except RuntimeError as error:
        traceback = error.__traceback__
        for _ in range(below + 1):  # as it began in the library
            traceback = traceback.tb_next
        return SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=traceback, object=None)


def tell(*events):
    for each in events:
        sys.unraisablehook(each)
        sys.excepthook(each.exc_type, each.exc_value, each.exc_traceback)


def test_meanwhile_only_the_libraries_are_silent(printed):
    with quiet_checkpoints():
        tell(late(), ours())
    assert printed == ["a mistake of ours"] * 2


def test_a_block_that_ends_well_leaves_everything_as_it_was(printed):
    before = sys.unraisablehook, sys.excepthook, list(logging.getLogger("absl").filters)
    with quiet_checkpoints(), quiet_checkpoints():
        assert sys.unraisablehook is not before[0]
    assert (sys.unraisablehook, sys.excepthook, logging.getLogger("absl").filters) == before
    tell(late())
    assert printed == ["Event loop is closed"] * 2


def test_what_comes_after_an_error_is_silent_too(printed):
    with pytest.raises(OSError), quiet_checkpoints():
        raise OSError("damaged")
    sys.unraisablehook(late())
    sys.unraisablehook(ours())
    assert printed == ["a mistake of ours"]
    for left, wanted in ((late(), False), (ours(), True)):  # asyncio tells of them when they are garbage
        error = left.exc_type, left.exc_value, left.exc_traceback
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "exception was never retrieved", (), error)
        assert bool(logging.getLogger("asyncio").filter(record)) is wanted


def test_interrupts_are_never_kept_back(printed):
    stop = late()
    stop.exc_type, stop.exc_value = KeyboardInterrupt, KeyboardInterrupt("stop")
    with quiet_checkpoints():
        sys.unraisablehook(stop)
    assert printed == ["stop"]


DAMAGED = """
import sys
from pathlib import Path

import jax
import numpy as np

from mmjax import errors
from mmjax.conversion import store

folder, leaves = Path(sys.argv[1]), {f"leaf{number}": np.ones((64, 64), np.float32) for number in range(60)}
promised = {name: store.PromisedLeaf(leaf.shape, leaf.dtype, lambda leaf=leaf: leaf) for name, leaf in leaves.items()}
store.write_params(folder, promised, print)
for path in (folder / store.PARAMS / "ocdbt.process_0" / "d").iterdir():
    path.write_bytes(path.read_bytes()[:50])
device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
abstract = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for name, leaf in leaves.items()}
for _ in range(5):
    try:
        store.read_params(folder, abstract)
    except errors.CheckpointError:
        print("told")
"""


def test_damaged_values_are_one_error_and_nothing_else(tmp_path):
    """A read of sixty leaves that all fail, each in a thread of its own."""
    done = subprocess.run([sys.executable, "-c", DAMAGED, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("told") == 5, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "RuntimeError" not in done.stderr, done.stderr[-2000:]
