"""Optical flow of a video, worked out once and read by every metric of motion.

`measure_motion` keeps its figures for as long as the video lives, so that metrics that are taken one after the other
share them. Flow is Farneback's as shipped; any other, such as RAFT, is a function of two RGB frames.

Farneback sees frames whose shorter side is `FLOW_SIDE` pixels: 7 ms a pair at 288x192 on a core where 720x480 takes 57,
and steps of a moving head that it loses at full size are small enough to be found. Flat areas, which it leaves at rest
at full size, move with what is beside them then. On 15 real clips the mean of the fastest twentieth is 1.0 to 1.8 times
that at full size (median 1.2), the mean speed 1.0 to 4.5 times (1.6), the signed mean 0.7 to 7.6 times (1.35); 13 have
the same dynamic degree, and two move that did not
(`MMJAX_MEASURE=1 pytest -s tests/evaluation/test_metric_calibration.py`). Figures of one size compare among themselves.
"""

import dataclasses
import weakref
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.errors import ConfigError
from mmjax.evaluation.metrics.over_time import step_at
from mmjax.evaluation.observation import DecodedVideo

Frame = UInt8[np.ndarray, "h w 3"]
Flow = Callable[[Frame, Frame], Float[np.ndarray, "h w 2"]]  # pixels to the right and down, from the first to the other

FLOW_SIDE = 192  # pixels of the shorter side of frames that Farneback sees
VBENCH_SIDE = 256  # pixels of the shorter side in which VBench's threshold is told
_FASTEST = 0.05  # share of pixels: VBench looks at the mean of these


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """Figures of a video of n frames.

    speeds: mean length of the flow between neighbours, in shorter sides of the picture.
    drifts: mean of the flow between neighbours over pixels and both directions, signs and all, in pixels of the video.
    fastest: mean length of the fastest twentieth between frames about 1/8 s apart, in pixels of a picture whose shorter
      side is 256.
    errors: mean absolute error, of 255, of frames as predicted from those about 1/8 s before and after; of every second
      one at that pace.
    """

    speeds: Float[np.ndarray, " pairs"]
    drifts: Float[np.ndarray, " pairs"]
    fastest: Float[np.ndarray, " paced"]
    errors: Float[np.ndarray, " triples"]


def farneback(before: Frame, after: Frame) -> Float[np.ndarray, "h w 2"]:
    """Farneback (2003) with the settings of OpenS2V: three levels, windows of 15 pixels."""
    before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after))
    return cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def measure_motion(video: DecodedVideo, flow: Flow = farneback, side: int | None = FLOW_SIDE) -> Motion:
    """The figures of a video; kept until it is gone.

    Args:
      side: pixels that the frames' shorter side is brought to before, if it is longer; None for the frames as they are.

    Raises:
      ConfigError: the flow has not the frames' size, or is not finite.
    """
    kept = _MEASURED.setdefault(video, {})
    if (flow, side) not in kept:
        kept[flow, side] = _measure(video, flow, side)
    return kept[flow, side]


_MEASURED: "weakref.WeakKeyDictionary[DecodedVideo, dict[tuple[Flow, int | None], Motion]]"
_MEASURED = weakref.WeakKeyDictionary()


def _measure(video: DecodedVideo, flow: Flow, side: int | None) -> Motion:
    frames, count = [_reduced(frame, side) for frame in video.frames], len(video.frames)
    shorter, scale = min(frames[0].shape[:2]), min(frames[0].shape[:2]) / min(video.frames.shape[1:3])
    step = min(step_at(video.seconds), max(1, count - 1))
    neighbours = [(index, index + 1) for index in range(count - 1)]
    paced = [(index, index + step) for index in range(0, count - step, step)]
    around = [(index, index + 2 * step) for index in range(0, count - 2 * step, 2 * step)]
    speeds, drifts, fastest, errors, predicted = {}, {}, {}, {}, set(around)
    for pair in sorted({*neighbours, *paced, *around}):
        before, after = (frames[index] for index in pair)
        moved = _flow(flow, before, after)
        lengths = np.hypot(moved[..., 0], moved[..., 1])
        speeds[pair], drifts[pair] = lengths.mean() / shorter, moved.mean() / scale
        fastest[pair] = _mean_of_fastest(lengths) * VBENCH_SIDE / shorter
        if pair in predicted:
            errors[pair] = cv2.absdiff(middle_frame(before, after, moved), frames[pair[0] + step]).mean()
    chosen = (speeds, neighbours), (drifts, neighbours), (fastest, paced), (errors, around)
    return Motion(*(np.array([figures[pair] for pair in pairs], np.float64) for figures, pairs in chosen))


def middle_frame(before: Frame, after: Frame, flow: Float[np.ndarray, "h w 2"]) -> Frame:
    """The frame halfway between two: each moved by half of the flow towards the other, and their mean."""
    height, width = before.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    half_x, half_y = np.float32(0.5) * flow[..., 0], np.float32(0.5) * flow[..., 1]
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    first = cv2.remap(before, x - half_x, y - half_y, **how)
    second = cv2.remap(after, x + half_x, y + half_y, **how)
    return cv2.addWeighted(first, 0.5, second, 0.5, 0)


def _reduced(frame: Frame, side: int | None) -> Frame:
    height, width = frame.shape[:2]
    factor = 1.0 if side is None else side / min(height, width)
    if factor >= 1:
        return frame
    return cv2.resize(frame, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)


def _flow(flow: Flow, before: Frame, after: Frame) -> Float[np.ndarray, "h w 2"]:
    """Checked; 0 between two frames that are the same, where Farneback leaves thousandths of a pixel."""
    wanted = (*before.shape[:2], 2)
    if np.array_equal(before, after):
        return np.zeros(wanted, np.float32)
    found = np.asarray(flow(before, after), np.float32)
    if found.shape != wanted or not np.isfinite(found).all():
        name = getattr(flow, "__name__", repr(flow))
        what = f"shape {found.shape}" if found.shape != wanted else "values that are not finite"
        raise ConfigError(f"optical flow {name}: expected finite values of shape {wanted}, found {what}; mend it")
    return found


def _mean_of_fastest(lengths: Float[np.ndarray, "h w"]) -> float:
    count = max(1, int(lengths.size * _FASTEST))
    return float(np.partition(lengths, lengths.size - count, axis=None)[-count:].mean())
