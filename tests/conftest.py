"""Eight fake CPU devices and a compilation cache for every test, set before JAX is imported anywhere."""

import os
from pathlib import Path

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".cache" / "jax-tests"))
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=8".strip()


def pytest_collection_modifyitems(items):
    """Tests marked `measures` wait to be asked for."""
    if not os.environ.get("MMJAX_MEASURE"):
        skip = pytest.mark.skip(reason="measures a figure that is quoted, in up to half an hour: MMJAX_MEASURE=1")
        for item in items:
            if item.get_closest_marker("measures"):
                item.add_marker(skip)
