"""Series over a video's frames: frames at a common pace, and ranges that a bad frame does not decide.

A figure of motion is that of a stretch of time, lest a video of 24 frames a second be smoother and slower than the same
one of 8. On eight real clips, as if they had 24 frames a second, landmarks that move d in 1/8 s move 0.74 d in 1/12 s
(median; 0.70 to 0.79), 1.24 d in 1/6 s (1.12 to 1.27) and 1.66 d in 1/4 s (1.28 to 1.79). Brought to 1/8 s in
proportion that is within 18 % from 1/12 to 1/6 s, and up to 36 % too little from 1/4 s: hence `SPARSEST`. The error of
a predicted frame is 0.78, 1.17 and 1.50 times that of 1/8 s (`MMJAX_MEASURE=1 pytest -s -k pace
tests/evaluation/test_metric_calibration.py`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import Score, not_computed

FEWEST = 5  # values that have a range without their extremes
PACE = 8.0  # frames a second at which motion is looked at: CogVideoX's own, and VBench's
SPARSEST = PACE / 1.5  # frames a second: of fewer, no two lie about 1 / `PACE` seconds apart


def step_at(seconds: Float[np.ndarray, " n"], pace: float = PACE) -> int:
    """How many of the frames that were looked at make up about 1 / `pace` seconds; at least one."""
    span = float(seconds[-1] - seconds[0])
    return max(1, round((len(seconds) - 1) / span / pace)) if span > 0 else 1


def too_sparse(seconds: Float[np.ndarray, " n"]) -> str:
    """Why two or more frames do not show what happens in 1 / `PACE` seconds; "" where they do."""
    span = float(seconds[-1] - seconds[0])
    if span <= 0:
        return "all frames have one time; write the video with its frames a second"
    rate = (len(seconds) - 1) / span
    if rate >= SPARSEST * (1 - 1e-6):
        return ""
    return (
        f"it needs {SPARSEST:.1f} frames a second or more, {rate:.1f} were looked at; give a shorter video, or one of "
        "more frames a second"
    )


def robust_range(series: Sequence[float]) -> float:
    """Largest less smallest value, without the most extreme twentieth at either end, and without one at least.

    One bad frame therefore has no say. NaN values are left out; of fewer than `FEWEST` the range is NaN.
    """
    values = np.asarray(series, np.float64)
    values = np.sort(values[np.isfinite(values)])
    cut = max(1, round(len(values) / 20))
    return float(values[-1 - cut] - values[cut]) if len(values) >= FEWEST else math.nan


def range_score(series: Float[np.ndarray, " n"], details: Mapping[str, Any] | None = None) -> Score:
    """The robust range of a series by frame, NaN without a face, as a score."""
    value = robust_range(series)
    if math.isnan(value):
        found = int(np.isfinite(series).sum())
        return not_computed(f"{found} frames with a face; a range without its extremes needs {FEWEST} or more")
    return Score(value, series.tolist(), details=details or {})
