"""What the training of a VAE minimises (METHOD 9): how far a reconstruction is from its video, and the posterior's KL.

Each term gives a number for every sample, a mean over what it looks at, so that photos and clips weigh the same. Videos
are float32, -1..1, [B, F, H, W, 3].
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LEVELS = 3  # bands of the pyramid: details of 1 to 2, 2 to 4 and 4 to 8 pixels
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
_AXES = (1, 2, 3, 4)


def l1(found: Float[Array, "b F H W 3"], video: Float[Array, "b F H W 3"]) -> Float[Array, " b"]:
    """Mean absolute difference."""
    return jnp.abs(found - video).mean(_AXES)


def psnr(found: Float[Array, "b F H W 3"], video: Float[Array, "b F H W 3"]) -> Float[Array, " b"]:
    """Peak signal-to-noise ratio in dB, of values -1..1."""
    return 10 * jnp.log10(4 / jnp.maximum(jnp.square(found - video).mean(_AXES), 1e-10))


def kl(mean: Float[Array, "b t h w z"], logvar: Float[Array, "b t h w z"]) -> Float[Array, " b"]:
    """Divergence of the posterior from the unit normal distribution, in nats a number of the latents."""
    return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar).mean(_AXES)


def pyramid(found: Float[Array, "b F H W 3"], video: Float[Array, "b F H W 3"]) -> Float[Array, " b"]:
    """Sum over the bands of a Laplacian pyramid of the mean absolute difference: edges weigh more than in `l1`.

    Bands are those of Burt and Adelson (1983): what a binomial blur takes away, then the blur at half the size. Height
    and width are multiples of 2^2.
    """
    rest, total = (found - video).reshape(-1, *found.shape[2:]), 0.0
    for level in range(_LEVELS):
        blurred = _blur(rest)
        total += jnp.abs(rest - blurred).reshape(len(found), -1).mean(1)
        rest = blurred[:, ::2, ::2] if level < _LEVELS - 1 else rest
    return total


def _blur(x: Float[Array, "n H W 3"]) -> Float[Array, "n H W 3"]:
    """Binomial, of five taps a side; the border's pixels repeat."""
    taps = jnp.asarray(_BINOMIAL, x.dtype) / sum(_BINOMIAL)
    for axis in (1, 2):
        width = [(0, 0)] * 4
        width[axis] = (2, 2)
        padded, size = jnp.pad(x, width, mode="edge"), x.shape[axis]
        x = sum(tap * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, tap in enumerate(taps))
    return x
