"""The bench measures what it says, on any machine; how fast that is, no test asks."""

import dataclasses
import json

import jax
import pytest

from mmjax import bench, bench_memory
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


@pytest.mark.slow
def test_memory_settings_have_a_row_each_even_where_one_does_not_fit(monkeypatch):
    """The first row's step is run for all of them; how much they save, `tests/training/test_offload.py` asks."""
    step, made = bench_memory.training_step, []

    def once(config, mesh, judging):
        if config.runtime.stream:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore lines")
        made[:] = made or [step(config, mesh, judging)]
        return made[0]

    monkeypatch.setattr(bench_memory, "training_step", once)
    monkeypatch.setattr(bench_memory, "ROWS", ({}, {"runtime.stream": True}, {"optim.moments": "bfloat16"}))
    rows = bench_memory.bench_memory(tiny_run.experiment(), repeats=1, threads=1)
    assert [row.changes for row in rows] == list(bench_memory.ROWS) and rows[0].changes == {}
    for row in rows:
        fits = not row.changes.get("runtime.stream")
        assert (row.seconds is not None) == fits and (row.held is not None) == fits
        assert row.wrong == ("" if fits else "RESOURCE_EXHAUSTED: Out of memory")
    lines = bench_memory.table(rows, "a machine").splitlines()
    assert len(lines) == 4 + len(rows) and all(line.count("|") == lines[2].count("|") for line in lines[2:])


def test_a_row_changes_what_it_says_and_resets_the_others():
    given = tiny_run.experiment(runtime={"stream": True}, optim={"moments": "bfloat16"})
    for changes in bench_memory.ROWS:
        made = bench_memory._changed(given, changes)
        found = {"optim.moments": made.optim.moments, "runtime.stream": made.runtime.stream}
        assert found | {"runtime.offload": made.runtime.offload} == bench_memory._PLAIN | changes
