"""What a training run shows of itself now and then: made by whoever can sample, looked at by whoever evaluates."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Clips of held-out people, and the contact sheet on which they stand."""

    people: Sequence[str]  # of each clip, by name
    videos: UInt8[np.ndarray, "clips frames h w 3"]
    fps: float  # frames a second
    sheet: UInt8[np.ndarray, "height width 3"]
