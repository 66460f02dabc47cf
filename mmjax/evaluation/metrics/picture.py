"""The picture itself: how sharp face and frame are, blocks, flicker, and exposure. No network, no weights.

Sharpness and blocks are what `mmjax.faces.quality` and `mmjax.faces.damage` measure of reference photographs, on every
frame; the thresholds that are told there hold for the face's sharpness and for blocks too.
"""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.evaluation.metrics.interface import (
    FACES,
    NO_FACE,
    PIXELS,
    MeanOverVideos,
    Metric,
    Score,
    VideoToScore,
    not_computed,
)
from mmjax.evaluation.metrics.over_time import step_at, too_sparse
from mmjax.faces.damage import blockiness
from mmjax.faces.detection import align, alignment
from mmjax.faces.quality import sharpness
from mmjax.faces.template import ALIGNED_SIDE

FRAME_SIDE = 256  # pixels of the shorter side at which a whole frame's sharpness is measured
_NARROWEST = 64  # pixels of the shorter side, where the longer one is FRAME_SIDE * _STRIP
_STRIP = 4
_BRIGHT, _DARK = 250, 5  # of 255: beyond these nothing is drawn any more
_COARSE = 64  # pixels of the shorter side at which brightness is compared


def metrics() -> list[Metric]:
    """Sharpness of face and frame, blocks, flicker and clipping."""
    return [FaceSharpness(), FrameSharpness(), Blockiness(), Flicker(), Clipping()]


@dataclasses.dataclass(frozen=True)
class FaceSharpness(MeanOverVideos):
    """Fine detail by coarser detail of the aligned face of 112 pixels; about 0.57 for a sharp photograph.

    It says whether the face is in focus, at one size whatever the picture's: one of fewer than 112 pixels is soft. It
    does not say whether the detail is that of a face: grain sharpens. `series` is by frame, NaN without a face.
    """

    name: str = "face_sharpness"
    title: str = "sharpness of the face: fine by coarser detail, 0.57 in a sharp photograph"
    better: str = "higher"
    needs: frozenset[str] = frozenset({PIXELS, FACES})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        faces = case.observation.faces
        if not faces.found.any():
            return not_computed(NO_FACE)
        seen = zip(case.video.frames, faces.landmarks, faces.found, strict=True)
        series = [sharpness(_aligned(frame, landmarks)) if found else math.nan for frame, landmarks, found in seen]
        return Score(float(np.nanmean(series)), series)


@dataclasses.dataclass(frozen=True)
class FrameSharpness(MeanOverVideos):
    """Fine detail by coarser detail of the whole frame, its shorter side brought to 256 pixels.

    It says how much fine detail there is in all, of which a background that is out of focus has none: compare videos of
    like scenes. Detail that 256 pixels do not hold is not seen. `series` is by frame.
    """

    name: str = "frame_sharpness"
    title: str = "sharpness of the frame: fine by coarser detail"
    better: str = "higher"
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        height, width = case.video.frames.shape[1:3]
        factor = min(FRAME_SIDE / min(height, width), _STRIP * FRAME_SIDE / max(height, width))
        size = round(width * factor), round(height * factor)
        if min(size) < _NARROWEST:
            return not_computed(f"frames of {width}x{height} pixels, too narrow to hold detail in all directions")
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        return _by_frame(case, lambda frame: sharpness(cv2.resize(frame, size, interpolation=how)))


@dataclasses.dataclass(frozen=True)
class Blockiness(MeanOverVideos):
    """How much steeper the picture is at every eighth pixel, by its mean slope; photographs are far below 1.3.

    It says that blocks of 8 pixels show, which JPEG, MPEG and a decoder's patches leave; it is blind to blocks of a
    picture that was resized since. `series` is by frame.
    """

    name: str = "blockiness"
    title: str = "blocks of 8 pixels: slope at their borders by the mean slope"
    better: str = "lower"
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        return _by_frame(case, blockiness)


@dataclasses.dataclass(frozen=True)
class Flicker(MeanOverVideos):
    """How far a frame's brightness is from the mean of those within 1/8 s of it: median over the picture, of 255.

    The median is what the picture does as a whole: things that move raise it in places and lower it in others. It says
    that all of the picture flickers; flicker of a part, and a slow change of light, it does not show. Eight real clips
    of 24 frames a second have 0.00 to 0.16, every third frame of them 0.00 to 0.23 (`test_metric_calibration.py -k
    pace`); a frozen picture has 0, which is no merit: neither side is better by itself. `series` is by frame that has
    others on both sides for so long.
    """

    name: str = "flicker"
    title: str = "flicker: brightness against the frames within 1/8 s, grey levels of 255"
    better: str = ""
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 2

    def score(self, case: VideoToScore) -> Score:
        count = len(case.video.frames)
        if count < 3:
            return not_computed(f"{count} frames; flicker needs a video of 3 or more")
        if why := too_sparse(case.video.seconds):
            return not_computed(why)
        side = step_at(case.video.seconds)
        if count < 2 * side + 1:
            return not_computed(f"{count} frames; flicker needs a video of 1/4 s or more")
        brightness = np.stack([_coarse(frame) for frame in case.video.frames])
        sums = np.cumsum(np.concatenate([np.zeros_like(brightness[:1]), brightness], dtype=np.float64), axis=0)
        own = brightness[side : count - side]
        around = (sums[2 * side + 1 :] - sums[: -2 * side - 1] - own) / (2 * side)
        series = np.abs(np.median((own - around).reshape(len(own), -1), axis=1))
        return Score(float(series.mean()), series.tolist())


@dataclasses.dataclass(frozen=True)
class Clipping(MeanOverVideos):
    """Share of the pixels that are burnt out (two colours at 250 or more) or black (all colours at 5 or less).

    It says how much of the picture's light or dark parts is lost; black bars, a white wall and a night sky count as
    well. `details` have both shares; `series` is their sum by frame.
    """

    name: str = "clipping"
    title: str = "pixels burnt out or black, share"
    better: str = "lower"
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        bright = np.array([_share(_count_of(frame >= _BRIGHT) >= 2) for frame in case.video.frames])
        dark = np.array([_share(_count_of(frame <= _DARK) == 3) for frame in case.video.frames])
        details = {"burnt": float(bright.mean()), "black": float(dark.mean())}
        return Score(float((bright + dark).mean()), (bright + dark).tolist(), details=details)


def _by_frame(case: VideoToScore, figure: Callable[[UInt8[np.ndarray, "h w 3"]], float]) -> Score:
    series = [figure(frame) for frame in case.video.frames]
    return Score(float(np.mean(series)), series)


def _aligned(frame: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"]) -> UInt8[np.ndarray, "112 112 3"]:
    """The aligned face, each pixel the mean of those it covers: a large face would be sampled in places alone."""
    scale = float(np.linalg.norm(alignment(landmarks)[:, 0]))  # pixels of the crop by pixels of the frame
    finer = math.ceil(1 / max(scale, 1 / 16))
    crop = align(frame, landmarks, ALIGNED_SIDE * finer)
    return cv2.resize(crop, (ALIGNED_SIDE, ALIGNED_SIDE), interpolation=cv2.INTER_AREA)


def _coarse(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "rows columns"]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    factor = min(_COARSE / min(height, width), 1)
    size = round(width * factor), round(height * factor)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _count_of(channels: np.ndarray) -> np.ndarray:
    return channels[..., 0].astype(np.uint8) + channels[..., 1] + channels[..., 2]


def _share(pixels: np.ndarray) -> float:
    return float(pixels.mean())
