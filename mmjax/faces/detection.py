"""Where the faces are in a picture, and the two crops that the encoders take. One place for training and sampling.

    detect = load_detector("models/antelopev2")
    faces = detect(picture)  # largest first
    aligned = align(picture, faces[0].landmarks)  # for ArcFace
    portrait = crop_portrait(picture, faces[0], 224)  # for CLIP

Detection is insightface's (SCRFD or RetinaFace, from the ONNX file of a model pack on disk; nothing is downloaded). A
detector finds faces of middle size best: one that fills the picture escapes it, and so does a speck in a large picture.
Each picture is therefore seen twice, as it is and with a border of half its longer side, and a large one in which that
finds nobody once more at up to 1920 pixels. Measured with scrfd_500m: as it is alone, no face is found on 40 of 40
tight crops of 150 pixels and on 7 of 15 portraits that fill the frame; with the border, none is missed
(`tests/faces/test_identity_faces.py`).

[ours] The portrait is a square of twice the longer side of the face's box round its centre, so that hair, neck and some
background show. Where it sticks out it is moved into the picture, where it is larger than the picture it shrinks to the
picture's shorter side, but never below the face: what is then left of a strip is black.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax.errors import CheckpointError
from mmjax.faces.packs import ADVICE, PROVIDERS, file_fingerprint, open_network, session_options
from mmjax.faces.template import ALIGNED_SIDE, TEMPLATE

MIN_SCORE = 0.5  # of a detection
PORTRAIT_SCALE = 2.0  # side of the portrait by the longer side of the face's box
_SIDE, _BORDERED_SIDE, _LARGEST_SIDE = 640, 320, 1920  # pixels that the detector sees
_BORDERED_SHARE = 0.15  # of the longer side, from which on a face scores better with the border
_DETECTOR_OUTPUTS = (9, 15)  # scores, boxes and landmarks at three or five scales
_OVERLAP = 0.5  # of the smaller box, above which two detections are one face


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture; coordinates are pixels, x to the right and y down."""

    box: Float[np.ndarray, "4"]  # left, top, right, bottom; may stick out of the picture
    landmarks: Float[np.ndarray, "5 2"]  # left eye, right eye (as seen), nose tip, left and right corner of the mouth
    score: float  # of the detector, 0 to 1

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box."""
        left, top, right, bottom = self.box
        return float(right - left), float(bottom - top)

    @property
    def side(self) -> float:
        """Longer side of the box."""
        return max(self.size)

    @property
    def area(self) -> float:
        return math.prod(self.size)


class FaceDetector:
    """Finds faces; see `load_detector`. `fingerprint` names the file."""

    def __init__(self, network: Any, fingerprint: str):
        self._network, self.fingerprint = network, fingerprint

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"], like: Face | None = None) -> list[Face]:
        """Faces of an RGB picture, the largest first; none for a picture without any.

        like: a face of the frame before, to follow it through a clip. The picture is then seen once, in the way that
          shows faces of its size best: others may be missed.
        """
        picture = np.ascontiguousarray(picture[..., ::-1])  # insightface takes blue first
        shorter, longer = sorted(picture.shape[:2])
        if longer > _SIDE * shorter:
            return []  # a line, which would shrink to nothing
        found = []
        if like is None or like.side < _BORDERED_SHARE * longer:
            found += self._detect(picture, _SIDE)
        if like is None or like.side >= _BORDERED_SHARE * longer:
            border = longer // 2
            bordered = cv2.copyMakeBorder(picture, *[border] * 4, cv2.BORDER_CONSTANT)
            found += self._detect(bordered, _BORDERED_SIDE, border)
        if like is None and not found and longer > _SIDE:
            found = self._detect(picture, min(longer, _LARGEST_SIDE))
        return sorted(_distinct(found), key=lambda face: -face.area)

    def at_size(self, picture: UInt8[np.ndarray, "h w 3"], side: int) -> list[Face]:
        """Faces of an RGB picture seen once, shrunk or grown to `side` pixels, as insightface's `det_size` has it."""
        return self._detect(np.ascontiguousarray(picture[..., ::-1]), side)

    def _detect(self, picture: np.ndarray, side: int, border: int = 0) -> list[Face]:
        side = math.ceil(side / 32) * 32  # the network halves the picture five times
        rows, landmarks = self._network.detect(picture, input_size=(side, side))
        return [
            Face(row[:4] - border, points - border, float(row[4])) for row, points in zip(rows, landmarks, strict=True)
        ]


def load_detector(path: str | os.PathLike) -> FaceDetector:
    """Opens the detector of a model pack.

    Args:
      path: a folder whose `*.onnx` files hold one detector with landmarks (insightface's antelopev2, buffalo_l or
        buffalo_s, among others), or that file.

    Raises:
      CheckpointError: no such folder, a folder one level too high, no detector or several, a damaged file.
    """
    file = detector_file(path)
    from insightface.model_zoo import get_model  # takes a second to import

    network = get_model(str(file), providers=PROVIDERS, sess_options=session_options(), static_shape_sessions=False)
    network.prepare(ctx_id=0, det_thresh=MIN_SCORE)
    return FaceDetector(network, file_fingerprint(file))


def detector_file(path: str | os.PathLike) -> Path:
    """The detector's file of what `load_detector` takes, without loading it. Raises as that does."""
    path = Path(path)
    file = _only_detector(path) if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"face models {path}: expected a folder with *.onnx files, found nothing; {ADVICE}")
    if file.suffix.lower() != ".onnx":
        raise CheckpointError(
            f"face models {path}: expected a folder with *.onnx files, found another kind of file; {ADVICE}"
        )
    if (outputs := _count_outputs(file)) not in _DETECTOR_OUTPUTS:
        raise CheckpointError(
            f"face models {file}: expected a face detector with landmarks (9 or 15 outputs, SCRFD's name ends in kps), "
            f"found a network with {outputs}; give the folder of its pack if the detector is there, or {ADVICE}"
        )
    return file


def align(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"], side: int = ALIGNED_SIDE
) -> UInt8[np.ndarray, "side side 3"]:
    """The face as ArcFace networks take it: eyes, nose and mouth at `TEMPLATE`, bilinear, black outside the picture.

    The same pixels, bit for bit, as `insightface.utils.face_align.norm_crop`.
    """
    return cv2.warpAffine(picture, alignment(landmarks, side), (side, side))


def alignment(landmarks: Float[np.ndarray, "5 2"], side: int = ALIGNED_SIDE) -> Float[np.ndarray, "2 3"]:
    """The turn, scale and shift that bring landmarks nearest to `TEMPLATE` in least squares (Umeyama, 1991).

    Maps (x, y, 1) of the picture to (x, y) of the aligned crop; NaN for landmarks all in one point, or not finite.
    Faces are never mirrored. Fitted in float32, in the order of scikit-image's `SimilarityTransform`, which is
    insightface's: with another rounding the crop lies up to 3e-5 pixels away, up to 10 of its 37,632 values round to a
    neighbour, and cosines of w600k_mbf change by up to 2e-4 (`tests/encoders/test_embedders.py`).
    """
    target = TEMPLATE * (side / ALIGNED_SIDE)
    source = np.asarray(landmarks, np.float32)
    centre, target_centre = source.mean(0), target.mean(0)
    if not np.isfinite(centre).all():
        return np.full((2, 3), np.nan)
    found, wanted = source - centre, target - target_centre
    spread = wanted.T @ found / len(source)
    left, sizes, right = np.linalg.svd(spread)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])  # a turn, where a mirror is nearer
    turn = left @ np.diag(signs) @ right
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = 1.0 / found.var(axis=0).sum() * (sizes @ signs)
    return np.column_stack([turn * scale, target_centre - scale * (turn @ centre)])


def crop_portrait(picture: UInt8[np.ndarray, "h w 3"], face: Face, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The square round a face that CLIP takes (see above), resized to `side` pixels (bicubic, without aliasing)."""
    height, width = picture.shape[:2]
    length = min(PORTRAIT_SCALE * face.side, max(face.side, min(height, width)))
    left, top = (_place(face.box[axis] + face.box[axis + 2], length, size) for axis, size in ((0, width), (1, height)))
    box = tuple(round(edge) for edge in (left, top, left + length, top + length))
    square = Image.fromarray(picture).crop(box)  # black where the box sticks out
    return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))


def _place(twice_centre: float, length: float, size: int) -> float:
    """Where a window of `length` starts: round the centre, moved inside of 0..size; round the middle if too long."""
    if length > size:
        return (size - length) / 2
    return min(max(twice_centre / 2 - length / 2, 0), size - length)


def _distinct(found: list[Face]) -> list[Face]:
    """The best scored of the detections that show the same face."""
    kept: list[Face] = []
    for face in sorted(found, key=lambda face: -face.score):
        if all(_shared(face, other) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _shared(a: Face, b: Face) -> float:
    """Area that two boxes share, by that of the smaller one."""
    width, height = np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2])
    return float(max(width, 0) * max(height, 0)) / max(min(a.area, b.area), 1e-6)


def _only_detector(folder: Path) -> Path:
    files = sorted(folder.glob("*.onnx"))
    if not files:
        nested = sorted({file.parent for depth in ("*", "*/*", "*/*/*") for file in folder.glob(f"{depth}/*.onnx")})
        hint = f"found them in {', '.join(map(str, nested))}: give that folder" if nested else f"found none; {ADVICE}"
        raise CheckpointError(f"face models {folder}: expected *.onnx files, {hint}")
    detectors = [file for file in files if _count_outputs(file) in _DETECTOR_OUTPUTS]
    if len(detectors) != 1:
        found = ", ".join(file.name for file in detectors) or f"none among {', '.join(file.name for file in files)}"
        raise CheckpointError(
            f"face models {folder}: expected one face detector with landmarks, found {found}; {ADVICE}"
        )
    return detectors[0]


def _count_outputs(file: Path) -> int:
    return len(open_network(file).get_outputs())
