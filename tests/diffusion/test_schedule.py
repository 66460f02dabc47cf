"""The schedule against diffusers, and the algebra of v-prediction."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config  # noqa: E402
from mmjax.diffusion import schedule  # noqa: E402
from mmjax.errors import ConfigError  # noqa: E402
from tests.helpers import scheduler_reference  # noqa: E402

SHIFTS = pytest.mark.parametrize("shift", scheduler_reference.SHIFTS.values(), ids=scheduler_reference.SHIFTS)
SHAPE = (8, 3, 4, 4, 5)


def normal(seed, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def relative(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def predict_noise(ours, v, x_t, t):
    """The noise that a velocity stands for, the other half of the rotation that `schedule.predict_x0` inverts."""
    signal, sigma = (jnp.asarray(table)[t].reshape(-1, 1, 1, 1, 1) for table in (ours.signal, ours.sigma))
    return sigma * x_t + signal * v


@SHIFTS
@pytest.mark.parametrize("sampler", scheduler_reference.KINDS)
def test_alphas_cumprod_equal_diffusers(shift, sampler, record_property):
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    theirs = scheduler_reference.scheduler(sampler, shift).alphas_cumprod.numpy()
    difference = float(np.abs(ours.alphas_cumprod - theirs).max())
    record_property("difference", difference)
    print(f"alphas_cumprod, shift {shift}: max abs difference {difference:.1e}")
    assert ours.alphas_cumprod.dtype == np.float64 and ours.steps == 1000
    assert difference < 1e-15  # measured 2.8e-16
    np.testing.assert_array_equal(ours.alphas_cumprod.astype(np.float32), theirs.astype(np.float32))


def test_the_schedule_of_the_2m_reference_is_ours_where_there_is_no_shift(record_property):
    """diffusers' multistep scheduler makes the same abar in float32, but for its last entry, which it keeps above 0."""
    ours = scheduler_reference.comparable_schedule("dpmpp_2m", 1.0).alphas_cumprod
    theirs = scheduler_reference.multistep_scheduler().alphas_cumprod.numpy()
    difference = float(np.abs(ours - theirs).max())
    record_property("difference", difference)
    print(f"alphas_cumprod of DPMSolverMultistepScheduler: max abs difference {difference:.1e}")
    assert theirs[-1] == ours[-1] == scheduler_reference.LEAST_ABAR
    assert difference < 1e-6  # measured 3.9e-7, the rounding of their cumulative product


def test_the_shift_changes_the_schedule_and_the_end_is_pure_noise():
    plain, shifted = (schedule.make_schedule(config.Schedule(snr_shift=s)) for s in (1.0, 3.0))
    assert plain.alphas_cumprod[-1] == shifted.alphas_cumprod[-1] == 0.0
    snr, shifted_snr = (s.alphas_cumprod[0] / (1 - s.alphas_cumprod[0]) for s in (plain, shifted))
    np.testing.assert_allclose(snr / shifted_snr, 3.0, rtol=1e-9)
    assert np.all(np.diff(plain.alphas_cumprod) < 0) and np.all(np.diff(shifted.alphas_cumprod) < 0)


@SHIFTS
def test_add_noise_equals_diffusers(shift, record_property):
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    x0, noise = normal(0), normal(1)
    t = np.array([0, 1, 19, 250, 500, 900, 998, 999], np.int32)
    theirs = scheduler_reference.scheduler("ddim", shift).add_noise(
        torch.tensor(x0), torch.tensor(noise), torch.tensor(t.astype(np.int64))
    )
    found = schedule.add_noise(ours, jnp.asarray(x0), jnp.asarray(noise), jnp.asarray(t))
    difference = relative(found, theirs.numpy())
    record_property("difference", difference)
    print(f"add_noise, shift {shift}: {difference:.1e}")
    assert found.dtype == jnp.float32
    assert difference < 7e-7  # measured 3.3e-7; diffusers takes 1 - abar in float32


@SHIFTS
def test_velocity_and_its_inverses_agree_at_every_level(shift):
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    x0, noise = jnp.asarray(normal(2)), jnp.asarray(normal(3))
    for t in (0, 37, 999):
        t = jnp.full(8, t, jnp.int32)
        x_t, v = schedule.add_noise(ours, x0, noise, t), schedule.velocity(ours, x0, noise, t)
        assert relative(schedule.predict_x0(ours, v, x_t, t), x0) < 1e-6
        assert relative(predict_noise(ours, v, x_t, t), noise) < 1e-6
    np.testing.assert_array_equal(x_t, noise)  # zero SNR: nothing of x0 is left
    np.testing.assert_array_equal(v, -x0)


def test_bfloat16_latents_give_float32():
    ours = schedule.make_schedule(config.Schedule())
    x0, noise, t = jnp.asarray(normal(4), jnp.bfloat16), jnp.asarray(normal(5)), jnp.zeros(8, jnp.int32)
    assert schedule.add_noise(ours, x0, noise, t).dtype == jnp.float32
    assert schedule.velocity(ours, x0, noise, t).dtype == jnp.float32


def test_timesteps_equal_diffusers_for_every_step_count():
    theirs = scheduler_reference.scheduler("ddim", 1.0)
    cut = []
    for steps in range(1, 1001):
        theirs.set_timesteps(steps)
        expected, found = theirs.timesteps.numpy(), schedule.trailing_timesteps(1000, steps)
        if len(expected) != steps:  # diffusers appends timestep -1 by a rounding error of arange
            assert len(expected) == steps + 1 and expected[-1] == -1
            cut.append(steps)
        assert len(found) == steps and found[0] == 999 and found[-1] >= 0
        np.testing.assert_array_equal(found, expected[:steps])
    assert len(cut) == 62 and 50 not in cut


@pytest.mark.parametrize("steps", [0, 1001])
def test_an_impossible_step_count_is_refused(steps):
    with pytest.raises(ConfigError, match=rf"sampling.steps = {steps}: expected 1 to schedule.steps = 1000"):
        schedule.trailing_timesteps(1000, steps)


def test_tables_are_read_only_and_the_schedule_hashable():
    ours = schedule.make_schedule(config.Schedule())
    with pytest.raises(ValueError, match="read-only"):
        ours.signal[0] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        ours.signal = None
    assert hash(ours) != hash(schedule.make_schedule(config.Schedule()))
