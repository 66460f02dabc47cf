"""Latents as rows of patches, and back (METHOD 1)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax import config as c


def token_grid(model: c.Transformer, latents_shape: Sequence[int]) -> tuple[int, int, int]:
    """(t, h, w) tokens of latents [..., T, H, W, C]. Raises `ValueError` when the patch does not divide them."""
    frames, height, width = latents_shape[-4:-1]
    if frames % model.patch_t or height % model.patch or width % model.patch:
        raise ValueError(
            f"latents of {frames} x {height} x {width}: expected multiples of the patch {model.patch_t} x "
            f"{model.patch} x {model.patch}; pad the frames and choose a size on the grid"
        )
    return frames // model.patch_t, height // model.patch, width // model.patch


def patchify(latents: Float[Array, "b T H W C"], model: c.Transformer) -> Float[Array, "b v p"]:
    """Latents as one row of values for each patch; a row's values run over channel, time, height, width."""
    t, h, w = token_grid(model, latents.shape)
    p, pt = model.patch, model.patch_t
    x = latents.reshape(latents.shape[0], t, pt, h, p, w, p, latents.shape[-1])
    return x.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(latents.shape[0], t * h * w, -1)


def unpatchify(
    rows: Float[Array, "b v p"], grid: tuple[int, int, int], model: c.Transformer
) -> Float[Array, "b T H W C"]:
    """The inverse of `patchify`."""
    (t, h, w), p, pt = grid, model.patch, model.patch_t
    x = rows.reshape(rows.shape[0], t, h, w, -1, pt, p, p).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(rows.shape[0], t * pt, h * p, w * p, -1)


def pad_frames(x: Float[Array, "b T *dims"], model: c.Transformer) -> Float[Array, "b T2 *dims"]:
    """Repeats the first latent frame in front, up to `model.whole_frames(T)` (1.5; others: x itself).

    Sampling denoises as many frames more, and cuts them off in front.
    """
    return jnp.concatenate([*[x[:, :1]] * (model.whole_frames(x.shape[1]) - x.shape[1]), x], axis=1)
