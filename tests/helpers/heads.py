"""Heads of 68 points in space, turned by known angles and looked at by a camera; and faces seen, for metrics."""

import functools
import importlib.util
import pickle
from pathlib import Path

import numpy as np

from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.observation import DecodedVideo, FacesSeen, Observation, Subject

SIZE = (480, 720)
_MIRRORED = np.r_[16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40, 54:47:-1, 59:54:-1]
_MIRRORED = np.r_[_MIRRORED, 64:59:-1, 67:64:-1]


@functools.cache
def mean_head() -> np.ndarray:
    """insightface's mean shape of dlib's 68 points, symmetric, in eye distances; x right, y down, z to the viewer."""
    folder = Path(importlib.util.find_spec("insightface").origin).parent
    shape = pickle.loads((folder / "data" / "objects" / "meanshape_68.pkl").read_bytes())
    shape = (shape + shape[_MIRRORED] * [-1, 1, 1]) / 2
    shape = shape - shape.mean(0)
    return shape / np.linalg.norm(shape[36:42].mean(0) - shape[42:48].mean(0))


def another_head(rng) -> np.ndarray:
    """Somebody else's: breadth, height and depth differ by 6 %, every point by 5 % of the eye distance."""
    apart = rng.normal(size=(68, 3)) * 0.05
    apart = (apart + apart[_MIRRORED] * [-1, 1, 1]) / 2**0.5
    return mean_head() * (1 + rng.normal(size=3) * 0.06) + apart


def seen(head, yaw=0.0, pitch=0.0, roll=0.0, size=SIZE, distance=14.0) -> np.ndarray:
    """Where a camera sees the points, pixels; yaw is positive to the picture's right, pitch up, roll clockwise."""
    yaw, pitch, roll = np.radians([yaw, pitch, roll])
    nodded = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    turned = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilted = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    x, y, z = (head @ (tilted @ turned @ nodded).T).T
    away = distance - z
    return np.stack([size[1] / 2 + max(size) * x / away, size[0] / 2 + max(size) * y / away], axis=-1)


def five_of(points) -> np.ndarray:
    """A detector's landmarks from the 68: middles of the eyes, tip of the nose, corners of the mouth."""
    eyes = points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)


def faces_of(points, dense=True, missing=()) -> FacesSeen:
    """Faces seen with these 68 points each, [n, 68, 2]; none in the frames that are `missing`."""
    points = np.array(points, float)
    points[list(missing)] = np.nan
    counts = np.ones(len(points), int)
    counts[list(missing)] = 0
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    landmarks = five_of(points)
    return FacesSeen(counts, boxes, landmarks, counts * 0.9, points if dense else points[:, :0], {})


def case_of(
    faces: FacesSeen | None, fps=8.0, size=SIZE, subject: Subject | None = None, video: DecodedVideo | None = None
):
    """A video in which these faces were seen, all of its frames."""
    numbers = np.arange(len(video.frames) if faces is None else len(faces.counts))
    return VideoToScore(Observation(size, numbers / fps, numbers, len(numbers), faces), subject, video=video)


def video_of(frames, fps=8.0) -> DecodedVideo:
    numbers = np.arange(len(frames))
    return DecodedVideo(np.asarray(frames), numbers / fps, numbers, len(numbers))
