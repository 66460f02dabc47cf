"""A total of several metrics of a video, weighted: OpenS2V's, in both of its versions.

A total is there only where all of its parts are; otherwise it says which of them are missing.
"""

import dataclasses
from collections.abc import Sequence

from mmjax.evaluation.metrics.interface import MeanOverVideos, Score, VideoToScore, not_computed


@dataclasses.dataclass(frozen=True)
class Part:
    """`weight` times where a metric's value lies between `low` (0) and `high` (1); beyond them it is cut off."""

    metric: str
    weight: float
    low: float = 0.0
    high: float = 1.0

    def of(self, value: float) -> float:
        """The share of the total, 0 to `weight`."""
        return self.weight * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class WeightedTotal(MeanOverVideos):
    """The sum of parts, of scores that are in `case.scores`. `details` has the share of each."""

    name: str
    title: str
    parts: Sequence[Part]
    better: str = "higher"
    needs: frozenset[str] = frozenset()
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        values = {
            part.metric: case.scores[part.metric].value if part.metric in case.scores else None for part in self.parts
        }
        if missing := [name for name, value in values.items() if value is None]:
            return not_computed(f"parts of it are not computed: {', '.join(missing)}; see what each of them asks for")
        shares = {part.metric: part.of(values[part.metric]) for part in self.parts}
        return Score(sum(shares.values()), details=shares)
