"""The bench measures what it says, on any machine; how fast that is, no test asks."""

import pytest

from mmjax import bench
from tests.helpers import tiny_run
from tests.helpers.unoptimized import unoptimized  # noqa: F401


@pytest.fixture(scope="module")
def rows():
    return bench.measure(tiny_run.experiment(adapter=True, sampling={"steps": 4}), repeats=1)


def test_every_measurement_has_its_row(rows):
    assert [row["name"] for row in rows] == ["base", "adapter", "video", "train"]  # `pixel` has no networks of its own
    for row in rows:
        assert row["seconds"] > 0 and row["compile_seconds"] > 0 and row["tflops"] > 0
        assert row["peak_gib"] > 0
        assert row["mfu"] is None  # nobody states a CPU's peak


def test_the_table_names_the_device_and_every_figure(rows):
    lines = bench.table(rows, "a machine").splitlines()
    assert lines[0] == "a machine, random weights"
    assert len(lines) == 4 + len(rows)
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:])
