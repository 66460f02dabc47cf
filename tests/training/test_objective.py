"""The whole objective: against finite differences in float64, and the same on eight devices as on one."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.extend.core import Var

from mmjax import sharding
from mmjax.faces.template import TEMPLATE
from mmjax.models import build
from mmjax.training import optimizer, state, step
from mmjax.training.batches import abstract_batches, put_batch
from mmjax.training.objectives import judges
from mmjax.training.tasks.diffusion import make_objective
from mmjax.training.tasks.registry import make_task
from tests.helpers import onnx_models, tiny, tiny_run

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: every float32 of the package is float64 there, from the first import on.
IN_FLOAT64 = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
jnp.float32 = jnp.float64
from tests.training import test_objective
print(test_objective.finite_differences({judge!r}))
"""


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return onnx_models.mobilefacenet(tmp_path_factory.mktemp("judge") / "judge.onnx", 8, 24)


def experiment(judge=None, **changes):
    """Every objective on, for most of the samples; with a judge the identity weighs as much as the rest."""
    weight = float(judge is not None)
    identity = tiny_run.c.IdentityLoss(weight=weight, judge=str(judge), target="frame", timesteps=900, crop=0)
    loss = {"identity": identity, "face_region_probability": 0.5, "drop_text": 0.2, "drop_identity": 0.2}
    return tiny_run.experiment(adapter=True, loss=loss, **changes)


def records(config):
    """Random features, with faces where the pictures are; the first sample shows none."""
    made = tiny_run.read_batch(config, config.data.batches[0])
    side = config.data.height
    template = (TEMPLATE - 56) * side / 130 + side / 2
    if config.loss.identity.weight:
        made["landmarks"][:] = template
        made["face_visible"][:] = True
        made["face_visible"][0], made["landmarks"][0] = False, 0
    return made


def objective_of(config, mesh):
    """(loss function, judges' weights)."""
    judging = judges.load_judges(config, "drawn/1", mesh)
    null_text = np.zeros((config.model.transformer.text_length, config.model.transformer.text_dim), np.float32)
    terms = judges.make_terms(config, judging)
    return make_objective(config, build.make_model(config), null_text, terms), judging.params if judging else {}


BASE = {"latents", "face_mask", "text"}
ADAPTED = BASE | {"class_mask", "id_embedding", "clip_last", "clip_penultimate"}
JUDGED = ADAPTED | {"landmarks", "face_visible"}


@pytest.mark.parametrize(
    ("adapter", "is_judged", "read"), [(False, False, BASE), (True, False, ADAPTED), (True, True, JUDGED)]
)
def test_a_batch_has_the_fields_that_a_step_reads_and_no_others(judge, adapter, is_judged, read):
    config = experiment(judge if is_judged else None)
    adapter = dataclasses.replace(config.model.adapter, enabled=adapter)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, adapter=adapter))
    task, mesh = make_task(config), tiny_run.mesh_of(config)
    (batch,) = abstract_batches(task, mesh)
    assert batch.keys() == read
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), task.abstract_params(mesh))
    minimised, weights = objective_of(config, mesh)

    def loss(batch):
        return minimised.loss(params, {}, weights, *minimised.draw(jax.random.key(0), batch))

    traced = jax.make_jaxpr(loss)(batch).jaxpr
    looked_at = {variable for equation in traced.eqns for variable in equation.invars if isinstance(variable, Var)}
    assert {name for name, variable in zip(sorted(batch), traced.invars, strict=True) if variable in looked_at} == read


def finite_differences(judge) -> float:
    """Largest relative difference between directional derivatives and central differences, along eight directions."""
    import jax.numpy as jnp

    from mmjax.diffusion import loss as diffusion_loss
    from mmjax.precision import Policy

    Policy.dtype = property(lambda self: jnp.dtype("float64"))
    config = experiment(judge)
    _, mesh, made = tiny_run.fresh_state(config)
    double = lambda tree: jax.tree.map(lambda x: x.astype(np.float64) if x.dtype.kind in "fV" else x, tree)  # noqa: E731
    rng = np.random.default_rng(0)
    shaken = lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape)  # noqa: E731
    trained, frozen = jax.tree.map(shaken, double(made.trained)), double(made.frozen)
    minimised, weights = objective_of(config, mesh)
    batch = double({name: np.asarray(value) for name, value in records(config).items()})
    draws = diffusion_loss.draw(jax.random.key(3), batch["latents"].shape, 1000, config.loss)
    value = jax.jit(lambda trained: minimised.loss(trained, frozen, double(weights), batch, draws)[0])
    gradient = jax.jit(jax.grad(value))(trained)
    assert value(trained).dtype == np.float64
    worst = 0.0
    for _ in range(8):
        direction = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), trained)
        along = lambda h: value(jax.tree.map(lambda leaf, d: leaf + h * d, trained, direction))  # noqa: B023, E731
        h = 1e-8  # the recogniser has kinks: of thousands of numbers, few may cross theirs
        numeric = (along(h) - along(-h)) / (2 * h)
        exact = sum(float(np.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        worst = max(worst, abs(float(numeric) - exact) / abs(exact))
    return worst


@pytest.mark.slow
def test_the_gradient_is_that_of_finite_differences_in_float64(judge):
    code = IN_FLOAT64.format(judge=str(judge))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    error = float(done.stdout.split()[-1])
    print(f"measured: {error:.1e}")
    assert error < 1e-6


def one_step(config, devices=1):
    """(its metrics, the first moments after it: a tenth of the clipped gradient), whole on the host."""
    tx, mesh = optimizer.make_optimizer(config.optim, config.train.steps), tiny_run.mesh_of(config, devices)
    abstract = state.abstract_state(make_task(config), tx, mesh)
    minimised, weights = objective_of(config, mesh)
    train_step = step.make_train_step(config, minimised, tx, state.random_keys(config.seed).train)
    jitted = step.jit_train_step(train_step, abstract)
    size = config.data.batches[0]
    rows = list(sharding.own_rows(mesh, size))
    batch = {name: value[rows] for name, value in records(config).items()}
    with sharding.use_mesh(mesh):
        after, metrics = jitted(_drawn_state(abstract), weights, put_batch(batch, mesh, size))
        whole = jax.jit(lambda tree: tree, out_shardings=sharding.replicated(mesh))
        return jax.device_get(whole((metrics, _moments(after.opt_state))))


def _drawn_state(abstract):
    """A state before its first step, all its weights drawn on the host, the same whatever the mesh."""

    def put(values, leaf):
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda share: values[share])

    def drawn(tree, seed):
        return jax.tree.map(put, tiny.redrawn(tree, seed), tree)

    zeros = jax.tree.map(lambda leaf: put(np.zeros(leaf.shape, leaf.dtype), leaf), abstract)
    return zeros.replace(trained=drawn(abstract.trained, 1), frozen=drawn(abstract.frozen, 0))


@pytest.mark.slow
def test_eight_devices_give_the_loss_and_every_gradient_of_one(judge):
    one, eight = (
        one_step(experiment(judge, mesh=mesh), devices) for mesh, devices in (({}, 1), ({"data": 2, "fsdp": 4}, 8))
    )
    assert one[0]["counts"]["identity"] == eight[0]["counts"]["identity"] > 1
    assert_same_step(eight, one)


def assert_same_step(found, expected, name="eight devices"):
    """Loss and every gradient to 1e-5."""
    loss = abs(found[0]["loss"] / expected[0]["loss"] - 1)
    pairs = zip(*(jax.tree.leaves(made[1]) for made in (expected, found)), strict=True)
    worst = max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs if a.any())
    print(f"measured, {name}: loss {loss:.1e}, gradients {worst:.1e} of each one's largest")
    assert loss < 1e-5 and worst < 1e-5


def _moments(opt_state):
    is_moments = lambda x: hasattr(x, "mu")  # noqa: E731
    return next(each.mu for each in jax.tree.leaves(opt_state, is_leaf=is_moments) if is_moments(each))
