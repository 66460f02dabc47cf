"""Puts a record together from pixels, ground truth and encoders. NumPy only."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmjax.config import Experiment
from mmjax.encoders import placeholders as stand_ins
from mmjax.encoders.fingerprints import fingerprint
from mmjax.encoders.interface import Autoencoder, FaceEncoder, FaceFeatures, TextEncoder
from mmjax.encoders.pixel import make_autoencoder
from mmjax.records.schema import BFLOAT16, Record, describe


@dataclasses.dataclass(frozen=True)
class Encoders:
    """The frozen encoders of an experiment."""

    text: TextEncoder
    face: FaceEncoder
    autoencoder: Autoencoder

    @classmethod
    def of(cls, config: Experiment) -> "Encoders":
        """The stand-ins that it names. Raises `ConfigError` for an encoder that is none."""
        text, face = stand_ins.make_text_encoder(config), stand_ins.make_face_encoder(config)
        return cls(text, face, make_autoencoder(config.autoencoder))

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


def description(config: Experiment, frames: int) -> dict:
    """What the experiment expects of its records: `schema.describe` with `expected_encoders`."""
    return describe(config, frames, expected_encoders(config))


def expected_encoders(config: Experiment) -> dict[str, str]:
    """Fingerprints of the experiment's encoders, by what they encode: "text", "face" and "autoencoder".

    They are whole for the stand-ins. Of the networks they say what is known without their weights, which need not be
    here to train on prepared records (`mmjax.encoders.agreement` reads those that are). Raises `ConfigError` for
    sizes that a stand-in cannot have.
    """
    return {"text": _expected_text(config), "face": _expected_face(config), "autoencoder": _expected_latents(config)}


def _expected_text(config: Experiment) -> str:
    if config.encoders.text == "t5":
        length, id_tokens = config.model.transformer.text_length, config.model.adapter.id_tokens
        return fingerprint("t5/1", length=length, id_tokens=id_tokens)
    return stand_ins.make_text_encoder(config).fingerprint


def _expected_face(config: Experiment) -> str:
    if config.encoders.face == "photomaker":
        return fingerprint("photomaker/1")
    if config.encoders.face == "arcface":
        return stand_ins.ArcFacePatches(*stand_ins.patch_sizes(config)).fingerprint
    return stand_ins.make_face_encoder(config).fingerprint


def _expected_latents(config: Experiment) -> str:
    if config.autoencoder.name == "cogvideox":
        return fingerprint("cogvideox_vae/1")
    return make_autoencoder(config.autoencoder).fingerprint


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
