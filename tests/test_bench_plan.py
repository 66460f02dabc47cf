"""A plan says what the compiler says, for devices that are here; `tests/test_tpu.py` asks the TPU's own compiler."""

import dataclasses
import types

import jax
import pytest

from mmjax import bench_plan, collectives, device_memory, sharding
from mmjax import config as c
from mmjax.errors import ConfigError
from tests.helpers import tiny_run
from tests.helpers.configurations import load

REFUSED = (
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 35.50G of 31.25G hbm. Exceeded by 4.25G.\nmore"
)


@pytest.fixture(scope="module")
def rows():
    """Of the tiny model on four devices; `pixel` has no networks of its own."""
    config = tiny_run.experiment(adapter=True, sampling={"steps": 4})
    return bench_plan.plan(config, sharding.make_mesh(c.Mesh(data=1, fsdp=4), jax.devices()[:4]))


@pytest.mark.slow
def test_each_part_has_a_row(rows):
    assert [row["name"] for row in rows] == ["guided", "train"]
    for row in rows:
        assert 0 < row["argument_bytes"] < row["held_bytes"] and row["temporary_bytes"] > 0
        assert row["memory_bytes"] is None and row["fits"] is None  # of a CPU nobody says
        assert row["flops"] > 0 and row["compile_seconds"] > 0 and row["refused"] == ""
        assert list(row["collectives"]) == list(collectives.KINDS)
        assert row["collectives"]["all-gather"]["count"] > 0
    assert rows[1]["flops"] > rows[0]["flops"] / 2  # a gradient against a pair of forward passes


@pytest.mark.slow
def test_the_table_has_every_row(rows):
    lines = bench_plan.table(rows, "four devices").splitlines()
    assert lines[0] == "four devices, nothing was run" and len(lines) == 4 + len(rows)
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:])
    assert "all-gather (" in lines[4]


def test_a_part_that_does_not_fit_is_a_row_that_says_so(monkeypatch):
    def refuse():
        raise jax.errors.JaxRuntimeError(REFUSED)

    monkeypatch.setitem(bench_plan._MAKE, "guided", lambda *_: (refuse, 8e12))
    mesh = sharding.make_mesh(c.Mesh(data=2), jax.devices()[:2])
    (row,) = bench_plan.plan(tiny_run.experiment(), mesh, only=["guided"])
    assert row["fits"] is False and row["held_bytes"] == 35.5 * 2**30 and row["flops"] == 4e12
    assert row["refused"].endswith("Exceeded by 4.25G.") and row["collectives"] is None
    assert "| 35.50 |" in bench_plan.table([row], "a machine")


def test_other_refusals_name_their_bytes_too():
    said = "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (400.00G) exceeds available HBM (15.75G)."
    assert bench_plan._named(said) == 400 * 2**30
    assert bench_plan._named("RESOURCE_EXHAUSTED: something else") is None


def test_another_error_of_the_compiler_is_not_hidden(monkeypatch):
    def fail():
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setitem(bench_plan._MAKE, "guided", lambda *_: (fail, None))
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        bench_plan.plan(tiny_run.experiment(), only=["guided"])


def test_a_part_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="only = video: expected some of text, guided, train"):
        bench_plan.plan(tiny_run.experiment(), only=["video"])


def test_without_libtpu_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(bench_plan.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--topology v6e:2x4: .* no package libtpu; pip install \"mmjax\[tpu-plan\]"):
        bench_plan.topology("v6e:2x4")


@pytest.mark.slow
@pytest.mark.parametrize("part", bench_plan.PARTS)
def test_parts_of_full_size_are_made_of_shapes_alone(part):
    """5B, T5-XXL and the VAE: what is laid out for the compiler holds no array to speak of."""
    config = dataclasses.replace(load("magicmirror_5b.py"), mesh=c.Mesh(data=1, fsdp=8))
    before = sum(array.nbytes for array in jax.live_arrays())
    made = bench_plan._MAKE[part](config, sharding.make_mesh(config.mesh, jax.devices()))
    assert sum(array.nbytes for array in jax.live_arrays()) - before < 2**20
    del made


def test_the_memory_of_chips_that_are_not_here_is_known():
    def chip(kind):
        def refuse():
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: only supported for addressable devices")

        return types.SimpleNamespace(device_kind=kind, memory_stats=refuse)

    found = {kind: device_memory.capacity(chip(kind)) for kind in ("TPU v5 lite", "TPU v5", "TPU v6 lite", "TPU v9")}
    assert found == {
        "TPU v5 lite": int(15.75 * 2**30),
        "TPU v5": int(95.74 * 2**30),
        "TPU v6 lite": int(31.25 * 2**30),
        "TPU v9": None,
    }
    here = types.SimpleNamespace(device_kind="TPU v6 lite", memory_stats=lambda: {"bytes_limit": 30})
    assert device_memory.capacity(here) == 30  # what a device says itself comes first
