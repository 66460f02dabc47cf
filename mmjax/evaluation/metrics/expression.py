"""Expression: how far the mouth opens, how often the eyes blink, and how much the face's features move.

All three read dlib's 68 points, which follow lips and eyelids; a detector's five landmarks do not. Without them these
metrics are not computed. Turning and nodding are taken out first: an affine camera is fitted that sees corners of the
eyes and nose of a mean head where they are in the frame; what other points are off by is brought back to that head as
it looks from the front. Lengths are in distances between its eyes.

Looked at by eye: of 12 blinks that were counted in six real clips of 75 frames, 10 are blinks and two are eyes turned
aside (blinks that are missed were not searched for). On 19 such clips the least expression range, the points' own
trembling in it, is 2.1 %, and the largest 5.6 %
(`MMJAX_MEASURE=1 pytest -s tests/evaluation/test_metric_calibration.py`). A mean head that turns by 15 degrees to both
sides and does not change its face has 0.3 %, one whose mouth opens by 0.4 eye distances 2.6 %
(`pytest -s tests/evaluation/test_expression.py`).
"""

import abc
import dataclasses

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import (
    FACES,
    NO_FACE,
    MeanOverVideos,
    Metric,
    Score,
    VideoToScore,
    not_computed,
)
from mmjax.evaluation.metrics.over_time import range_score
from mmjax.evaluation.observation import FacesSeen, Observation
from mmjax.faces.dlib_faces import POINTS
from mmjax.faces.head_model import FIRST, HEAD, RIGID

_LIPS = (61, 67), (62, 66), (63, 65)  # inner edges, upper and lower
_EYES = (36, 42)  # where the six points of each begin: outer or inner corner, two above, corner, two below
_FEATURES = np.r_[17:27, 36:POINTS] - FIRST  # brows, eyes and mouth
_SHUT, _OPEN = 0.65, 0.8  # of the usual aspect ratio of the eyes: shut below the one, open above the other
_BLINK = 0.5  # seconds that a blink takes at most; eyes that stay shut longer are closed, or look down
_SLOWEST = 7.0  # frames a second: a blink takes 0.1 to 0.4 s, and is lost between fewer
_OBSERVED = 2.0  # seconds of a face in which blinks can be counted


def metrics() -> list[Metric]:
    """Mouth opening, blink rate and expression range."""
    return [MouthOpeningRange(), BlinkRate(), ExpressionRange()]


@dataclasses.dataclass(frozen=True)
class _OfPoints(MeanOverVideos, abc.ABC):
    """What the metrics of this file share: dlib's points, of which it is said where they are missing."""

    better: str = ""
    needs: frozenset[str] = frozenset({FACES})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        if why := _missing(case.observation.faces):
            return not_computed(why)
        return self._of(case.observation)

    @abc.abstractmethod
    def _of(self, seen: Observation) -> Score:
        """The score of a video whose points are there."""


@dataclasses.dataclass(frozen=True)
class MouthOpeningRange(_OfPoints):
    """Most less least distance between the lips, bad frames left out; `series` is the distance in each frame.

    It says whether the mouth opens and closes, and not whether that is speech or fits anything that is heard.
    """

    name: str = "mouth_opening"
    title: str = "range of the mouth's opening, eye distances"

    def _of(self, seen: Observation) -> Score:
        points = _from_the_front(seen.faces)
        series = np.mean(
            [np.linalg.norm(points[:, up - FIRST] - points[:, low - FIRST], axis=-1) for up, low in _LIPS], axis=0
        )
        return range_score(series)


@dataclasses.dataclass(frozen=True)
class BlinkRate(_OfPoints):
    """Blinks a minute in which a face is seen; `series` is the eyes' aspect ratio by frame (Soukupova and Cech, 2016).

    A blink is where the mean ratio of both eyes falls below 0.65 of its median over the video, for half a second at
    most, between frames in which it is above 0.8. It says whether the eyes blink at all; six seconds with one
    blink have ten a minute, and single videos say little; eyes that look down for a moment count as well.
    """

    name: str = "blinks"
    title: str = "blinks a minute"
    version: int = 2

    def _of(self, seen: Observation) -> Score:
        span = float(seen.seconds[-1] - seen.seconds[0])
        if span <= 0 or (len(seen.seconds) - 1) / span < _SLOWEST:
            looked = f"{(len(seen.seconds) - 1) / span:.1f} were looked at" if span > 0 else "there is one frame"
            return not_computed(f"blinks need {_SLOWEST:g} frames a second or more, {looked}; look at more frames")
        series = eye_aspect_ratio(seen.faces.points)
        observed = span * float(np.isfinite(series).mean())
        if observed < _OBSERVED:
            return not_computed(f"blinks need a face for {_OBSERVED:g} s or more, there is one for {observed:.1f} s")
        count = _blinks(series / np.nanmedian(series), seen.seconds)
        return Score(60 * count / observed, series.tolist(), details={"count": count})


@dataclasses.dataclass(frozen=True)
class ExpressionRange(_OfPoints):
    """How far brows, eyes and mouth move about their mean places: the standard deviation over frames, mean over points.

    In percent of the distance between the eyes; `series` is the distance from the mean places in each frame. It says
    how much the features move with the head's motion taken out, and not which expression it is; what trembling of the
    landmarks and a strongly turned head leave is in it too.
    """

    name: str = "expression"
    title: str = "motion of brows, eyes and mouth within the face, % of the eye distance"

    def _of(self, seen: Observation) -> Score:
        points = _from_the_front(seen.faces)[:, _FEATURES]
        if np.isfinite(points[:, 0, 0]).sum() < 2:
            return not_computed("one frame with a face; motion needs two or more")
        away = np.linalg.norm(points - np.nanmean(points, axis=0), axis=-1)
        value = 100 * float(np.sqrt(np.nanmean(away**2, axis=0)).mean())
        return Score(value, (100 * away.mean(axis=1)).tolist())


def eye_aspect_ratio(points: Float[np.ndarray, "n 68 2"]) -> Float[np.ndarray, " n"]:
    """How far the eyes are open: height by width, the mean of both; about 0.3 open and 0.1 shut, NaN without a face."""
    ratios = []
    for first in _EYES:
        outer, up, up_too, inner, low_too, low = (points[:, first + index] for index in range(6))
        heights = np.linalg.norm(up - low, axis=-1) + np.linalg.norm(up_too - low_too, axis=-1)
        ratios.append(heights / (2 * np.linalg.norm(outer - inner, axis=-1)))
    return np.mean(ratios, axis=0)


def _missing(faces: FacesSeen) -> str:
    """What the 68 points lack; "" for nothing."""
    if not faces.dense:
        return (
            f"needs dlib's {POINTS} points of the face, which follow lips and eyelids; install them with "
            "pip install 'mmjax[dlib]'"
        )
    return "" if np.isfinite(faces.points).any() else NO_FACE


def _from_the_front(faces: FacesSeen) -> Float[np.ndarray, "n 51 2"]:
    """Points 17 to 67 with the head's motion taken out, in distances between the eyes; NaN without a face."""
    head = np.column_stack([HEAD, np.ones(len(HEAD))])
    out = np.full((len(faces.points), len(HEAD), 2), np.nan)
    for index, points in enumerate(np.asarray(faces.points[:, FIRST:], np.float64)):
        if np.isfinite(points).all():
            camera = np.linalg.lstsq(head[RIGID - FIRST], points[RIGID - FIRST], rcond=None)[0]  # rows: x, y, z, shift
            out[index] = HEAD[:, :2] + (points - head @ camera) @ np.linalg.pinv(camera[:2])
    return out


def _blinks(openness: Float[np.ndarray, " n"], seconds: Float[np.ndarray, " n"]) -> int:
    """Times that eyes shut and open again soon enough; a frame without a face (NaN) in between, and nobody knows.

    openness: aspect ratio of the eyes, 1 where they are open as usual.
    """
    count, opened = 0, np.flatnonzero((openness > _OPEN) | np.isnan(openness))
    for before, after in zip(opened[:-1], opened[1:], strict=True):
        between = seconds[before + 1 : after][openness[before + 1 : after] < _SHUT]
        told = np.isfinite(openness[[before, after]]).all()
        count += bool(told and len(between) and between[-1] - between[0] <= _BLINK)
    return count
