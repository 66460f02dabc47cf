"""The training step: what accumulates, what stays frozen, what is dropped, what chance decides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax import sharding, trees
from mmjax.diffusion.conditioning_dropout import drop_conditions
from mmjax.models import build
from mmjax.models.cogvideox import patches
from mmjax.training import optimizer, state, step
from mmjax.training.batches import put_batch
from mmjax.training.tasks import diffusion
from mmjax.training.tasks.diffusion import make_objective
from mmjax.training.tasks.registry import make_task
from tests.helpers import tiny_run

# Relative differences of sums in another order, float32; measured 3e-7 (loss), 2e-6 (gradients, of the largest one).
LOSS, GRADIENT = 2e-6, 1e-5


def built(config, devices=1):
    """(jitted step, state, loss, mesh); the gates are not zero, or blocks would have no part in the loss."""
    tx, mesh, made = tiny_run.fresh_state(config, devices)

    def wavy(leaf):
        wave = 0.1 * np.sin(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape)
        return jax.device_put(np.asarray(leaf) + wave, leaf.sharding)

    null_text = np.zeros((config.model.transformer.text_length, config.model.transformer.text_dim), np.float32)
    objective = make_objective(config, build.make_model(config), null_text)
    train_step = step.make_train_step(config, objective, tx, state.random_keys(config.seed).train)
    jitted = step.jit_train_step(train_step, state.abstract_state(make_task(config), tx, mesh))
    return jitted, made.replace(trained=jax.tree.map(wavy, made.trained)), objective, mesh


def one_step(config, devices=1, steps=1):
    jitted, made, _, mesh = built(config, devices)
    batch = put_batch(tiny_run.read_batch(config), mesh, 8)
    with sharding.use_mesh(mesh):
        for _ in range(steps):
            made, metrics = jitted(made, {}, batch)
    return jax.device_get((made, metrics))


@pytest.fixture(scope="module")
def whole_batch():
    return one_step(tiny_run.experiment())


def assert_same_step(found, expected):
    (made, metrics), (expected_state, expected_metrics) = found, expected
    loss = abs(metrics["loss"] / expected_metrics["loss"] - 1)
    moments, wanted = (jax.tree.leaves(s.opt_state, is_leaf=lambda x: hasattr(x, "mu")) for s in (made, expected_state))
    pairs = [
        (a, b)
        for one, other in zip(moments, wanted, strict=True)
        if hasattr(one, "mu")
        for a, b in zip(jax.tree.leaves(one.mu), jax.tree.leaves(other.mu), strict=True)
    ]
    largest = max(np.abs(b).max() for _, b in pairs)
    gradient = max(np.abs(a - b).max() for a, b in pairs) / largest
    print(f"measured: loss {loss:.1e}, gradients {gradient:.1e}")
    assert loss <= LOSS and gradient <= GRADIENT
    np.testing.assert_array_equal(metrics["counts"]["loss"], expected_metrics["counts"]["loss"])


@pytest.mark.slow
def test_micro_batches_give_the_step_of_the_whole_batch(whole_batch):
    assert_same_step(one_step(tiny_run.experiment(train={"accumulate": 4})), whole_batch)


def gradients(accumulate):
    """What the step hands to its optimizer, before clipping and moments hide its size."""
    config = tiny_run.experiment(train={"accumulate": accumulate})
    _, made, objective, mesh = built(config)
    keep = optax.GradientTransformation(lambda params: None, lambda grads, state, params: (grads, grads))
    train_step = step.make_train_step(config, objective, keep, state.random_keys(config.seed).train)
    made = made.replace(opt_state=jax.tree.map(jnp.zeros_like, made.trained))
    after, metrics = jax.jit(train_step)(made, {}, put_batch(tiny_run.read_batch(config), mesh, 8))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(after.opt_state)], float(metrics["grad_norm"])


@pytest.mark.slow
def test_micro_batches_give_the_gradients_of_the_whole_batch(whole_batch):
    (whole, norm), (summed, norm_of_summed) = gradients(1), gradients(4)
    assert whole_batch[1]["grad_norm"] == pytest.approx(np.sqrt(sum(np.square(leaf).sum() for leaf in whole)), rel=1e-5)
    difference = np.sqrt(sum(np.square(a - b).sum() for a, b in zip(whole, summed, strict=True))) / norm
    print(f"measured: gradients {difference:.1e}, norm {abs(norm_of_summed / norm - 1):.1e}")
    assert norm > 1e-3 and difference < 1e-6
    assert norm_of_summed == pytest.approx(norm, rel=1e-6)


@pytest.mark.slow
def test_eight_devices_give_the_step_of_one(whole_batch):
    config = tiny_run.experiment(mesh={"data": 2, "fsdp": 4}, train={"accumulate": 1})
    assert_same_step(one_step(config, 8), whole_batch)


@pytest.mark.slow
def test_only_trained_leaves_move():
    """The adapter's run: three steps leave every frozen leaf as it was, bit for bit, and move the others.

    Four layers, since what the last adapted block makes of face tokens is seen by nobody.
    """
    transformer = dataclasses.replace(tiny_run.TRANSFORMER, layers=4)
    config = tiny_run.experiment(adapter=True, model={"transformer": transformer})
    jitted, before, _, mesh = built(config)
    kept = jax.device_get(before)
    with sharding.use_mesh(mesh):
        after = before
        for number in range(3):
            after, metrics = jitted(after, {}, put_batch(tiny_run.read_batch(config, seed=number), mesh, 8))
    tiny_run.assert_bit_equal(after.frozen, kept.frozen)
    assert int(after.step) == 3 and np.isfinite(metrics["loss"])
    old = trees.flatten(kept.trained)
    still = [path for path, leaf in trees.flatten(after.trained).items() if np.array_equal(leaf, old[path])]
    assert not still, "these did not move"
    between = jax.tree.map(lambda ema, end: np.any(ema != end), after.ema, after.trained)
    assert all(jax.tree.leaves(between)), "the average follows behind"


@pytest.mark.slow
def test_chance_depends_on_the_step_alone(whole_batch):
    """The same step again gives the same bits; the next step draws other timesteps."""
    again = one_step(tiny_run.experiment())
    tiny_run.assert_bit_equal(again, whole_batch)
    _, second = one_step(tiny_run.experiment(), steps=2)
    assert not np.array_equal(second["counts"]["loss"], whole_batch[1]["counts"]["loss"])


@pytest.mark.slow
def test_metrics_say_what_they_should(whole_batch):
    made, metrics = whole_batch
    assert metrics["counts"]["loss"].sum() == 8
    assert metrics["loss"] == pytest.approx(metrics["sums"]["loss"].sum() / 8, rel=1e-5)
    assert metrics["learning_rate"] == pytest.approx(1e-2 / 3, rel=1e-5)
    assert metrics["grad_norm"] > 0 and metrics["update_norm"] > 0
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(made.trained)))
    assert metrics["param_norm"] == pytest.approx(norm, rel=0.1)  # of before the step


def test_average_and_change_are_of_the_new_weights(whole_batch):
    """At step 0 the average keeps a tenth: min(0.999, 1 / 10)."""
    made, metrics = whole_batch
    before = jax.device_get(built(tiny_run.experiment())[1])
    for path, average in trees.flatten(made.ema).items():
        old, new = (trees.flatten(tree)[path] for tree in (before.ema, made.trained))
        np.testing.assert_allclose(average, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-7, err_msg=path)
    moved = sum(
        np.square(a - b).sum() for a, b in zip(*map(jax.tree.leaves, (made.trained, before.trained)), strict=True)
    )
    assert metrics["update_norm"] == pytest.approx(np.sqrt(moved), rel=1e-3)


def test_latents_and_masks_fill_whole_temporal_patches():
    config = tiny_run.experiment(model={"transformer": tiny_run.transformer(patch_t=2)})
    batch = {"latents": np.ones((2, 3, 4, 4, 3)), "face_mask": np.ones((2, 3, 4, 4)), "text": np.ones((2, 5, 8))}
    found = diffusion._whole_patches(config, batch)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {"latents": (2, 4, 4, 4, 3), "face_mask": (2, 4, 4, 4), "text": (2, 5, 8)}


def test_dropped_conditions_are_replaced():
    config = tiny_run.experiment()
    batch, null_text = tiny_run.batch(config, 4), np.full((20, 8), 7.0, np.float32)
    keep_text, keep_identity = jnp.array([True, False, True, False]), jnp.array([True, True, False, False])
    found = drop_conditions(batch, keep_text, keep_identity, null_text)
    assert found["text"].dtype == batch["text"].dtype
    for sample, kept in enumerate([True, False, True, False]):
        expected = batch["text"][sample] if kept else np.full_like(batch["text"][sample], 7)
        np.testing.assert_array_equal(found["text"][sample], expected)
        assert bool(found["class_mask"][sample].any()) == kept  # the empty prompt has no class word
    np.testing.assert_array_equal(found["keep_identity"], keep_identity)


def test_every_device_keeps_its_own_samples_of_a_micro_batch():
    pieces = step._split_batch(jnp.arange(8), 2)
    np.testing.assert_array_equal(pieces, [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_validation_is_the_same_each_time_and_covers_the_schedule():
    config = tiny_run.experiment()
    _, made, objective, mesh = built(config)
    key = state.random_keys(0).validation
    validate = jax.jit(step.make_validation_step(objective, key, 16))
    batches = [put_batch(tiny_run.read_batch(config, seed=seed), mesh, 8) for seed in (0, 1)]
    found = [
        [validate(made.trained, made.frozen, {}, batch, np.arange(8) + 8 * i) for i, batch in enumerate(batches)]
        for _ in range(2)
    ]
    tiny_run.assert_bit_equal(found[0], found[1])
    counts = sum(metrics["counts"]["loss"] for metrics in found[0])
    assert counts.sum() == 16 and counts.min() >= 1 and counts.max() <= 2


def test_the_average_forgets_the_start():
    """Early on it decays as (1 + step) / (10 + step), later at the rate that is asked for."""
    old, new = {"a": jnp.zeros(())}, {"a": jnp.ones(())}
    assert step._average(old, new, jnp.int32(0), 0.999)["a"] == pytest.approx(0.9)
    assert step._average(old, new, jnp.int32(100_000), 0.999)["a"] == pytest.approx(0.001, rel=1e-3)
    assert step._average(None, new, jnp.int32(0), 0.0) is None


def test_whole_temporal_patches_repeat_the_first_frame_in_front():
    """1.5: three latent frames become four; sampling cuts the one in front off again."""
    frames = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1, 1)
    model = dataclasses.replace(tiny_run.TRANSFORMER, patch_t=2)
    assert patches.pad_frames(frames, model).ravel().tolist() == [0, 0, 1, 2]
    assert patches.pad_frames(frames[:, :2], model).ravel().tolist() == [0, 1]
    assert patches.pad_frames(frames, tiny_run.TRANSFORMER).ravel().tolist() == [0, 1, 2]


@pytest.mark.slow
def test_a_picture_trains_a_model_with_temporal_patches():
    """One frame, patch_t = 2: the loss is finite, and every trained leaf moves or has a reason not to."""
    config = tiny_run.experiment()
    transformer = dataclasses.replace(config.model.transformer, patch_t=2, position="rope_slice")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, transformer=transformer))
    tx, mesh = optimizer.make_optimizer(config.optim, 2), tiny_run.mesh_of(config)
    before = state.create_state(make_task(config), tx, mesh)
    objective = make_objective(config, build.make_model(config), np.zeros((20, 8), np.float32))
    train_step = jax.jit(step.make_train_step(config, objective, tx, jax.random.key(0)))
    after, metrics = train_step(before, {}, tiny_run.read_batch(config))
    assert np.isfinite(metrics["loss"])
    moved = trees.flatten(jax.tree.map(lambda a, b: bool(np.any(a != b)), before.trained, after.trained))
    assert moved["transformer/proj_out/kernel"]
