"""Puts a record together from pixels, ground truth and encoders. NumPy only."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmjax.config import Experiment
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder
from mmjax.encoders.expected import expected_fingerprints
from mmjax.encoders.interface import FaceEncoder, FaceFeatures, TextEncoder, VideoAutoencoder
from mmjax.errors import ConfigError
from mmjax.records.schema import BFLOAT16, Record, describe

_EYES = 1.0  # pixels between the eyes, below which landmarks stand for no face


@dataclasses.dataclass(frozen=True)
class EncoderSet:
    """The frozen encoders of an experiment, one of each kind."""

    text: TextEncoder
    face: FaceEncoder
    autoencoder: VideoAutoencoder

    @classmethod
    def placeholders(cls, config: Experiment) -> "EncoderSet":
        """The placeholder encoders that an experiment names, for records that are made where they are needed.

        Raises `ConfigError` for a network, whose records are prepared beforehand, or for sizes that cannot be.
        """
        _check_placeholders(config)
        return cls(make_text_encoder(config), make_face_encoder(config), make_autoencoder(config))

    @property
    def fingerprints(self) -> dict[str, str]:
        """By what they encode, as `schema.describe` wants them."""
        return {name: getattr(self, name).fingerprint for name in ("text", "face", "autoencoder")}


@dataclasses.dataclass(frozen=True)
class Footage:
    """A clip of F frames with what is known of the face in it; one frame is a picture."""

    pixels: UInt8[np.ndarray, "F h w 3"]
    mask: Float[np.ndarray, "F h w"]  # face region, 0..1
    boxes: Float[np.ndarray, "F 4"]
    landmarks: Float[np.ndarray, "F 5 2"]

    @property
    def face_visible(self) -> Bool[np.ndarray, " F"]:
        """Frames whose landmarks are valid: all five inside of the frame, and the eyes apart."""
        height, width = self.pixels.shape[1:3]
        inside = np.all((self.landmarks >= 0) & (self.landmarks <= [width - 1, height - 1]), axis=(1, 2))
        return inside & (np.linalg.norm(self.landmarks[:, 1] - self.landmarks[:, 0], axis=-1) >= _EYES)


def description(config: Experiment, frames: int) -> dict:
    """What the experiment expects of its records: `schema.describe` with `expected_fingerprints`."""
    return describe(config, frames, expected_fingerprints(config))


def make_record(
    encoders: EncoderSet, footage: Footage, faces: FaceFeatures, *, caption: str, person: str, source: str
) -> Record:
    """One record of `schema.record_fields`.

    Args:
      faces: features of the R reference pictures.
      caption: with class word and trigger.

    Raises:
      PromptError: a caption that does not say whom the references show, or is too long.
    """
    text, class_mask = encoders.text.encode([caption], len(faces.picture))
    latents = encoders.autoencoder.encode(footage.pixels[None])[0]
    return record_of(footage, latents, text[0], class_mask[0], faces, caption=caption, person=person, source=source)


def record_of(
    footage: Footage,
    latents: Float[np.ndarray, "T H W C"],
    text: Float[np.ndarray, "L text_dim"],
    class_mask: Bool[np.ndarray, " L"],
    faces: FaceFeatures,
    *,
    caption: str,
    person: str,
    source: str,
) -> Record:
    """One record of `schema.record_fields` from what the encoders said of clip, caption and R reference pictures."""
    return {
        "latents": latents.astype(BFLOAT16),
        "text": text.astype(BFLOAT16),
        "class_mask": class_mask,
        "id_embedding": faces.id_embedding.astype(np.float32),
        "clip_last": faces.clip_last.astype(BFLOAT16),
        "clip_penultimate": faces.clip_penultimate.astype(BFLOAT16),
        "face_mask": mask_on_latents(footage.mask, latents.shape[:3]),
        "boxes": footage.boxes.astype(np.float32),
        "landmarks": footage.landmarks.astype(np.float32),
        "face_visible": footage.face_visible,
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


def _check_placeholders(config: Experiment) -> None:
    named = {
        "encoders.text": (config.encoders.text, "word_table"),
        "encoders.face": (config.encoders.face, "drawn or pixels"),
        "autoencoder.name": (config.autoencoder.name, "pixel"),
    }
    for setting, (name, placeholders) in named.items():
        if name not in placeholders.split(" or "):
            raise ConfigError(
                f"{setting} = {name}: expected {placeholders} for records that are drawn here. Records with {name} "
                "features are prepared beforehand (mmjax.prepare), not drawn: give their folder in data.sources"
            )
