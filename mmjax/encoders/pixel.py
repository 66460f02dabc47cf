"""The interface to an autoencoder, and its simplest honest member.

An autoencoder has `encode(video) -> latents` and `decode(latents) -> video`; its geometry stands in
`config.Autoencoder`. Video is uint8 [B, F, H, W, 3]; latents are float [B, T, h, w, C], already scaled for the
diffusion model, so that nobody else multiplies by a scaling factor.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from mmjax import config as c
from mmjax.encoders.interface import Autoencoder
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Pixel:
    """No compression: latents are the pixels, scaled from 0..255 to -1..1. For experiments with small pictures."""

    fingerprint = "pixel/1"

    def encode(self, video: UInt8[np.ndarray, "*b F H W 3"]) -> Float[np.ndarray, "*b F H W 3"]:
        """Float32 values -1..1."""
        return np.asarray(video, np.float32) / np.float32(127.5) - 1

    def decode(self, latents: Float[np.ndarray, "*b F H W 3"]) -> UInt8[np.ndarray, "*b F H W 3"]:
        """uint8, rounded; values outside -1..1 are clipped."""
        return np.clip(np.round((np.asarray(latents, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def make_autoencoder(autoencoder: c.Autoencoder) -> Autoencoder:
    """The autoencoder that a configuration names.

    Raises `ConfigError` for `cogvideox`: models and training on prepared latents only need its geometry, which
    `config.Autoencoder` knows; its networks are not in this version.
    """
    if autoencoder.name != "pixel":
        raise ConfigError(
            f"autoencoder.name = {autoencoder.name}: expected pixel where pixels are encoded or decoded; this version "
            "has no networks for it yet, only its latents' shape"
        )
    return Pixel()
