"""Faces as FaceSim sees them, in ConsisID's and OpenS2V's evaluation: insightface's own way, at one size of 320 pixels.

    faces = load_face_sim("antelopev2", "curricularface.onnx")
    faces.arcface(picture), faces.curricularface(picture)  # an embedding each, None where nobody is found

The largest box is taken. Where there is none, the picture gets a grey border of a quarter of its sides and is looked at
once more. ArcFace then sees the face in the bordered picture; CurricularFace sees it in the picture itself, the points
moved back, aligned at 224 pixels and shrunk to 112. `mmjax.faces.detection` looks more closely, and finds more.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.errors import CheckpointError
from mmjax.faces.detection import Face, FaceDetector, load_detector
from mmjax.faces.packs import PROVIDERS, file_fingerprint, find_pack, open_network, session_options
from mmjax.faces.template import ALIGNED_SIDE

_DETECTED_SIDE = 320  # pixels that the detector sees
_BORDER, _GREY = 0.25, 128  # of height and of width, on each side
_CROP = 224  # pixels at which CurricularFace's face is aligned

Embedding = Float[np.ndarray, " width"]


class FaceSimFaces:
    """Finds and recognises the face of a picture; see `load_face_sim`. `fingerprint` names the files."""

    def __init__(self, detector: FaceDetector, arcface: Any, curricularface: Any, fingerprint: str):
        self._detector, self._arcface, self._curricularface = detector, arcface, curricularface
        self.fingerprint = fingerprint

    def arcface(self, picture: UInt8[np.ndarray, "h w 3"]) -> Embedding | None:
        """Raw embedding by the pack's recogniser of the face of an RGB picture; None where there is none."""
        face, seen, _ = self._find(picture)
        if face is None:
            return None
        return self._arcface.get_feat(_norm_crop(seen, face.landmarks, ALIGNED_SIDE)).flatten()

    def curricularface(self, picture: UInt8[np.ndarray, "h w 3"]) -> Embedding | None:
        """The same by CurricularFace."""
        face, _, border = self._find(picture)
        if face is None:
            return None
        aligned = _norm_crop(picture, face.landmarks - border, _CROP)[..., ::-1]
        pixels = cv2.resize(aligned, (ALIGNED_SIDE, ALIGNED_SIDE)).astype(np.float32)
        rows = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
        return self._curricularface.run(None, {self._curricularface.get_inputs()[0].name: rows})[0].flatten()

    def _find(self, picture: np.ndarray) -> tuple[Face | None, np.ndarray, np.ndarray]:
        """(the largest face, the picture in which it was found, width and height of that one's border)."""
        if face := self._largest(picture):
            return face, picture, np.zeros(2, int)
        height, width = (int(side * _BORDER) for side in picture.shape[:2])
        grey = (_GREY,) * 3
        bordered = cv2.copyMakeBorder(picture, height, height, width, width, cv2.BORDER_CONSTANT, value=grey)
        return self._largest(bordered), bordered, np.array([width, height])

    def _largest(self, picture: np.ndarray) -> Face | None:
        return max(self._detector.at_size(picture, _DETECTED_SIDE), key=lambda face: face.area, default=None)


def load_face_sim(face_models: str | os.PathLike, curricularface: str | os.PathLike = "") -> FaceSimFaces:
    """Opens what FaceSim takes.

    Args:
      face_models: a pack by name or folder, with a detector and one recogniser; published is insightface's default,
        buffalo_l.
      curricularface: CurricularFace IR-101 as an ONNX file that takes RGB faces [1, 3, 112, 112] in -1..1; without it
        `FaceSimFaces.curricularface` cannot be called.

    Raises:
      CheckpointError: nothing there, no recogniser or several, a file of something else.
    """
    pack = find_pack(face_models)
    if not pack.is_dir():
        raise CheckpointError(f"face models {pack}: expected the folder of a pack, with detector and recogniser")
    detector, recogniser = load_detector(pack), _only_recogniser(pack)
    from insightface.model_zoo import get_model  # takes a second to import

    arcface = get_model(str(recogniser), providers=PROVIDERS, sess_options=session_options())
    files, other = [recogniser], None
    if curricularface:
        other, file = _open_recogniser(curricularface), Path(curricularface)
        files.append(file)
    names = " ".join([detector.fingerprint, *map(file_fingerprint, files)])
    return FaceSimFaces(detector, arcface, other, names)


def _norm_crop(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """The aligned face, blue first, with insightface's own rounding.

    `detection.align` is more exact than its float32 and differs by 1 in 0.02 % of the values; that moved FaceSim by up
    to 5e-5 on ten real clips.
    """
    from insightface.utils import face_align

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of scikit-image, which it uses in an older way
        return face_align.norm_crop(np.ascontiguousarray(picture[..., ::-1]), landmark=landmarks, image_size=side)


def _only_recogniser(pack: Path) -> Path:
    files = sorted(pack.glob("*.onnx"))
    found = [file for file in files if _recognises(open_network(file))]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or f"none among {', '.join(file.name for file in files)}"
        raise CheckpointError(f"face models {pack}: expected one recogniser of {ALIGNED_SIDE} pixels, found {names}")
    return found[0]


def _open_recogniser(path: str | os.PathLike) -> Any:
    import onnxruntime

    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError(f"CurricularFace {file}: expected an ONNX file, found none; export IR-101 to one")
    if not _recognises(open_network(file)):
        raise CheckpointError(
            f"CurricularFace {file}: expected a recogniser of RGB faces [n, 3, {ALIGNED_SIDE}, {ALIGNED_SIDE}] with a "
            "row of numbers for each, found another network; export IR-101 of OpenS2V or ConsisID to ONNX"
        )
    return onnxruntime.InferenceSession(str(file), session_options(), providers=PROVIDERS)


def _recognises(session: Any) -> bool:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    sides = inputs[0].shape[1:]
    return len(inputs) == len(outputs) == 1 and sides == [3, ALIGNED_SIDE, ALIGNED_SIDE] and len(outputs[0].shape) == 2
