"""The samplers against diffusers' schedulers and the papers, guidance, and independence of batch and chunking."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config, sample  # noqa: E402
from mmjax.conversion import scheduler as conversion  # noqa: E402
from mmjax.diffusion import guidance, samplers, schedule  # noqa: E402
from mmjax.errors import ConfigError, ConversionError  # noqa: E402
from tests.helpers import scheduler_reference  # noqa: E402

SHAPE = (2, 3, 4, 4, 5)
SHIFTS = pytest.mark.parametrize("shift", scheduler_reference.SHIFTS.values(), ids=scheduler_reference.SHIFTS)
EVERY_SAMPLER = pytest.mark.parametrize("sampler", config.SAMPLER_NAMES)


def normals(seed, count, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal((count, *shape), np.float32)


def relative(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


# The registry


def test_the_configuration_and_the_registry_know_the_same_samplers():
    assert tuple(samplers.SAMPLERS) == config.SAMPLER_NAMES


def test_an_unknown_sampler_is_refused_with_the_known_ones_named():
    message = "sampling.sampler = 'euler': expected one of ddim, dpm, dpmpp_2m"
    with pytest.raises(ConfigError, match=message):
        samplers.make_step_table(schedule.make_schedule(config.Schedule()), config.Sampling(sampler="euler"))
    with pytest.raises(ConfigError, match=message):
        config.Experiment(sampling=config.Sampling(sampler="euler")).validated()


def test_the_command_line_offers_every_sampler_and_says_what_it_is(capsys):
    with pytest.raises(SystemExit):
        sample.main(["--help"])
    shown = "".join(capsys.readouterr().out.split())  # the help is wrapped, at hyphens too
    assert f"--sampler{{{','.join(config.SAMPLER_NAMES)}}}" in shown
    for name, rule in samplers.SAMPLERS.items():
        assert f"{name}: {rule.description}".replace(" ", "") in shown


def test_a_sampler_that_diffusers_cannot_follow_is_not_written_for_it():
    names = {name: conversion.write_scheduler(config.Schedule(), config.Sampling(name)) for name in ("ddim", "dpm")}
    assert {name: found["_class_name"] for name, found in names.items()} == {
        name: kind.__name__ for name, kind in scheduler_reference.KINDS.items()
    }
    with pytest.raises(ConversionError, match="sampling.sampler = 'dpmpp_2m': expected ddim or dpm"):
        conversion.write_scheduler(config.Schedule(), config.Sampling("dpmpp_2m"))


@EVERY_SAMPLER
def test_a_rule_adds_the_terms_that_its_weights_have_and_no_others(sampler):
    """A term that is not added is not computed either: what would go into it may be NaN."""
    rule, ours = samplers.SAMPLERS[sampler], schedule.make_schedule(config.Schedule())
    table = samplers.make_step_table(ours, config.Sampling(sampler=sampler, steps=10))
    assert (table.remembers, table.stochastic) == (rule.remembers, rule.stochastic)
    assert (np.any(table.clean_before), np.any(table.fresh)) == (rule.remembers, rule.stochastic)
    piece = samplers.split_table(table, 1)[5]
    for past, noise, spoiled in ((jnp.nan, 0.0, rule.remembers), (0.0, jnp.nan, rule.stochastic)):
        state = samplers.SamplerState(jnp.ones(SHAPE), clean=jnp.full(SHAPE, past))
        drawn = lambda step, noise=noise: jnp.full(SHAPE, noise)  # noqa: E731
        found = samplers.advance(lambda latents, *_: latents, piece, state, drawn).latents
        assert np.isnan(found).all() == np.isnan(found).any() == spoiled


# Parity


@SHIFTS
@EVERY_SAMPLER
@pytest.mark.parametrize("steps", [50, 28, 7, 1])
def test_each_step_equals_diffusers(sampler, shift, steps, record_property):
    """Both start every step from the reference's state, so that no step hides behind another."""
    ours = scheduler_reference.comparable_schedule(sampler, shift)
    table = samplers.make_step_table(ours, config.Sampling(sampler=sampler, steps=steps, dynamic_guidance=False))
    theirs = scheduler_reference.scheduler(sampler, shift, steps)
    np.testing.assert_array_equal(table.timestep, theirs.timesteps.numpy())

    @jax.jit
    def our_step(piece, x, clean, v, noise):
        return samplers.advance(lambda *_: v, piece, samplers.SamplerState(x, clean), lambda _: noise)

    outputs, noises = normals(0, steps), normals(1, steps)
    x, clean, worst = torch.tensor(normals(2, 1)[0]), None, 0.0
    for i, piece in enumerate(samplers.split_table(table, 1)):
        before = torch.zeros(SHAPE) if clean is None else clean
        found = our_step(piece, x.numpy(), before.numpy(), outputs[i], noises[i])
        v, noise = torch.tensor(outputs[i]), torch.tensor(noises[i])
        x, clean = scheduler_reference.step(theirs, i, v, x, clean, noise)
        worst = max(worst, relative(found.latents, x.numpy()), relative(found.clean, clean.numpy()))
    record_property("difference", worst)
    print(f"{sampler}, shift {shift}, {steps} steps: worst step {worst:.1e}")
    assert worst < 6e-7  # measured 2.8e-7, of dpmpp_2m 2.5e-7; the acceptance is 1e-5


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
        ("dpmpp_2m", 1.0, 50, 6.0, True),
        ("dpmpp_2m", 3.0, 28, 6.0, False),
    ],
)
def test_the_loop_equals_diffusers(sampler, shift, steps, scale, dynamic, record_property):
    settings = config.Sampling(sampler=sampler, steps=steps, guidance=scale, dynamic_guidance=dynamic)
    start, noises = normals(3, 1)[0], normals(4, steps)
    negative, positive = normals(5, 2, (2, 5))
    expected = reference_loop(settings, shift, start, noises, negative, positive)
    denoise = guidance.guided(toy_jax, jnp.asarray(negative), jnp.asarray(positive), settings)
    recorded = jnp.asarray(noises)
    ours = scheduler_reference.comparable_schedule(sampler, shift)
    run = jax.jit(
        lambda x: scheduler_reference.sample(denoise, ours, x, settings=settings, step_noise=lambda s: recorded[s])
    )
    difference = relative(run(start), expected)
    record_property("difference", difference)
    print(f"{sampler}, shift {shift}, {steps} steps, guidance {scale}, dynamic {dynamic}: {difference:.1e}")
    assert difference < 2e-6  # measured 9.8e-7, of dpmpp_2m 1.5e-6; the acceptance is 1e-4


def algorithm_2(abar, timesteps, x, velocity):
    """DPM-Solver++(2M) as the paper prints it (arXiv 2211.01095, algorithm 2), in float64, to abar = 1.

    `velocity(x, i)` is the model at step i. The paper starts at a finite lambda; at -inf and +inf its formulas have
    limits: e^-h is (alpha_s / sigma_s) (sigma_t / alpha_t) throughout, and 1 / 2r is 0 after an infinite h.
    """
    alpha, sigma = (np.sqrt(np.append(levels, end)) for levels, end in ((abar[timesteps], 1), (1 - abar[timesteps], 0)))
    lamb = [-math.inf if a == 0 else math.inf if s == 0 else math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    before = None
    for i in range(len(timesteps)):
        x0 = alpha[i] * x - sigma[i] * velocity(x, i)
        d, h = x0, lamb[i + 1] - lamb[i]
        if 0 < i < len(timesteps) - 1 and math.isfinite(lamb[i - 1]):
            r = (lamb[i] - lamb[i - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        decay = alpha[i] / sigma[i] * sigma[i + 1] / alpha[i + 1]  # e^-h
        x, before = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (decay - 1) * d, x0
    return x


@SHIFTS
@pytest.mark.parametrize("steps", [50, 28, 3, 2, 1])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_2m_from_pure_noise_is_algorithm_2_of_the_paper(shift, steps, record_property):
    """Here with the schedule as it is, ending in abar = 0, which diffusers' scheduler cannot have."""
    settings = config.Sampling(sampler="dpmpp_2m", steps=steps, guidance=1.0)
    ours, noise, outputs = schedule.make_schedule(config.Schedule(snr_shift=shift)), normals(3, 1)[0], normals(9, steps)
    timesteps = schedule.trailing_timesteps(1000, steps)
    model = lambda x, output, tanh: tanh(x) + 0.5 * output  # noqa: E731
    velocity = lambda x, i: model(x, outputs[i], np.tanh)  # noqa: E731
    expected = algorithm_2(ours.alphas_cumprod, timesteps, noise.astype(np.float64), velocity)
    recorded, places = jnp.asarray(outputs), jnp.zeros(1000, jnp.int32).at[timesteps].set(np.arange(steps))

    def denoise(x, t, scale):
        return model(x, recorded[places[t[0]]], jnp.tanh)

    found = scheduler_reference.sample(denoise, ours, noise, settings=settings, step_noise=None)
    difference = relative(found, expected)
    record_property("difference", difference)
    print(f"dpmpp_2m, shift {shift}, {steps} steps against float64: {difference:.1e}")
    assert difference < 2e-6  # measured 8.5e-7


def test_what_diffusers_loses_by_not_starting_at_pure_noise(record_property):
    """Only the first two steps differ, by about the signal that 2^-24 leaves, 2^-12 = 2.4e-4."""
    settings = config.Sampling(sampler="dpmpp_2m", steps=50, guidance=1.0)
    exact = schedule.make_schedule(config.Schedule())
    clamped = scheduler_reference.comparable_schedule("dpmpp_2m", 1.0)
    first, second = (samplers.make_step_table(levels, settings) for levels in (exact, clamped))
    for column in ("signal", "keep", "clean", "clean_before"):
        found, theirs = getattr(first, column), getattr(second, column)
        np.testing.assert_array_equal(found[2:], theirs[2:])
    assert first.clean_before[1] == 0 and second.clean_before[1] < 0
    conditions = jnp.asarray(normals(5, 1, (2, 5))[0])
    denoise = guidance.guided(toy_jax, None, conditions, settings)
    latents = [
        scheduler_reference.sample(denoise, levels, normals(3, 1)[0], settings=settings, step_noise=None)
        for levels in (exact, clamped)
    ]
    difference = relative(latents[1], np.asarray(latents[0]))
    record_property("difference", difference)
    print(f"dpmpp_2m from abar = 2^-24: memory of step 2 {second.clean_before[1]:.1e}, samples {difference:.1e}")
    assert 1e-5 < difference < 5e-4  # measured 1.6e-4


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_order_of_convergence(sampler, order, record_property):
    """For data of variance s^2 the velocity and the path of the probability flow are known: x ~ sqrt(variance(t)).

    Errors are taken at t = 39, which 50, 100 and 200 steps all visit: the last step, to abar = 1, is first order.
    """
    s, ours = 0.5, schedule.make_schedule(config.Schedule())
    signal, sigma = jnp.asarray(ours.signal), jnp.asarray(ours.sigma)

    def denoise(x, t, scale):
        variance = (signal[t] * s) ** 2 + sigma[t] ** 2
        factor = signal[t] * sigma[t] * (1 - s**2) / variance
        return factor[:, None] * x

    errors = []
    for steps in (50, 100, 200):
        table = samplers.make_step_table(ours, config.Sampling(sampler=sampler, steps=steps))
        part = samplers.split_table(table, steps * 24 // 25)
        assert part[1].timestep[0] == 39
        found = samplers.advance(denoise, part[0], samplers.start(jnp.ones((1, 1))), None).latents.item()
        abar = ours.alphas_cumprod[39]
        errors.append(abs(found / math.sqrt(abar * s**2 + 1 - abar) - 1))
    orders = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    record_property("orders", orders)
    print(f"{sampler}: errors {', '.join(f'{e:.1e}' for e in errors)}, orders {', '.join(f'{o:.2f}' for o in orders)}")
    np.testing.assert_allclose(orders, order, atol=0.25)


# Guidance


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


# Independence


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
        return scheduler_reference.sample(denoise, ours, noise, settings=settings, step_noise=step_noise)

    @jax.jit
    def advance(piece, state, conditions, keys):
        denoise, step_noise = functions(conditions, keys)
        return samplers.advance(denoise, piece, state, step_noise)

    if chunk is None:
        return np.asarray(whole(noise, conditions, keys))
    state = samplers.start(noise)
    for piece in samplers.split_table(samplers.make_step_table(ours, settings), chunk):
        state = advance(piece, state, conditions, keys)
    return np.asarray(state.latents)


@EVERY_SAMPLER
def test_a_sample_does_not_depend_on_its_neighbours(sampler):
    settings = config.Sampling(sampler=sampler, steps=20)
    together = keyed_run(settings, (3, 0))
    for place, number in enumerate((3, 0)):
        np.testing.assert_array_equal(keyed_run(settings, (number,))[0], together[place])
    np.testing.assert_array_equal(keyed_run(settings, (1, 0, 3))[1:], together[::-1])
    assert not np.allclose(together[0], together[1])


@EVERY_SAMPLER
def test_a_sample_does_not_depend_on_the_mesh(sampler):
    settings = config.Sampling(sampler=sampler, steps=20)
    mesh = jax.make_mesh((2, 4), ("data", "context"), axis_types=(AxisType.Auto,) * 2)
    np.testing.assert_array_equal(keyed_run(settings, (3, 0), mesh=mesh), keyed_run(settings, (3, 0)))


@EVERY_SAMPLER
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


@pytest.mark.parametrize("sampler", [name for name, rule in samplers.SAMPLERS.items() if not rule.stochastic])
def test_deterministic_samplers_draw_no_noise(sampler):
    def refuse(step):
        raise AssertionError(f"{sampler} drew noise")

    ours, settings = schedule.make_schedule(config.Schedule()), config.Sampling(sampler=sampler, steps=4)
    zero = lambda latents, timesteps, scale: jnp.zeros_like(latents)  # noqa: E731
    run = functools.partial(scheduler_reference.sample, zero, ours, jnp.ones(SHAPE))
    assert np.isfinite(run(settings=settings, step_noise=refuse)).all()


@EVERY_SAMPLER
def test_the_last_step_lands_on_the_clean_estimate(sampler):
    ours = schedule.make_schedule(config.Schedule())
    table = samplers.make_step_table(ours, config.Sampling(sampler=sampler, steps=50))
    last = jax.tree.map(lambda column: float(column[-1]), table)
    assert (last.keep, last.clean, last.clean_before, last.fresh) == (0.0, 1.0, 0.0, 0.0)
    assert all(np.isfinite(column).all() for column in jax.tree.leaves(table))
