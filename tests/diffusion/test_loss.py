"""The denoising loss by hand-computed cases, the draws by their frequencies, buckets by their sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config
from mmjax.diffusion import loss, schedule
from mmjax.diffusion.conditioning_dropout import draw_kept_conditions

COUNT = 200_000  # a frequency's standard error is then at most 0.0012


def test_face_region_by_hand():
    """Latents of 1 x 2 x 2 with two channels; squared errors of channel means 1, 4, 9, 16."""
    v = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2, 1) * jnp.ones((4, 1, 2, 2, 2))
    target = jnp.zeros_like(v)
    half, corner = jnp.array([[0.0, 1.0], [0.0, 0.5]]), jnp.array([[0.0, 0.0], [0.0, 0.25]])
    masks = jnp.stack([half, corner, jnp.zeros((2, 2)), half])[:, None]
    face_region = jnp.array([True, True, True, False])
    found = jax.jit(loss.denoising_loss)(v, target, masks, face_region)
    # (4 + 16 / 2) / 1.5; 16 however small the mask; empty counts whole: 30 / 4; not chosen: 30 / 4
    np.testing.assert_allclose(found, [8.0, 16.0, 7.5, 7.5], rtol=1e-6)
    assert found.dtype == jnp.float32


def test_no_gradient_outside_the_face():
    v, mask = jnp.ones((1, 1, 2, 2, 1)), jnp.array([[[[1.0, 0.0], [0.0, 0.0]]]])
    gradient = jax.grad(lambda v: loss.denoising_loss(v, 0 * v, mask, jnp.array([True])).sum())(v)
    np.testing.assert_array_equal(gradient[0, 0, :, :, 0], [[2.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_v_error_is_the_noise_error_and_the_x0_error_up_to_the_schedule(shift):
    """The identity of the module's docstring, where the two other forms are defined."""
    ours = schedule.make_schedule(config.Schedule(snr_shift=shift))
    x0, noise, wrong = np.random.default_rng(0).standard_normal((3, 4, 1, 8, 8, 3), np.float32)
    t = jnp.array([200, 400, 600, 800])
    abar = ours.alphas_cumprod[np.asarray(t)]
    x_t, v = schedule.add_noise(ours, x0, noise, t), schedule.velocity(ours, x0, noise, t)
    guess = v + 0.1 * wrong
    per_sample = lambda error: np.square(np.asarray(error, np.float64)).mean((1, 2, 3, 4))  # noqa: E731
    whole = loss.denoising_loss(guess, v, jnp.zeros((4, 1, 8, 8)), jnp.zeros(4, bool))
    signal, sigma = (table[t].reshape(4, 1, 1, 1, 1) for table in (ours.signal, ours.sigma))
    by_noise = per_sample(sigma * x_t + signal * guess - noise) / abar
    by_x0 = per_sample(schedule.predict_x0(ours, guess, x_t, t) - x0) / (1 - abar)
    np.testing.assert_allclose(by_noise, whole, rtol=1e-4)
    np.testing.assert_allclose(by_x0, whole, rtol=1e-4)


def test_dropout_frequencies_and_exclusion(record_property):
    settings = config.Loss(drop_text=0.1, drop_identity=0.15, drop_both=0.05)
    text, identity = (np.asarray(a) for a in draw_kept_conditions(jax.random.key(0), COUNT, settings))
    shares = (~text & identity).mean(), (text & ~identity).mean(), (~text & ~identity).mean()
    record_property("shares", [float(share) for share in shares])
    print("dropped text alone, identity alone, both:", *(f"{share:.4f}" for share in shares))
    np.testing.assert_allclose(shares, [0.1, 0.15, 0.05], atol=0.004)


@pytest.mark.parametrize(
    ("name", "text", "identity"), [("drop_text", 0, 1), ("drop_identity", 1, 0), ("drop_both", 0, 0)]
)
def test_a_certain_drop_always_happens(name, text, identity):
    settings = config.Loss(**{"drop_text": 0.0, "drop_identity": 0.0, "drop_both": 0.0, name: 1.0})
    kept = draw_kept_conditions(jax.random.key(1), 1000, settings)
    assert [float(np.mean(k)) for k in kept] == [text, identity]


def test_no_drop_keeps_all():
    settings = config.Loss(drop_text=0.0, drop_identity=0.0, drop_both=0.0)
    assert all(np.all(kept) for kept in draw_kept_conditions(jax.random.key(2), 1000, settings))


def test_draws_are_uniform_and_independent():
    draws = loss.draw(jax.random.key(3), (COUNT, 1, 1, 1, 1), 1000, config.Loss())
    timesteps, face = np.asarray(draws.timesteps), np.asarray(draws.face_region)
    assert draws.timesteps.dtype == jnp.int32 and timesteps.min() == 0 and timesteps.max() == 999
    np.testing.assert_allclose(np.bincount(timesteps // 100) / COUNT, 0.1, atol=0.004)
    np.testing.assert_allclose([face.mean(), np.mean(draws.noise), np.std(draws.noise)], [0.5, 0.0, 1.0], atol=0.01)
    columns = np.stack([timesteps, np.ravel(draws.noise), face, draws.keep_text, draws.frame])
    correlation = np.corrcoef(columns) - np.eye(5)
    assert np.abs(correlation).max() < 0.01


def test_fixed_draws_cover_the_schedule_and_do_not_depend_on_the_batch():
    key, shape = jax.random.key(4), (4, 1, 2, 2, 3)
    first, second = (loss.fixed_draws(key, jnp.arange(4) + start, 8, shape, 1000) for start in (0, 4))
    timesteps = np.concatenate([first.timesteps, second.timesteps])
    np.testing.assert_array_equal(timesteps, [62, 187, 312, 437, 562, 687, 812, 937])
    alone = loss.fixed_draws(key, jnp.array([5]), 8, (1, *shape[1:]), 1000)
    np.testing.assert_array_equal(alone.noise[0], second.noise[1])
    assert not np.array_equal(first.noise[0], first.noise[1])
    assert np.all(first.keep_text) and np.all(first.keep_identity) and not np.any(first.face_region)


def test_bucket_sums_and_counts():
    losses, timesteps = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0]), jnp.array([0, 99, 100, 999, 950])
    sums, counts = jax.jit(loss.bucket_losses, static_argnums=(2, 3))(losses, timesteps, 1000, 10)
    np.testing.assert_array_equal(sums, [3, 4, 0, 0, 0, 0, 0, 0, 0, 24])
    np.testing.assert_array_equal(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 2])
    np.testing.assert_array_equal(loss.bucket_losses(losses, timesteps, 1000, 3)[1], [3, 0, 2])
