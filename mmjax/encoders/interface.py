"""What an encoder is: text encoders, face encoders and autoencoders, as records, trainer and samplers use them.

    TextEncoder         T5 (`t5`), `placeholders.WordTable`
    FaceEncoder         PhotoMaker (`photomaker`), ArcFace (`photographs`), all of them `PhotographEncoder`s;
                        `placeholders.DrawnFaceEncoder`, `placeholders.PixelFaceEncoder`
    VideoAutoencoder    the CogVideoX VAE (`vae`), `pixel.Pixel`

Each has a `fingerprint` (`mmjax.encoders.fingerprints`) and `free`, which takes large weights off the device until they
are needed again, and does nothing where there are none. NumPy only.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmjax.config import Experiment
from mmjax.media import Picture
from mmjax.models.sizes import CLIPVision

if TYPE_CHECKING:
    import jax

    from mmjax.faces.reference_check import CheckedReference


@dataclasses.dataclass(frozen=True)
class FaceFeatures:
    """Features of N reference pictures."""

    id_embedding: Float[np.ndarray, "n id_dim"]  # q_id, raw
    clip_last: Float[np.ndarray, "n tokens clip_dim"]  # patch features for the ID perceiver
    clip_penultimate: Float[np.ndarray, "n tokens clip_dim"]  # for the face perceiver
    picture: UInt8[np.ndarray, "n side side 3"]  # as the encoder saw them


class TextEncoder(Protocol):
    """Prompts to embeddings of a fixed number of tokens L, float32."""

    @property
    def fingerprint(self) -> str: ...

    def encode(
        self, prompts: Sequence[str], references: int
    ) -> tuple[Float[np.ndarray, "n L text_dim"], Bool[np.ndarray, "n L"]]:
        """Embeddings of prompts with class word and trigger, and m of eq. 5. Raises `PromptError`."""

    def encode_plain(self, prompts: Sequence[str]) -> Float[np.ndarray, "n L text_dim"]:
        """Embeddings of prompts that name nobody; "" gives the unconditional prompt. Raises `PromptError` if too long.

        A trigger is dropped, so that the same sentence can be had without identity.
        """

    def warnings(self, prompts: Sequence[str]) -> list[str]:
        """What of the prompts cannot be read, in sentences; nothing where all can. Reads no large weights.

        Raises `PromptError` where too little can be read.
        """

    def free(self) -> None: ...


class FaceEncoder(Protocol):
    """Reference pictures of one person to features, float32."""

    @property
    def fingerprint(self) -> str: ...

    def warnings(self, pictures: Sequence[Picture]) -> list[str]:
        """What is to be said of these pictures, in sentences; nothing for good ones. Reads no large weights.

        Raises `DataError` for what cannot serve.
        """

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures:
        """Features of one person's pictures. Raises `DataError` for what cannot serve."""

    def free(self) -> None: ...


class PhotographEncoder(FaceEncoder, Protocol):
    """A face encoder that finds and recognises faces on photographs, alone (`encode`) or in batches of crops."""

    portrait_side: int  # pixels of the square portraits that `encode_crops` takes

    def check(self, pictures: Sequence[Picture]) -> "list[CheckedReference]":
        """The reference check (`mmjax.faces.reference_check`). Raises `DataError` for what cannot be used."""

    def embed(self, aligned: UInt8[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n id_dim"]:
        """q_id, raw, of aligned faces."""

    def encode_crops(
        self, embeddings: Float[np.ndarray, "n id_dim"], portraits: UInt8[np.ndarray, "n side side 3"]
    ) -> FaceFeatures:
        """Features of faces that were found before, of anybody; nothing is checked."""


class VideoAutoencoder(Protocol):
    """Videos to latents, already scaled for the diffusion model, and back; the geometry is `config.Autoencoder`'s."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, video: UInt8[np.ndarray, "*b F H W 3"]) -> Float[np.ndarray, "*b T h w C"]: ...

    def decode(self, latents: Float[np.ndarray, "*b T h w C"]) -> UInt8[np.ndarray, "*b F H W 3"]: ...

    def decoder_program(self, shape: tuple[int, ...]) -> "jax.stages.Compiled | None":
        """The compiled decoder of latents [b, T, h, w, C], to see what it needs; None where nothing is compiled."""

    def free(self) -> None: ...


def reference_side(config: Experiment) -> int:
    """Side in pixels of the reference pictures, which are squares: as the face encoder sees them.

    That is CLIP's for `photomaker`. The placeholder encoders see them as high and wide as the clip's shorter side;
    `arcface` and `arcface_vae`, whose pictures are photographs of any size, no larger than CLIP would.
    """
    shorter, clip = min(config.data.height, config.data.width), CLIPVision().side
    sides = {"photomaker": clip} | dict.fromkeys(("arcface", "arcface_vae"), min(shorter, clip))
    return sides.get(config.encoders.face, shorter)
