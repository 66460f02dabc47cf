"""Both samplers against diffusers' schedulers, guidance, and independence of batch and chunking."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config  # noqa: E402
from mmjax.diffusion import guidance, samplers, schedule  # noqa: E402
from tests.helpers import scheduler_reference  # noqa: E402

SHAPE = (2, 3, 4, 4, 5)
SHIFTS = pytest.mark.parametrize("shift", scheduler_reference.SHIFTS.values(), ids=scheduler_reference.SHIFTS)
SAMPLERS = pytest.mark.parametrize("sampler", ["ddim", "dpm"])


def normals(seed, count, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal((count, *shape), np.float32)


def relative(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@SHIFTS
@SAMPLERS
@pytest.mark.parametrize("steps", [50, 28, 7, 1])
def test_each_step_equals_diffusers(sampler, shift, steps, record_property):
    """Both start every step from the reference's state, so that no step hides behind another."""
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    plan = samplers.make_plan(ours, config.Sampling(sampler=sampler, steps=steps, dynamic_guidance=False))
    theirs = scheduler_reference.scheduler(sampler, shift, steps)
    np.testing.assert_array_equal(plan.timestep, theirs.timesteps.numpy())

    @jax.jit
    def our_step(piece, x, clean, v, noise):
        return samplers.advance(lambda *_: v, piece, samplers.State(x, clean), lambda _: noise)

    outputs, noises = normals(0, steps), normals(1, steps)
    x, clean, worst = torch.tensor(normals(2, 1)[0]), None, 0.0
    for i, piece in enumerate(samplers.split(plan, 1)):
        before = torch.zeros(SHAPE) if clean is None else clean
        found = our_step(piece, x.numpy(), before.numpy(), outputs[i], noises[i])
        v, noise = torch.tensor(outputs[i]), torch.tensor(noises[i])
        x, clean = scheduler_reference.step(theirs, i, v, x, clean, noise)
        worst = max(worst, relative(found.latents, x.numpy()), relative(found.clean, clean.numpy()))
    record_property("difference", worst)
    print(f"{sampler}, shift {shift}, {steps} steps: worst step {worst:.1e}")
    assert worst < 6e-7  # measured 2.8e-7; the acceptance is 1e-5


TOY_WEIGHTS = normals(7, 1, (5,))[0]


def toy(latents, times, conditions, weights, tanh):
    """A fixed nonlinear denoiser that depends on all that it is given and mixes channels; for jax and for torch.

    There is no matrix product in it, whose rounding may depend on its sizes: what is compared below is the sampler.
    """
    swapped = latents[..., np.arange(5)[::-1].copy()]
    return tanh(weights * swapped + conditions[:, None, None, None, :]) + 0.3 * times * latents


def toy_jax(latents, timesteps, conditions):
    times = (timesteps / 1000.0)[:, None, None, None, None]
    return toy(latents, times, conditions, jnp.asarray(TOY_WEIGHTS), jnp.tanh)


def toy_torch(latents, timestep, conditions):
    return toy(latents, timestep / 1000.0, conditions, torch.tensor(TOY_WEIGHTS), torch.tanh)


def dynamic_scale(settings, t):
    """As `CogVideoXPipeline.__call__` writes it."""
    n = settings.steps
    return 1 + settings.guidance * ((1 - math.cos(math.pi * ((n - t.item()) / n) ** 5.0)) / 2)


def reference_loop(settings, shift, start, noises, negative, positive):
    theirs, x, clean = scheduler_reference.scheduler(settings.sampler, shift, settings.steps), torch.tensor(start), None
    for i, t in enumerate(theirs.timesteps):
        low, high = (toy_torch(x, t, torch.tensor(c)) for c in (negative, positive))
        scale = dynamic_scale(settings, t) if settings.dynamic_guidance else settings.guidance
        v = low + scale * (high - low) if settings.guidance > 1 else high
        x, clean = scheduler_reference.step(theirs, i, v, x, clean, torch.tensor(noises[i]))
    return x.numpy()


@pytest.mark.parametrize(
    ("sampler", "shift", "steps", "scale", "dynamic"),
    [
        ("ddim", 3.0, 50, 6.0, False),
        ("ddim", 1.0, 50, 6.0, True),
        ("ddim", 3.0, 30, 1.0, False),
        ("dpm", 1.0, 50, 6.0, True),
        ("dpm", 3.0, 50, 6.0, False),
        ("dpm", 1.0, 28, 4.0, True),
    ],
)
def test_the_loop_equals_diffusers(sampler, shift, steps, scale, dynamic, record_property):
    settings = config.Sampling(sampler=sampler, steps=steps, guidance=scale, dynamic_guidance=dynamic)
    start, noises = normals(3, 1)[0], normals(4, steps)
    negative, positive = normals(5, 2, (2, 5))
    expected = reference_loop(settings, shift, start, noises, negative, positive)
    denoise = guidance.guided(toy_jax, jnp.asarray(negative), jnp.asarray(positive), settings)
    recorded = jnp.asarray(noises)
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    run = jax.jit(lambda x: samplers.sample(denoise, ours, x, settings=settings, step_noise=lambda s: recorded[s]))
    difference = relative(run(start), expected)
    record_property("difference", difference)
    print(f"{sampler}, shift {shift}, {steps} steps, guidance {scale}, dynamic {dynamic}: {difference:.1e}")
    assert difference < 2e-6  # measured 9.8e-7; the acceptance is 1e-4


def test_guidance_scales_equal_the_pipeline_formula():
    for steps in (50, 28, 1000):
        settings = config.Sampling(steps=steps, guidance=6.0)
        timesteps = schedule.trailing_timesteps(1000, steps)
        expected = [dynamic_scale(settings, torch.tensor(t)) for t in timesteps.tolist()]
        found = guidance.guidance_scales(settings, timesteps)
        assert found.tolist() == expected  # the very same floats
        assert found.min() >= 1 and found.max() <= 7 and np.ptp(found) > 3
    constant = guidance.guidance_scales(config.Sampling(dynamic_guidance=False), timesteps)
    assert set(constant.tolist()) == {6.0}


def test_guidance_pairs_conditions_and_one_means_a_single_forward():
    calls = []

    def predict(latents, timesteps, conditions):
        calls.append((latents.shape[0], timesteps.shape[0], conditions["text"].shape[0]))
        return latents * conditions["text"][:, None] + timesteps[:, None]

    negative, positive = ({"text": jnp.full(2, value), "face": None} for value in (1.0, 3.0))
    x, t = jnp.ones((2, 4)), jnp.array([5, 6])
    pair = guidance.guided(predict, negative, positive, config.Sampling(guidance=2.0))
    np.testing.assert_array_equal(pair(x, t, jnp.float32(2.0)), np.array([[10.0] * 4, [11.0] * 4]))  # 1 + 2 * 2 + t
    single = guidance.guided(predict, None, positive, config.Sampling(guidance=1.0))
    np.testing.assert_array_equal(single(x, t, jnp.float32(7.0)), np.array([[8.0] * 4, [9.0] * 4]))
    assert calls == [(4, 4, 4), (2, 2, 2)]


@functools.lru_cache
def keyed_run(settings, numbers, chunk=None, mesh=None):
    """Samples `numbers` of seed 11, whole or in chunks, with conditions of their own; spread over `mesh` if given."""
    ours = schedule.make_schedule(config.Schedule())
    conditions, keys = normals(8, 8, (5,))[list(numbers)], samplers.sample_keys(11, jnp.array(numbers))
    noise = samplers.starting_noise(keys, SHAPE[1:])
    if mesh:
        by_sample, by_height = (NamedSharding(mesh, PartitionSpec("data", *rest)) for rest in ((), (None, "context")))
        noise, conditions, keys = jax.device_put((noise, conditions, keys), (by_height, by_sample, by_sample))

    def functions(conditions, keys):
        return guidance.guided(toy_jax, -conditions, conditions, settings), samplers.keyed_noise(keys, SHAPE[1:])

    @jax.jit
    def whole(noise, conditions, keys):
        denoise, step_noise = functions(conditions, keys)
        return samplers.sample(denoise, ours, noise, settings=settings, step_noise=step_noise)

    @jax.jit
    def advance(piece, state, conditions, keys):
        denoise, step_noise = functions(conditions, keys)
        return samplers.advance(denoise, piece, state, step_noise)

    if chunk is None:
        return np.asarray(whole(noise, conditions, keys))
    state = samplers.start(noise)
    for piece in samplers.split(samplers.make_plan(ours, settings), chunk):
        state = advance(piece, state, conditions, keys)
    return np.asarray(state.latents)


@SAMPLERS
def test_a_sample_does_not_depend_on_its_neighbours(sampler):
    settings = config.Sampling(sampler=sampler, steps=20)
    together = keyed_run(settings, (3, 0))
    for place, number in enumerate((3, 0)):
        np.testing.assert_array_equal(keyed_run(settings, (number,))[0], together[place])
    np.testing.assert_array_equal(keyed_run(settings, (1, 0, 3))[1:], together[::-1])
    assert not np.allclose(together[0], together[1])


@SAMPLERS
def test_a_sample_does_not_depend_on_the_mesh(sampler):
    settings = config.Sampling(sampler=sampler, steps=20)
    mesh = jax.make_mesh((2, 4), ("data", "context"), axis_types=(AxisType.Auto,) * 2)
    np.testing.assert_array_equal(keyed_run(settings, (3, 0), mesh=mesh), keyed_run(settings, (3, 0)))


@SAMPLERS
@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_are_bit_equal_to_the_whole(sampler, chunk):
    settings = config.Sampling(sampler=sampler, steps=20)
    np.testing.assert_array_equal(keyed_run(settings, (3, 0), chunk=chunk), keyed_run(settings, (3, 0)))


def test_no_noise_is_drawn_twice():
    keys = samplers.sample_keys(0, jnp.arange(3))
    draws = [samplers.starting_noise(keys, (4,))] + [samplers.keyed_noise(keys, (4,))(s) for s in range(3)]
    values = np.stack(draws)
    assert len(np.unique(values)) == values.size
    assert not np.array_equal(samplers.starting_noise(samplers.sample_keys(1, jnp.arange(3)), (4,)), draws[0])


def test_ddim_draws_no_noise_and_dpm_ends_on_its_clean_estimate():
    ours = schedule.make_schedule(config.Schedule())

    def refuse(step):
        raise AssertionError("DDIM drew noise")

    zero = lambda latents, timesteps, scale: jnp.zeros_like(latents)  # noqa: E731
    run = functools.partial(samplers.sample, zero, ours, jnp.ones(SHAPE))
    assert np.isfinite(run(settings=config.Sampling(sampler="ddim", steps=4), step_noise=refuse)).all()
    plan = samplers.make_plan(ours, config.Sampling(sampler="dpm", steps=50))
    last = jax.tree.map(lambda column: float(column[-1]), plan)
    assert (last.keep, last.clean, last.clean_before, last.fresh) == (0.0, 1.0, 0.0, 0.0)
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(plan))
