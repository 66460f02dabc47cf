"""Which frames of a video are looked at: the rules by which publications choose them, as numbers of frames.

FrameSampling(16, "linspace")(49)  # array([ 0,  3,  6, ..., 44, 48])
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from mmjax.errors import ConfigError, DataError
from mmjax.evaluation.observation import DecodedVideo
from mmjax.media import spread

RULES = ("spread", "linspace", "steps")


@dataclasses.dataclass(frozen=True)
class FrameSampling:
    """A number of frames and how they are chosen.

    count: None for all frames.
    rule: "spread": from the first to the last, numbers rounded, none twice (ours).
      "linspace": the same with numbers cut off (`numpy.linspace(..., dtype=int)`); of a shorter video some come twice.
      "steps": `count` equal steps from the first frame on, so that the last frame is not among them; some may be twice.
    """

    count: int | None
    rule: str = "spread"

    def __post_init__(self):
        if self.rule not in RULES:
            raise ConfigError(f"rule of frames = {self.rule!r}: expected one of {', '.join(RULES)}")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"count of frames = {self.count}: expected a whole number of 1 or more")

    def __call__(self, total: int) -> Int[np.ndarray, " n"]:
        """Numbers of the frames of a video that has `total` of them, ascending."""
        if self.count is None:
            return np.arange(total)
        if self.rule == "linspace":
            return np.linspace(0, total - 1, self.count, dtype=int)
        if self.rule == "steps":
            return np.array([number * total // self.count for number in range(self.count)])
        return np.array(spread(self.count, total), int)

    def __str__(self) -> str:
        if self.count is None:
            return "all frames"
        return f"{self.count} frames by {self.rule}"


def union(samplings: Iterable[FrameSampling], total: int) -> Int[np.ndarray, " n"]:
    """Numbers of all frames that any of the rules asks for, ascending, each once."""
    return np.unique(np.concatenate([sampling(total) for sampling in samplings]))


def chosen(video: DecodedVideo, sampling: FrameSampling | None) -> Int[np.ndarray, " n"]:
    """Where among the decoded frames those lie that a rule asks for; all of them without a rule.

    Raises `DataError` for frames that were not decoded: the evaluation is run by another protocol.
    """
    if sampling is None:
        return np.arange(len(video.frames))
    wanted = sampling(video.total)
    if lost := np.setdiff1d(wanted, video.numbers).tolist():
        raise DataError(
            f"expected {sampling} of {video.total}, found {len(lost)} of them not decoded, such as number {lost[0]}; "
            "evaluate with the protocol that the metric belongs to"
        )
    return np.searchsorted(video.numbers, wanted)
