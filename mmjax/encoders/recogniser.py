"""Finds and recognises the face in each of many frames: the embedder that judges samples of real people.

A detector and a face embedder (`mmjax.encoders.embedders`), of the largest face of each frame. Each frame is looked at
by itself: a face that only somebody finds who saw the frame before counts as none.
"""

import os

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.encoders.embedders import FaceEmbedder, open_embedder, pack_of
from mmjax.errors import ConfigError
from mmjax.faces.detection import Face, FaceDetector, load_detector
from mmjax.faces.packs import find_pack


class FaceRecogniser:
    """A `mmjax.evaluation.identity.Embedder`; `fingerprint` is the embedder's, whatever finds the faces.

    detector: None where the embedder detects.
    """

    def __init__(self, detector: FaceDetector | None, embedder: FaceEmbedder):
        self._detector, self._embedder = detector, embedder
        self.fingerprint = embedder.fingerprint

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> list[Float[np.ndarray, " width"] | None]:
        """Raw embeddings of the largest face of each RGB frame, None where there is none."""
        found = self._embedder(frames, [self._largest(frame) for frame in frames])
        return [row if np.isfinite(row).all() else None for row in found]

    def _largest(self, frame: UInt8[np.ndarray, "h w 3"]) -> Face | None:
        return next(iter(self._detector(frame)), None) if self._detector else None


def load_recogniser(name: str | os.PathLike, detector_pack: str = "") -> FaceRecogniser:
    """The recogniser of `train.identity_embedder`.

    Args:
      name: what `mmjax.encoders.embedders.open_embedder` takes. A model pack has its own detector, and some embedders
        find faces by themselves; a recogniser alone, such as an .onnx file, does not.
      detector_pack: whose detector finds the faces where the recogniser comes alone.

    Raises:
      CheckpointError: nothing there, or no detector. ConversionError: a recogniser that cannot be read.
      ConfigError: a recogniser alone, and no pack to take a detector from.
    """
    pack, embedder = pack_of(os.fspath(name)), open_embedder(os.fspath(name))
    if embedder.detects:
        return FaceRecogniser(None, embedder)
    if pack is None and not detector_pack:
        raise ConfigError(
            f"train.identity_embedder = {name}: expected a detector beside a recogniser alone; give a model pack, or "
            "encoders.face_models, whose detector serves too"
        )
    return FaceRecogniser(load_detector(pack or find_pack(detector_pack)), embedder)
