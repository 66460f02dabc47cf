"""Looks at a video or a picture: finds the main face of each frame, embeds it, takes what needs the pixels.

This runs in worker processes. The main face is the largest; from one frame to the next it stays the one that lies
nearest to where it was, so that a second person does not take its place for a frame. A frame in which nobody is found
is a frame without a face, whatever its neighbours show.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmjax import media, pictures
from mmjax.evaluation.decoding import Choose, decode_video
from mmjax.evaluation.metrics.interface import Metric, Score, VideoToScore, scored
from mmjax.evaluation.observation import DecodedVideo, FacesSeen, Observation, Subject
from mmjax.faces.detection import Face
from mmjax.faces.dlib_faces import POINTS

VERSION = 2  # of what is seen: raise it when decoding, the choice of the main face or what is kept of it changes
STRIP_FRAMES, STRIP_HEIGHT, _QUALITY = 8, 96, 70  # small pictures of a video, for the page


@dataclasses.dataclass(frozen=True, eq=False)
class Tools:
    """What looks at pictures; opened once in each worker.

    detect: a `mmjax.faces.detection.FaceDetector`, None where no face is looked for.
    embedders: by name; see `mmjax.encoders.embedders.FaceEmbedder`.
    points: (frame, face) -> 68 landmarks in dlib's order, None without such a network.
    metrics: those that need `PIXELS`.
    """

    choose: Choose
    detect: Callable[..., list[Face]] | None = None
    embedders: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    points: Callable[[np.ndarray, Face], np.ndarray] | None = None
    metrics: Sequence[Metric] = ()


def look_at_picture(tools: Tools, path: Path) -> tuple[FacesSeen, tuple[int, int], bytes]:
    """The main face of a picture, its size and a small JPEG of it. Raises `DataError` for what is no picture."""
    pixels = np.asarray(pictures.read_picture(path))
    return _faces(tools, pixels[None]), pixels.shape[:2], _small(pixels)


def look_at_video(
    tools: Tools, path: Path, subject: Subject | None, prompt: str = ""
) -> tuple[Observation, dict[str, Score]]:
    """What was seen in a video, and the scores of the metrics that need its pixels.

    Raises `DataError` for what cannot be read as a video.
    """
    video = decode_video(path, tools.choose)
    seen = observe(tools, video)
    case = VideoToScore(seen, subject, prompt=prompt, video=video)
    return seen, {metric.name: scored(metric, case) for metric in tools.metrics}


def observe(tools: Tools, video: DecodedVideo) -> Observation:
    """What is seen in a video that is decoded already."""
    shown = media.spread(STRIP_FRAMES, len(video.frames))
    strip = tuple(_small(video.frames[number]) for number in shown)
    faces = _faces(tools, video.frames)
    return Observation(video.frames.shape[1:3], video.seconds, video.numbers, video.total, faces, strip)


def _faces(tools: Tools, frames: UInt8[np.ndarray, "n h w 3"]) -> FacesSeen:
    counts, faces = np.zeros(len(frames), int), []
    before = None
    for number, frame in enumerate(frames):
        found = _found(tools.detect, frame, before)
        main = _main(found, before)
        counts[number], before = len(found), main or before
        faces.append(main)
    embeddings = {name: np.asarray(embed(frames, faces), np.float32) for name, embed in tools.embedders.items()}
    return FacesSeen(
        counts,
        _rows(faces, lambda face: face.box, (4,)),
        _rows(faces, lambda face: face.landmarks, (5, 2)),
        _rows(faces, lambda face: face.score, ()),
        _points(tools, frames, faces),
        embeddings,
    )


def _found(detect, frame, before: Face | None) -> list[Face]:
    """Quickly where a face was before, thoroughly where that finds none."""
    if detect is None:
        return []
    return (detect(frame, like=before) if before is not None else []) or detect(frame)


def _main(found: Sequence[Face], before: Face | None) -> Face | None:
    if not found:
        return None
    if before is None:
        return max(found, key=lambda face: face.area)
    centre = before.landmarks.mean(0)
    nearest = min(found, key=lambda face: float(np.linalg.norm(face.landmarks.mean(0) - centre)))
    is_near = np.linalg.norm(nearest.landmarks.mean(0) - centre) < before.side / 2
    return nearest if is_near else max(found, key=lambda face: face.area)


def _rows(faces: Sequence[Face | None], of: Callable[[Face], Any], shape: tuple[int, ...]) -> np.ndarray:
    nothing = np.full(shape, np.nan)
    return np.stack([nothing if face is None else np.asarray(of(face), float) for face in faces])


def _points(tools: Tools, frames: np.ndarray, faces: Sequence[Face | None]) -> np.ndarray:
    if tools.points is None:
        return np.zeros((len(faces), 0, 2))
    return np.stack(
        [
            np.full((POINTS, 2), np.nan) if face is None else tools.points(frame, face)
            for frame, face in zip(frames, faces, strict=True)
        ]
    )


def _small(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    height, width = pixels.shape[:2]
    size = (max(1, min(4 * STRIP_HEIGHT, round(width * STRIP_HEIGHT / height))), STRIP_HEIGHT)
    with io.BytesIO() as file:
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()
