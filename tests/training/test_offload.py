"""State in host memory and streamed weights: the same step, bit for bit, with less on the device."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import NamedSharding, PartitionSpec

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.models import build
from mmjax.training import loop, offload, optimizer, state, step
from mmjax.training.batches import abstract_batches
from mmjax.training.tasks.diffusion import make_objective
from mmjax.training.tasks.registry import make_task
from tests.helpers import tiny_run

DEVICE, HOST = jax.memory.Space.Device, jax.memory.Space.Host
EVERYTHING = {"remat": "full", "stream": True, "offload": ("ema", "moments")}


def kinds(tree):
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def traced(config):
    """(the training step as JAX traces it, the state as shapes)."""
    mesh = tiny_run.mesh_of(config)
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract = state.abstract_state(make_task(config), tx, mesh)
    text = np.zeros((config.model.transformer.text_length, config.model.transformer.text_dim), np.float32)
    objective = make_objective(config, build.make_model(config), text)
    jitted = step.jit_train_step(step.make_train_step(config, objective, tx, state.random_keys(0).train), abstract)
    with sharding.use_mesh(mesh):
        return jitted.trace(abstract, {}, abstract_batches(make_task(config), mesh)[0]), abstract


def moves(jaxpr):
    """(how many arrays come from host memory, how many go there), those of a loop's body counted once."""
    come = go = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "device_put":
            before, after = (v.aval.memory_space for v in (equation.invars[0], equation.outvars[0]))
            come += (before, after) == (HOST, DEVICE)
            go += (before, after) == (DEVICE, HOST)
        for inner in jaxprs_in_params(equation.params):
            found = moves(inner)
            come, go = come + found[0], go + found[1]
    return come, go


@pytest.mark.slow
def test_what_is_named_waits_in_host_memory_and_the_step_moves_it():
    step, abstract = traced(tiny_run.experiment(adapter=True, runtime=EVERYTHING))
    trained, blocks = len(jax.tree.leaves(abstract.trained)), abstract.frozen["transformer"]["blocks"]
    assert kinds(abstract.trained) == {"device"} and kinds(abstract.ema) == kinds(blocks) == {"pinned_host"}
    moments = [leaf for leaf in jax.tree.leaves(abstract.opt_state) if leaf.shape]
    assert kinds(moments) == {"pinned_host"} and len(moments) == 2 * trained
    assert kinds(abstract.frozen["transformer"]["patch_embed"]) == {"device"}
    # The average and both moments come and go; a pair's weights come twice, for the loss and again for its gradient,
    # which has no use for the last bias.
    assert moves(step.jaxpr) == (3 * trained + 2 * len(jax.tree.leaves(blocks)) - 1, 3 * trained)
    waiting = jax.tree.leaves((abstract.ema, moments, blocks))
    assert state.bytes_per_device(abstract, on_host=True) == sum(leaf.size * leaf.dtype.itemsize for leaf in waiting)
    text = step.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count('_xla_buffer_placement = "pinned_host"') >= 3 * trained


def test_without_these_settings_nothing_moves():
    step, abstract = traced(tiny_run.experiment())
    assert kinds(abstract) == {"device"} and moves(step.jaxpr) == (0, 0)


def host(mesh):
    return NamedSharding(mesh, PartitionSpec(), memory_kind="pinned_host")


def test_an_update_in_parts_is_the_update(monkeypatch):
    """AdamW's own, its state in host memory, whose leaves come one by one, two by two, or all at once."""
    config = c.Optim(warmup_steps=0)
    rng, mesh = np.random.default_rng(0), sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    params = {"a": {"kernel": rng.standard_normal((3, 4))}, "b": {"bias": rng.standard_normal(5)}, "c": np.ones((2, 2))}
    params["d"] = {"kernel": rng.standard_normal((4, 4)), "scale": np.ones(1)}
    params = jax.tree.map(np.float32, params)
    grads = jax.tree.map(lambda leaf: np.cos(7 * leaf), params)
    tx = optimizer.make_optimizer(config, 10)

    def updated(opt_state, grads, params):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    expected = jax.jit(updated)(tx.init(params), grads, params)
    put = lambda leaf: jax.device_put(leaf, host(mesh)) if leaf.ndim else leaf  # noqa: E731
    for size, parts in ((1, 5), (10, 3), (1000, 1)):
        monkeypatch.setattr(offload, "_PART", size)
        assert len(offload._parts(params)) == parts
        on_host = jax.tree.map(put, tx.init(params))
        shardings = (None, jax.tree.map(lambda leaf: leaf.sharding, on_host))
        found = jax.jit(lambda *a: updated(*a), out_shardings=shardings)(on_host, grads, params)
        tiny_run.assert_bit_equal(found, expected)
        assert kinds([leaf for leaf in jax.tree.leaves(found[1]) if leaf.ndim]) == {"pinned_host"}


def test_a_part_is_fetched_when_the_last_but_one_is_back(monkeypatch):
    """Each barrier holds a part back until what it waits for is there; without them all would come at once."""
    monkeypatch.setattr(offload, "_PART", 1)
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    waiting = {name: jax.device_put(np.ones(3, np.float32), host(mesh)) for name in "abcd"}
    beside = {name: np.ones(3, np.float32) for name in "abcd"}

    def update(waiting, beside):
        return offload.update_in_parts(lambda x, y: (jax.tree.map(jnp.add, x, y), {}), waiting, beside)

    equations = jax.make_jaxpr(update)(waiting, beside).jaxpr.eqns
    barriers = [equation for equation in equations if equation.primitive.name == "optimization_barrier"]
    sent = [
        e.outvars[0] for e in equations if e.primitive.name == "device_put" and e.outvars[0].aval.memory_space == HOST
    ]
    assert len(barriers) == len(sent) == 4
    assert [barriers[part].invars[1] is sent[part - 2] for part in (2, 3)] == [True, True]
    assert all(barriers[part].invars[1].aval.memory_space == DEVICE for part in (0, 1))


@pytest.mark.slow
def test_a_run_with_all_of_it_goes_on_bit_for_bit_and_is_the_run_without(tmp_path):
    """On eight devices; checkpoints keep bfloat16 moments, and know nothing of memories."""

    def run(workdir, **runtime):
        config = tiny_run.experiment(
            tmp_path / "data",
            optim={"moments": "bfloat16"},
            train={
                "trainable": (r"transformer/blocks/even/.*",),
                "steps": 4,
                "checkpoint_every": 2,
                "validate_every": 4,
            },
            precision={"frozen": "bfloat16"},
            runtime=runtime,
        )
        return loop.train(config, tmp_path / workdir, tiny_run.sources(config))

    plain = jax.device_get(run("plain"))
    whole = run("host", **EVERYTHING)
    assert kinds(whole.ema) == {"pinned_host"} and kinds(whole.trained) == {"device"}
    assert {leaf.dtype for leaf in jax.tree.leaves(whole.opt_state) if leaf.shape} == {jnp.dtype("bfloat16")}
    tiny_run.assert_bit_equal(jax.device_get(whole), plain)
    shutil.rmtree(tmp_path / "host" / "checkpoints" / "4")
    tiny_run.assert_bit_equal(jax.device_get(run("host", **EVERYTHING)), jax.device_get(whole))


def test_on_device_copies_what_waits_and_nothing_else():
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    here = jax.device_put(np.ones(3), sharding.replicated(mesh))
    there = jax.device_put(np.ones(3), host(mesh))
    found = sharding.on_device({"here": here, "there": there})
    assert found["here"] is here and kinds(found) == {"device"}
    made = state.TrainState(None, {"a": here}, {"b": here}, None, ema={"a": there})
    assert kinds(made.params()) == {"device"} and trees.count(made.params()) == 6
