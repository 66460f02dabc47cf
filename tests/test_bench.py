"""The bench measures what it says, on any machine; how fast that is, no test asks."""

import dataclasses
import json

import pytest

from mmjax import bench
from mmjax.errors import ConfigError
from tests.helpers import blocked, tiny_run


@pytest.fixture(scope="module")
def rows():
    """Of a process that can import nothing that reads videos, records, faces or published weights."""
    config = tiny_run.experiment(adapter=True, sampling={"steps": 4})
    done = blocked.run(f"""
import json
import jax
import mmjax
jax.config.update("jax_disable_most_optimizations", True)
config = mmjax.Experiment.from_config_dict(json.loads({json.dumps(dataclasses.asdict(config))!r}))
print(json.dumps(mmjax.bench(config, repeats=1)))
""")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_measurement_has_its_row(rows):
    assert [row["name"] for row in rows] == ["base", "adapter", "video", "train"]  # `pixel` has no networks of its own
    for row in rows:
        assert row["seconds"] > 0 and row["compile_seconds"] > 0 and row["tflops"] > 0
        assert row["peak_gib"] > 0
        assert row["mfu"] is None  # nobody states a CPU's peak


@pytest.mark.slow
def test_the_table_names_the_device_and_every_figure(rows):
    lines = bench.table(rows, "a machine").splitlines()
    assert lines[0] == "a machine, random weights"
    assert len(lines) == 4 + len(rows)
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:])


def test_a_measurement_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="only = adaptr: expected some of text, faces"):
        bench.bench(tiny_run.experiment(), only=["adaptr"])
