"""Finds and recognises the face in each of many frames: the embedder that judges samples of real people.

The largest face of a frame is aligned as for q_id and embedded by ArcFace. Each frame is looked at by itself: a face
that only somebody finds who saw the frame before counts as none.
"""

import os

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.conversion.store import MANIFEST
from mmjax.encoders.arcface import ArcFace, load_arcface
from mmjax.errors import ConfigError
from mmjax.faces.detection import FaceDetector, align, load_detector
from mmjax.faces.packs import find_pack


class FaceRecogniser:
    """A `mmjax.evaluation.identity.Embedder`; `fingerprint` is the network's, whatever finds the faces."""

    def __init__(self, detector: FaceDetector, arcface: ArcFace):
        self._detector, self._arcface = detector, arcface
        self.fingerprint = arcface.fingerprint

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> list[Float[np.ndarray, " width"] | None]:
        """Raw embeddings of the largest face of each RGB frame, None where the detector finds none."""
        faces = [self._detector(frame) for frame in frames]
        with_face = [number for number, found in enumerate(faces) if found]
        embedded: list[Float[np.ndarray, " width"] | None] = [None] * len(faces)
        if with_face:
            aligned = np.stack([align(frames[number], faces[number][0].landmarks) for number in with_face])
            for number, row in zip(with_face, self._arcface.in_batches(aligned), strict=True):
                embedded[number] = row
        return embedded


def load_recogniser(name: str | os.PathLike, detector_pack: str = "") -> FaceRecogniser:
    """The recogniser of `train.identity_embedder`.

    Args:
      name: a model pack by name or folder, with its own detector; or a recogniser alone, as an .onnx file or a folder
        that `mmjax.convert arcface` wrote.
      detector_pack: whose detector finds the faces where the recogniser comes alone.

    Raises:
      CheckpointError: nothing there, or no detector. ConversionError: a recogniser that cannot be read.
      ConfigError: a recogniser alone, and no pack to take a detector from.
    """
    path = find_pack(name)
    alone = path.is_file() or (path / MANIFEST).is_file()
    if alone and not detector_pack:
        raise ConfigError(
            f"train.identity_embedder = {name}: expected a detector beside a recogniser alone; give a model pack, or "
            "encoders.face_models, whose detector serves too"
        )
    return FaceRecogniser(load_detector(find_pack(detector_pack) if alone else path), load_arcface(path))
