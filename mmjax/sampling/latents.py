"""Latents on disk: what is denoised from, and what is decoded later."""

import os

import numpy as np
from jaxtyping import Float

from mmjax import config as c
from mmjax.errors import DataError

LARGEST = 1e3  # noise is within 6 and latents within some tens; anything near this is no latent


def read_latents(
    path: str | os.PathLike, autoencoder: c.Autoencoder, shape: tuple[int, ...] | None = None
) -> Float[np.ndarray, "T h w C"]:
    """Latents that numpy saved, as float32.

    Args:
      autoencoder: the one that they are of.
      shape: that they must have.

    Raises:
      DataError: no such file, another shape, or values that no latents have; found before anything large is read.
    """
    wanted = "[latent frames, height, width, channels]"
    if os.path.exists(path) and not os.path.isfile(path):  # a device may never end
        raise DataError(f"{path}: expected a file of latents saved with numpy, found a folder, a pipe or a device")
    try:
        latents = np.load(path, mmap_mode="r", allow_pickle=False)  # a damaged header may name more than there is
        dtype, found = latents.dtype, latents.shape
    except Exception as error:  # numpy lets through what its parts raise on damaged files
        raise DataError(f"{path}: expected latents saved with numpy ({' '.join(str(error).split())[:200]})") from error
    if len(found) != 4 or dtype.kind != "f":
        raise DataError(f"{path}: expected floats {wanted}, found {dtype} {list(found)}")
    if shape is not None and found != tuple(shape):
        raise DataError(f"{path}: expected {list(shape)} {wanted} for a video of this size, found {list(found)}")
    if found[-1] != autoencoder.channels or not latents.size:
        raise DataError(
            f"{path}: expected {autoencoder.channels} channels, as the {autoencoder.name} autoencoder has, in "
            f"{wanted}, found {list(found)}"
        )
    check_values(latents, str(path))
    return np.asarray(latents, np.float32)


def check_values(latents: np.ndarray, what: str) -> None:
    """Raises `DataError` for NaN, infinity, absurd numbers, or one number everywhere."""
    low, high = float(np.min(latents)), float(np.max(latents))
    if not (low >= -LARGEST and high <= LARGEST):
        said = "NaN or infinity" if not np.isfinite(low + high) else f"{max(-low, high):.1e}"
        raise DataError(f"{what}: expected latents within {LARGEST:g} of zero, found {said} among them")
    if low == high:
        raise DataError(f"{what}: expected latents, found {low:g} everywhere")
