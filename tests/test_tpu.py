"""Programs compiled for TPUs that are not here, by libtpu itself: they compile and fit, and what they send is counted.

Needs libtpu beside JAX, not a TPU: `make .libtpu/.installed`, then `PYTHONPATH=.libtpu pytest tests/test_tpu.py`.
"""

import dataclasses

import jax
import pytest

from mmjax import bench_plan, collectives, sharding
from mmjax import config as c
from mmjax.errors import ConfigError
from tests.helpers.configurations import load

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: make .libtpu/.installed")


@pytest.fixture(autouse=True, scope="module")
def optimized():
    """Other tests do without most of XLA's work; what is sent is decided by it."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def planned(config, slice_, part, **mesh):
    """(the part's row, its collectives) for a slice."""
    mesh = sharding.make_mesh(c.Mesh(**{"data": 1, **mesh}), bench_plan.topology(slice_))
    (row,) = bench_plan.plan(config, mesh, only=[part])
    sent = {kind: collectives.Total(**total) for kind, total in row["collectives"].items()}
    print(collectives.table(sent))
    return row, sent


@pytest.mark.slow
def test_a_small_training_step_reduce_scatters_its_gradients():
    config = load("tiny.py")
    config = dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, fsdp_min_size=2**12))
    row, sent = planned(config, "v6e:2x2", "train", fsdp=4)
    assert row["fits"] and row["memory_bytes"] == int(31.25 * 2**30)
    assert sent["reduce-scatter"].bytes > 2 * sent["all-reduce"].bytes, collectives.table(sent)  # of whole leaves
    assert sent["all-to-all"].count == 0 and sent["collective-permute"].count == 0, collectives.table(sent)


@pytest.mark.slow
def test_a_guided_step_of_full_size_fits_four_chips():
    """Of activations, a block sums what attention and feed-forward give, each once; the rest is factors."""
    row, sent = planned(load("magicmirror_5b.py"), "v6e:2x2", "guided", tensor=4)
    assert row["fits"] and row["held_bytes"] < 8 * 2**30
    blocks = 2  # the body of the loop over pairs
    assert sent["all-reduce"].count == 2 * blocks and sent["all-gather"].bytes < 2**20, collectives.table(sent)
    assert not any(sent[kind].count for kind in ("reduce-scatter", "all-to-all", "collective-permute"))


@pytest.mark.parametrize("name", ["v9:2x2", "v6e:3x5", "v6e", "nonsense"])
def test_a_slice_that_does_not_exist_is_one_clear_line(name):
    with pytest.raises(
        ConfigError, match=f"--topology {name}: expected a TPU slice such as v5e:4x4, .*, found .+"
    ) as e:
        bench_plan.topology(name)
    assert "\n" not in str(e.value)
