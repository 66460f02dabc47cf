"""The autoencoder that compresses nothing, for experiments with small pictures. NumPy only."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True)
class Pixel:
    """A `mmjax.encoders.interface.VideoAutoencoder` whose latents are the pixels, scaled from 0..255 to -1..1."""

    fingerprint = "pixel/1"

    def encode(self, video: UInt8[np.ndarray, "*b F H W 3"]) -> Float[np.ndarray, "*b F H W 3"]:
        """Float32 values -1..1."""
        return np.asarray(video, np.float32) / np.float32(127.5) - 1

    def decode(self, latents: Float[np.ndarray, "*b F H W 3"]) -> UInt8[np.ndarray, "*b F H W 3"]:
        """uint8, rounded; values outside -1..1 are clipped."""
        return np.clip(np.round((np.asarray(latents, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)

    def decoder_program(self, shape: tuple[int, ...]) -> None:
        """None: nothing is compiled."""

    def free(self) -> None:
        """There are no weights to let go of."""
