"""One frame of the decoder, for a loss on it: the frames of `decode`, and which latents its gradient reaches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.conversion.vae import abstract_vae
from mmjax.model_settings import VAE
from mmjax.models.cogvideox import vae
from mmjax.precision import Policy
from mmjax.sharding import unbox

SMALL = VAE(latent_channels=4, channels=(8, 8, 16), resnets=1, norm_groups=4)  # 4 x 4 pixels, 4 frames
LATENTS = 7  # 25 frames: a first group of 3 latents, 9 frames, and two of 2 latents, 8 frames each


@pytest.fixture(scope="module")
def decoder():
    rng = np.random.default_rng(0)
    shapes = unbox(abstract_vae(SMALL))["decoder"]
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def latents():
    return jnp.asarray(np.random.default_rng(1).standard_normal((LATENTS, 4, 4, 4)), jnp.float32)


def frame_of(decoder, latents, frame):
    decoded = lambda later: vae.decode_frame(SMALL, decoder, latents, frame, later, Policy())  # noqa: E731
    first = vae.first_frames(SMALL, len(latents))
    if len(latents) < LATENTS:
        return decoded(False)
    return jax.lax.cond(frame < first, lambda: decoded(False), lambda: decoded(True))


@pytest.mark.slow
def test_each_frame_is_that_of_the_whole_video(decoder, latents):
    one, whole = jax.jit(frame_of), jax.jit(functools.partial(vae.decode, SMALL, policy=Policy()))
    video = whole(decoder, latents[None])[0]
    found = jnp.stack([one(decoder, latents, frame) for frame in range(len(video))])
    error = float(jnp.abs(found - video).max() / jnp.abs(video).max())
    print(f"measured: {error:.1e}")
    assert len(video) == 25 and error < 1e-5  # measured 3e-7


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_videos_of_a_single_group(decoder, latents, count):
    video = vae.decode(SMALL, decoder, latents[None, :count], Policy())[0]
    for frame in (0, len(video) - 1):
        np.testing.assert_allclose(frame_of(decoder, latents[:count], frame), video[frame], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_gradient_is_that_of_decode_and_stays_in_the_frames_own_group(decoder, latents):
    weight = jnp.asarray(np.random.default_rng(2).standard_normal((16, 16, 3)), jnp.float32)

    def whole_frame(x, frame):
        return vae.decode(SMALL, decoder, x[None], Policy())[0, frame]

    gradients = [
        jax.jit(jax.grad(lambda x, frame, decoded=decoded: jnp.sum(weight * decoded(x, frame))))
        for decoded in (lambda x, frame: frame_of(decoder, x, frame), whole_frame)
    ]
    for frame, (begin, end) in {0: (0, 3), 8: (0, 3), 9: (3, 5), 24: (5, 7)}.items():
        found, whole = (np.asarray(gradient(latents, frame)) for gradient in gradients)
        assert not np.delete(found, np.s_[begin:end], axis=0).any()
        scale = np.abs(whole).max()
        np.testing.assert_allclose(found[begin:end], whole[begin:end], atol=1e-4 * scale)
        assert np.abs(found[begin:end]).max() > 0.1 * scale
