"""Series over a video's frames: pairs of frames at a common pace, and ranges that a bad frame does not decide."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

FEWEST = 5  # values that have a range without their extremes
PACE = 8.0  # frames a second at which motion is looked at: CogVideoX's own, and VBench's


def step_at(seconds: Float[np.ndarray, " n"], pace: float = PACE) -> int:
    """How many of the frames that were looked at make up about 1 / `pace` seconds; at least one."""
    span = float(seconds[-1] - seconds[0])
    return max(1, round((len(seconds) - 1) / span / pace)) if span > 0 else 1


def robust_range(series: Sequence[float]) -> float:
    """Largest less smallest value, without the most extreme twentieth at either end, and without one at least.

    One bad frame therefore has no say. NaN values are left out; of fewer than `FEWEST` the range is NaN.
    """
    values = np.asarray(series, np.float64)
    values = np.sort(values[np.isfinite(values)])
    cut = max(1, round(len(values) / 20))
    return float(values[-1 - cut] - values[cut]) if len(values) >= FEWEST else math.nan
