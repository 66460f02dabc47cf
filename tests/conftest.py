"""What every test runs under, set before JAX is imported anywhere; commands that tests start inherit it.

Eight fake CPU devices, a compilation cache, and programs without XLA's optimizations: nearly all of a test's time is
compilation, and tests ask what programs compute, not how fast (`JAX_DISABLE_MOST_OPTIMIZATIONS=0` has them back).
"""

import gc
import os
import signal
from pathlib import Path

import pytest

from tests.helpers import commands

gc.set_threshold(100_000, 20, 10)  # collecting as often as Python does is a quarter of the time of tracing
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell runs in the background ignores
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".cache" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # programs need not say which line each operation is of
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(commands.SELDOM_GARBAGE))))
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads would wait for each other's cores
if not os.environ.get("MMJAX_TEST_DATA", "unset"):
    del os.environ["MMJAX_TEST_DATA"]  # set to nothing is not set
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} {commands.xla_flags(devices=8)}".strip()


@pytest.hookimpl(optionalhook=True)  # xdist is not everywhere
def pytest_xdist_auto_num_workers():
    """One worker more than there are cores: a sixth of the time tests wait for processes that they have started."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    """Tests marked `measures` wait to be asked for; files with slow tests go first, lest one be left for the end."""
    if not os.environ.get("MMJAX_MEASURE"):
        skip = pytest.mark.skip(reason="measures a figure that is quoted, in up to half an hour: MMJAX_MEASURE=1")
        for item in items:
            if item.get_closest_marker("measures"):
                item.add_marker(skip)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What is imported stays."""
    gc.collect()
    gc.freeze()
