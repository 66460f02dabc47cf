"""Face encoders of photographs: what all share (the check, ArcFace, two ways in), and those without CLIP (METHOD 2).

    encoder = make_face_encoder(config)  # of mmjax.encoders.build
    for reference in encoder.check(["a.jpg", "b.jpg"]):  # seconds; says what is wrong before anything slow starts
        print(*reference.warnings, sep="\\n")
    features = encoder.encode(["a.jpg", "b.jpg"])
    encoder.free()  # before denoising, which needs the memory

`encode` starts from pictures and finds the face; `embed` and `encode_crops` take the crops from whoever found it
already, in batches. The same face gives the same features either way. Training data and sampling take the crops from
`mmjax.faces.detection`.
"""

import abc
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import config as c
from mmjax.encoders.arcface import ArcFace, load_arcface
from mmjax.encoders.batching import run_in_batches
from mmjax.encoders.fingerprints import fingerprint, values_of
from mmjax.encoders.interface import FaceFeatures, VideoAutoencoder
from mmjax.encoders.latent_patches import LatentPatches
from mmjax.encoders.placeholders import ArcFacePatches
from mmjax.errors import ConfigError
from mmjax.faces.detection import FaceDetector, crop_portrait, load_detector
from mmjax.faces.packs import find_pack
from mmjax.faces.reference_check import CheckedReference, FaceTools, check_references
from mmjax.media import Picture

_AT_ONCE = 16  # portraits that the autoencoder sees together


class RecogniserEncoder(abc.ABC):
    """A `mmjax.encoders.interface.PhotographEncoder` whose q_id is a recogniser's.

    fingerprint: changes with any of the networks, the crops and the settings, and with nothing else.
    portrait_side: pixels of the square portraits that `encode_crops` takes.
    """

    fingerprint: str

    def __init__(self, detector: FaceDetector, arcface: ArcFace, portrait_side: int, strict: bool):
        self.portrait_side, self._arcface, self._strict = portrait_side, arcface, strict
        self._tools = FaceTools(detector, self.embed)
        self._checked: tuple[str, list[CheckedReference]] = ("", [])

    def check(self, pictures: Sequence[Picture]) -> list[CheckedReference]:
        """The reference check (`mmjax.faces.reference_check`). Raises `DataError` for what cannot be used.

        The result of the last call is kept, so that asking again about the same pictures costs nothing.
        """
        key = hashlib.sha256("".join(_content(picture) for picture in pictures).encode()).hexdigest()
        known = self._checked  # read once: another thread may ask about other pictures
        if key != known[0]:
            known = self._checked = key, check_references(pictures, self._tools, self._strict)
        return list(known[1])

    def warnings(self, pictures: Sequence[Picture]) -> list[str]:
        """What `check` says of the pictures, in sentences. Raises `DataError` for what cannot be used."""
        return [warning for each in self.check(pictures) for warning in each.warnings]

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures:
        """Features of one person's reference pictures, float32. Raises `DataError` for what `check` refuses."""
        checked = self.check(pictures)
        portraits = np.stack([crop_portrait(each.picture, each.face, self.portrait_side) for each in checked])
        return self.encode_crops(np.stack([each.embedding for each in checked]), portraits)

    def encode_crops(
        self, embeddings: Float[np.ndarray, "n id_dim"], portraits: UInt8[np.ndarray, "n side side 3"]
    ) -> FaceFeatures:
        """Features of a face or more that were found before, float32; nothing is checked, and they may be anybody's.

        Args:
          embeddings: from `embed`.
          portraits: of the same faces, from `mmjax.faces.detection.crop_portrait` with `portrait_side`.
        """
        last, penultimate = self._patches(portraits)
        return FaceFeatures(np.asarray(embeddings, np.float32), last, penultimate, picture=portraits)

    def embed(self, aligned: UInt8[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n id_dim"]:
        """q_id, raw, of one aligned face or more."""
        return self._arcface.in_batches(aligned)

    @abc.abstractmethod
    def free(self) -> None:
        """Lets go of large weights; the next `encode` reads them again."""

    @abc.abstractmethod
    def _patches(self, portraits: UInt8[np.ndarray, "n side side 3"]) -> Sequence[Float[np.ndarray, "n tokens width"]]:
        """(for the ID perceiver, for the face perceiver)."""


class ArcFaceEncoder(RecogniserEncoder):
    """For small models on real faces, made by `load_arcface_encoder`: a real q_id, and a placeholder for CLIP.

    Patch features are the seeded projections of `mmjax.encoders.placeholders.SeededPatches`.
    """

    def __init__(self, detector: FaceDetector, arcface: ArcFace, patches: ArcFacePatches, *, strict: bool):
        super().__init__(detector, arcface, patches.side, strict)
        self._seeded = patches
        self.fingerprint = fingerprint(patches.fingerprint, **network_values(detector, arcface))

    def free(self) -> None:
        """There is nothing large to let go of: the check needs the recogniser again."""

    def _patches(self, portraits):
        return self._seeded.patch_features(portraits)


class ArcFaceVAEEncoder(RecogniserEncoder):
    """For small models that have an autoencoder of their own: a real q_id, and in CLIP's place the portrait's latents.

    The latents are those of the experiment's autoencoder, laid out by `mmjax.encoders.latent_patches`. Made by
    `load_arcface_vae_encoder`.
    """

    def __init__(
        self,
        detector: FaceDetector,
        arcface: ArcFace,
        autoencoder: VideoAutoencoder,
        patches: LatentPatches,
        *,
        strict: bool,
    ):
        super().__init__(detector, arcface, patches.side, strict)
        self._autoencoder, self._laid_out = autoencoder, patches
        networks = {f"vae_{key}": value for key, value in values_of(autoencoder.fingerprint).items()}
        self.fingerprint = fingerprint(patches.fingerprint, **networks, **network_values(detector, arcface))

    def free(self) -> None:
        """Takes the autoencoder's weights off the device; the recogniser stays, for the check."""
        self._autoencoder.free()

    def _patches(self, portraits):
        latents = run_in_batches(lambda rows: self._autoencoder.encode(rows[:, None])[:, 0], portraits, _AT_ONCE)
        return self._laid_out.of_values(latents)


def load_arcface_encoder(config: c.Experiment, strict: bool = True) -> ArcFaceEncoder:
    """The encoder of `encoders.face = arcface`: the models of `encoders.face_models`, patches as `model.adapter` says.

    Raises:
      CheckpointError: no such model pack. ConversionError: a recogniser that cannot be read.
      ConfigError: a recogniser whose embeddings are not `id_dim` long, or a number of tokens that makes no square.
    """
    patches = ArcFacePatches.of(config)
    return ArcFaceEncoder(*_fitting_models(config), patches, strict=strict)


def load_arcface_vae_encoder(
    config: c.Experiment, autoencoder: VideoAutoencoder, strict: bool = True
) -> ArcFaceVAEEncoder:
    """The encoder of `encoders.face = arcface_vae`: models of `encoders.face_models`, latents by `autoencoder`.

    Raises as `load_arcface_encoder`, where a number of tokens has to be that of the portrait's patches.
    """
    patches = LatentPatches.of(config)
    return ArcFaceVAEEncoder(*_fitting_models(config), autoencoder, patches, strict=strict)


def _fitting_models(config: c.Experiment) -> tuple[FaceDetector, ArcFace]:
    """The pack's models, whose embeddings are as long as the experiment says (`ConfigError`)."""
    detector, arcface = load_models(config.encoders.face_models)
    if arcface.width != config.model.adapter.id_dim:
        raise ConfigError(
            f"model.adapter.id_dim = {config.model.adapter.id_dim}: expected {arcface.width}, the length of an "
            f"embedding by the recogniser of {config.encoders.face_models}"
        )
    return detector, arcface


def load_models(face_models: str | os.PathLike) -> tuple[FaceDetector, ArcFace]:
    """Detector and recogniser of a model pack, by name or folder. Raises `CheckpointError`, `ConversionError`."""
    pack = find_pack(face_models)
    return load_detector(pack), load_arcface(pack)


def network_values(detector: FaceDetector, arcface: ArcFace) -> dict[str, str]:
    """What a fingerprint says of a model pack."""
    return {"arcface": arcface.fingerprint, "detector": detector.fingerprint}


def _content(picture: Picture) -> str:
    """What tells pictures apart: the name and bytes of a file, the pixels of a picture in memory."""
    if isinstance(picture, Image.Image):
        return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
    path = Path(picture)
    return hashlib.sha256(str(path).encode() + (path.read_bytes() if path.is_file() else b"")).hexdigest()
