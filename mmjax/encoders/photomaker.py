"""Photographs of a person to q_id and CLIP features: the face encoder of real experiments (METHOD 2).

    encoder = load_face_encoder("weights/photomaker", "antelopev2")
    features = encoder.encode(["a.jpg", "b.jpg"])

The detector finds the face; the aligned crop goes through ArcFace, raw; a square round the face goes through the CLIP
tower that PhotoMaker V2 fine-tuned. What other encoders of photographs share is in `mmjax.encoders.photographs`.
"""

import functools
import os
from pathlib import Path

import jax
import numpy as np

from mmjax import config as c
from mmjax import conversion, sharding
from mmjax.conversion.photomaker import abstract_photomaker
from mmjax.encoders.arcface import ArcFace
from mmjax.encoders.batching import run_in_batches
from mmjax.encoders.fingerprints import PHOTOMAKER, fingerprint, hash_converted
from mmjax.encoders.lazy import LazyWeights
from mmjax.encoders.photographs import RecogniserEncoder, load_models, network_values
from mmjax.errors import ConfigError
from mmjax.faces.detection import FaceDetector
from mmjax.models.clip import CLIPVisionTower, normalize_pictures
from mmjax.models.sizes import PhotoMaker
from mmjax.precision import Policy
from mmjax.trees import Tree

_BATCH = 64  # portraits that CLIP sees at once


class PhotoMakerFaceEncoder(RecogniserEncoder):
    """Recogniser and CLIP tower; made by `load_face_encoder`. CLIP's weights are read when they are needed."""

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
        super().__init__(detector, arcface, record.clip.side, strict)
        self._mesh = mesh
        self._clip = LazyWeights(functools.partial(_read_clip, folder, record, mesh, dtype))
        weights, networks = hash_converted(folder, "photomaker"), network_values(detector, arcface)
        self.fingerprint = fingerprint(PHOTOMAKER, weights=weights, **networks, dtype=dtype)
        network = CLIPVisionTower(record.clip, Policy(dtype))
        self._apply = jax.jit(
            lambda params, pictures: network.apply({"params": params}, normalize_pictures(pictures)),
            out_shardings=sharding.replicated(mesh),
        )

    def free(self) -> None:
        """Lets go of CLIP's weights; the next `encode` reads them again."""
        self._clip.free()

    def _patches(self, portraits):
        """CLIP's two outputs, 64 portraits at a time. Rows are filled up to 1, 2, 4, ..., so that few are compiled."""
        params = self._clip.get()
        with sharding.use_mesh(self._mesh):
            found = run_in_batches(lambda rows: self._apply(params, rows), portraits, _BATCH)
        return tuple(each.astype(np.float32) for each in found)


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
      face_models: name of the pack, or the folder of its `*.onnx` files, a detector and a recogniser among them.
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
    folder, (detector, arcface) = Path(photomaker), load_models(face_models)
    record: PhotoMaker = conversion.read_record(folder, "photomaker")
    if arcface.width != record.id_dim:
        raise ConfigError(
            f"{face_models}: expected a recogniser whose embeddings are {record.id_dim} long, as the ID perceiver of "
            f"{folder} takes, found {arcface.width}; use antelopev2 or buffalo_l"
        )
    mesh = mesh or sharding.make_mesh(c.Mesh(), jax.local_devices()[:1])
    return PhotoMakerFaceEncoder(folder, record, detector, arcface, mesh=mesh, dtype=dtype, strict=strict)


def _read_clip(folder: Path, record: PhotoMaker, mesh: jax.sharding.Mesh, dtype: str) -> Tree:
    shardings = sharding.param_shardings(mesh, abstract_photomaker(record))
    return conversion.load_component(folder, shardings, dtype)[1]["clip"]
