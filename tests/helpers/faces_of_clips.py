"""The main face of frames as an evaluation sees it: box, landmarks, embedding, and dlib's 68 points with dlib there."""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from mmjax.evaluation.observation import FacesSeen
from mmjax.faces.detection import Face, align
from tests.helpers import face_pictures as fp


def seen(frames) -> FacesSeen:
    faces, embeddings, points = zip(*(looked_at(frame.tobytes(), frame.shape) for frame in frames), strict=True)
    boxes, landmarks = np.stack([face.box for face in faces]), np.stack([face.landmarks for face in faces])
    scores = np.array([face.score for face in faces])
    embedded = {"mbf": np.stack(embeddings)}
    return FacesSeen(np.ones(len(faces), int), boxes, landmarks, scores, np.stack(points), embedded)


@functools.lru_cache(maxsize=100)
def looked_at(pixels, shape):
    """Face, embedding and points of a frame, whatever came before it; one that comes again is not looked at again."""
    frame = np.frombuffer(pixels, np.uint8).reshape(shape)
    large = Face(np.array([0, 0, *shape[1::-1]]), np.zeros((5, 2)), 1.0)  # all of these faces are
    face = (fp.tools().detect(frame, like=large) or fp.tools().detect(frame))[0]
    return face, fp.embed(align(frame, face.landmarks)[None])[0], points_of(frame, face)


@functools.cache
def predictor():
    """dlib's, or None where it is not installed."""
    models = importlib.util.find_spec("face_recognition_models")
    if models is None or importlib.util.find_spec("dlib") is None:
        return None
    import dlib

    file = Path(models.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"
    shape = dlib.shape_predictor(str(file))
    return lambda frame, box: shape(frame, dlib.rectangle(*box))


def points_of(frame, face) -> np.ndarray:
    if predictor() is None:
        return np.zeros((0, 2))
    shape = predictor()(frame, [round(float(edge)) for edge in face.box])
    return np.array([(point.x, point.y) for point in shape.parts()], float)
