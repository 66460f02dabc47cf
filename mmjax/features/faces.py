"""Photographs of a person to q_id and CLIP features: the face encoder of real experiments (SPEC 2).

    encoder = load_face_encoder("weights/photomaker", "models/antelopev2")
    for reference in encoder.check(["a.jpg", "b.jpg"]):  # seconds; says what is wrong before anything slow starts
        print(*reference.warnings, sep="\\n")
    features = encoder.encode(["a.jpg", "b.jpg"])
    encoder.free()  # before denoising, which needs the memory

The detector finds the face; the aligned crop goes through ArcFace, raw; a square round the face goes through the CLIP
tower that PhotoMaker V2 fine-tuned. Training data and sampling take both crops from `mmjax.identity.faces`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import config as c
from mmjax import conversion, partition
from mmjax.architectures import PhotoMaker
from mmjax.conversion import store
from mmjax.conversion.photomaker import abstract_photomaker
from mmjax.data.encoders import FaceFeatures, Picture
from mmjax.errors import ConfigError
from mmjax.features.arcface import ArcFace, load_arcface
from mmjax.identity.faces import FaceDetector, crop_portrait, load_detector
from mmjax.identity.references import CheckedReference, FaceTools, check_references
from mmjax.nn.clip import CLIPVisionTower, normalize_pictures

_CROPS = 5  # what the check embeds at once: one program serves all of it


class PhotoMakerFaceEncoder:
    """A `mmjax.data.encoders.FaceEncoder`; made by `load_face_encoder`.

    fingerprint: changes with any of the networks, the crops and the dtype, and with nothing else.
    """

    def __init__(
        self,
        folder: Path,
        record: PhotoMaker,
        detector: FaceDetector,
        arcface: ArcFace,
        *,
        mesh: jax.sharding.Mesh,
        dtype: str,
        strict: bool,
    ):
        self._folder, self._record, self._arcface = folder, record, arcface
        self._mesh, self._dtype, self._strict = mesh, dtype, strict
        self._tools = FaceTools(detector, self._embed)
        self._params, self._checked = None, ("", [])
        weights = _source(folder)
        self.fingerprint = f"photomaker/1 weights={weights} {arcface.fingerprint} {detector.fingerprint} dtype={dtype}"
        network = CLIPVisionTower(self._record.clip, jax.numpy.dtype(dtype))
        self._apply = jax.jit(
            lambda params, pictures: network.apply({"params": params}, normalize_pictures(pictures)),
            out_shardings=partition.replicated(mesh),
        )

    def check(self, pictures: Sequence[Picture]) -> list[CheckedReference]:
        """The reference check (`mmjax.identity.references`), without CLIP. Raises `DataError` for what cannot be used.

        The result of the last call is kept, so that asking again about the same pictures costs nothing.
        """
        key = hashlib.sha256("".join(_content(picture) for picture in pictures).encode()).hexdigest()
        if key != self._checked[0]:
            self._checked = key, check_references(pictures, self._tools, self._strict)
        return list(self._checked[1])

    def encode(self, pictures: Sequence[Picture]) -> FaceFeatures:
        """Features of one person's reference pictures, float32. Raises `DataError` for what `check` refuses."""
        checked, side = self.check(pictures), self._record.clip.side
        portraits = np.stack([crop_portrait(each.picture, each.face, side) for each in checked])
        last, penultimate = self._run(portraits)
        return FaceFeatures(np.stack([each.embedding for each in checked]), last, penultimate, picture=portraits)

    def free(self) -> None:
        """Lets go of CLIP's weights; the next `encode` reads them again."""
        self._params = None

    def _embed(self, aligned: UInt8[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n id_dim"]:
        rows = -len(aligned) % _CROPS
        filled = np.concatenate([aligned, np.zeros((rows, *aligned.shape[1:]), aligned.dtype)])
        pieces = [self._arcface(filled[start : start + _CROPS]) for start in range(0, len(filled), _CROPS)]
        return np.concatenate([np.asarray(piece) for piece in pieces])[: len(aligned)]

    def _run(self, portraits):
        """CLIP's two outputs. Rows are filled up to 1, 2, 4, ..., so that few shapes are compiled."""
        if self._params is None:
            shardings = partition.param_shardings(self._mesh, abstract_photomaker(self._record))
            _, params = conversion.load_component(self._folder, shardings, self._dtype)
            self._params = params["clip"]
        filled = np.resize(portraits, (1 << (len(portraits) - 1).bit_length(), *portraits.shape[1:]))
        with partition.use_mesh(self._mesh):
            found = self._apply(self._params, filled)
        return tuple(np.asarray(each, np.float32)[: len(portraits)] for each in found)


def load_face_encoder(
    photomaker: str | os.PathLike,
    face_models: str | os.PathLike,
    dtype: str = "bfloat16",
    mesh: jax.sharding.Mesh | None = None,
    strict: bool = True,
) -> PhotoMakerFaceEncoder:
    """The face encoder of converted PhotoMaker weights and an insightface model pack. CLIP's weights are not read yet.

    Args:
      photomaker: folder that `python -m mmjax.convert photomaker` wrote.
      face_models: folder of the pack's `*.onnx` files, a detector and a recogniser among them.
      dtype: of CLIP's weights and products, "bfloat16" or "float32". ArcFace computes in float32.
      mesh: devices that share CLIP's weights; by default the first device has them all.
      strict: refuse faces that are too small, too blurred or turned too far; otherwise warn.

    Raises:
      CheckpointError: a folder that is missing, incomplete or of something else.
      ConversionError: a recogniser that cannot be read.
      ConfigError: a dtype that is not known, or a recogniser whose embeddings do not fit the ID perceiver.
    """
    if dtype not in ("bfloat16", "float32"):
        raise ConfigError(f"dtype of the face encoder = {dtype!r}: expected bfloat16 or float32")
    folder, detector = Path(photomaker), load_detector(face_models)
    record: PhotoMaker = conversion.read_record(folder, "photomaker")
    arcface = load_arcface(Path(face_models))
    if arcface.width != record.id_dim:
        raise ConfigError(
            f"{face_models}: expected a recogniser whose embeddings are {record.id_dim} long, as the ID perceiver of "
            f"{folder} takes, found {arcface.width}; use antelopev2 or buffalo_l"
        )
    mesh = mesh or partition.make_mesh(c.Mesh(), jax.local_devices()[:1])
    return PhotoMakerFaceEncoder(folder, record, detector, arcface, mesh=mesh, dtype=dtype, strict=strict)


def _source(folder: Path) -> str:
    """Short hash of the weights that a converted folder was made from."""
    hashes = store.read_manifest(folder)["source"]["sha256"]
    return hashlib.sha256(json.dumps(sorted(hashes.values())).encode()).hexdigest()[:16]


def _content(picture: Picture) -> str:
    """What tells pictures apart: the name and bytes of a file, the pixels of a picture in memory."""
    if isinstance(picture, Image.Image):
        return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
    path = Path(picture)
    return hashlib.sha256(str(path).encode() + (path.read_bytes() if path.is_file() else b"")).hexdigest()
