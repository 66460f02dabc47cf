"""Puts a record together from pixels, ground truth and encoders. NumPy only."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.config import Experiment
from mmjax.data.encoders import FaceEncoder, FaceFeatures, TextEncoder, make_face_encoder, make_text_encoder
from mmjax.data.schema import BFLOAT16, Record, describe
from mmjax.nn.autoencoder import Autoencoder, make_autoencoder


@dataclasses.dataclass(frozen=True)
class Encoders:
    """The frozen encoders of an experiment."""

    text: TextEncoder
    face: FaceEncoder
    autoencoder: Autoencoder

    @classmethod
    def of(cls, config: Experiment) -> "Encoders":
        return cls(make_text_encoder(config), make_face_encoder(config), make_autoencoder(config.autoencoder))


@dataclasses.dataclass(frozen=True)
class Footage:
    """A clip of F frames with what is known of the face in it; one frame is a picture."""

    pixels: UInt8[np.ndarray, "F h w 3"]
    mask: Float[np.ndarray, "F h w"]  # face region, 0..1
    boxes: Float[np.ndarray, "F 4"]
    landmarks: Float[np.ndarray, "F 5 2"]


def description(config: Experiment, frames: int) -> dict:
    """`schema.describe` with the fingerprints of the experiment's encoders."""
    encoders = Encoders.of(config)
    return describe(config, frames, {"text": encoders.text.fingerprint, "face": encoders.face.fingerprint})


def make_record(
    encoders: Encoders, footage: Footage, faces: FaceFeatures, *, caption: str, person: str, source: str
) -> Record:
    """One record of `schema.record_fields`.

    Args:
      faces: features of the R reference pictures.
      caption: with class word and trigger.

    Raises:
      PromptError: a caption that does not say whom the references show, or is too long.
    """
    references = len(faces.picture)
    text, class_mask = encoders.text.encode([caption], references)
    latents = encoders.autoencoder.encode(footage.pixels[None])[0]
    return {
        "latents": latents.astype(BFLOAT16),
        "text": text[0].astype(BFLOAT16),
        "class_mask": class_mask[0],
        "id_embedding": faces.id_embedding.astype(np.float32),
        "clip_last": faces.clip_last.astype(BFLOAT16),
        "clip_penultimate": faces.clip_penultimate.astype(BFLOAT16),
        "face_mask": mask_on_latents(footage.mask, latents.shape[:3]),
        "boxes": footage.boxes.astype(np.float32),
        "landmarks": footage.landmarks.astype(np.float32),
        "reference": faces.picture,
        "person": person,
        "caption": caption,
        "source": source,
    }


def mask_on_latents(mask: Float[np.ndarray, "F h w"], shape: tuple[int, int, int]) -> Float[np.ndarray, "T H W"]:
    """Averages a pixel mask over the pixels of each latent pixel.

    A causal video autoencoder encodes the first frame alone and the rest in equal groups, so T latent frames cover
    1 + (T - 1) n pixel frames (CogVideoX: n = 4); without temporal compression n = 1.
    """
    frames, height, width = shape
    tiles = mask.reshape(len(mask), height, mask.shape[1] // height, width, mask.shape[2] // width)
    small = tiles.mean((2, 4), dtype=np.float32)
    if frames == 1:
        return small[:1]
    groups = small[1:].reshape(frames - 1, -1, height, width).mean(1, dtype=np.float32)
    return np.concatenate([small[:1], groups])
