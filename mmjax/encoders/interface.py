"""What an encoder is: text encoders, face encoders and autoencoders, as the records and the samplers use them.

Members: T5, PhotoMaker, ArcFace and the CogVideoX VAE beside this file; `placeholders` for small experiments; `pixel`.
NumPy only.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmjax.config import Experiment
from mmjax.media import Picture
from mmjax.models.sizes import CLIPVision


@dataclasses.dataclass(frozen=True)
class FaceFeatures:
    """Features of N reference pictures."""

    id_embedding: Float[np.ndarray, "n id_dim"]  # q_id, raw
    clip_last: Float[np.ndarray, "n tokens clip_dim"]  # patch features for the ID perceiver
    clip_penultimate: Float[np.ndarray, "n tokens clip_dim"]  # for the face perceiver
    picture: UInt8[np.ndarray, "n side side 3"]  # as the encoder saw them


class TextEncoder(Protocol):
    fingerprint: str

    def encode(
        self, prompts: Sequence[str], references: int
    ) -> tuple[Float[np.ndarray, "n L text_dim"], Bool[np.ndarray, "n L"]]: ...

    def encode_plain(self, prompts: Sequence[str]) -> Float[np.ndarray, "n L text_dim"]: ...


class FaceEncoder(Protocol):
    fingerprint: str

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures: ...


class Autoencoder(Protocol):
    """What the records, the model and the samplers need of an autoencoder."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, video: UInt8[np.ndarray, "*b F H W 3"]) -> Float[np.ndarray, "*b T h w C"]: ...

    def decode(self, latents: Float[np.ndarray, "*b T h w C"]) -> UInt8[np.ndarray, "*b F H W 3"]: ...


def reference_side(config: Experiment) -> int:
    """Side in pixels of the reference pictures, which are squares: as the face encoder sees them.

    That is CLIP's for `photomaker`. The stand-ins see them as high and wide as the clip's shorter side; `arcface`,
    whose pictures are photographs of any size, no larger than CLIP would.
    """
    shorter, clip = min(config.data.height, config.data.width), CLIPVision().side
    return {"photomaker": clip, "arcface": min(shorter, clip)}.get(config.encoders.face, shorter)
