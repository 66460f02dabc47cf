"""What a likeness means: the same beside that to everybody else of the set (METHOD 6).

Embedders differ in how alike they find strangers, so a cosine to the own person says little by itself.

    ImpostorSimilarity   mean cosine to the other people
    Rank1                whether the own person is the nearest of all; its mean is the rank-1 rate
    VerificationAUC      how often a video is nearer to its own person than one of somebody else: area under the ROC
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mmjax.evaluation.metrics.interface import EMBEDDER, OTHERS, REFERENCES, Score, VideoToScore
from mmjax.evaluation.metrics.likeness import Likeness, own_and_others


@dataclasses.dataclass(frozen=True)
class _BesideOthers(Likeness):
    """A likeness that takes other people's references to compare with."""

    needs: frozenset[str] = frozenset({EMBEDDER, REFERENCES, OTHERS})


@dataclasses.dataclass(frozen=True)
class ImpostorSimilarity(_BesideOthers):
    """Mean cosine of a video's embedding to those of the other people.

    Neither side is better: it is the embedder's own level for strangers, beside which identity is to be read, and a
    face that is nobody's lowers it too.
    """

    column, about = "impostors", "impostors: mean cosine to the other people's references"

    better: str = ""

    def score(self, case: VideoToScore) -> Score:
        found = own_and_others(case, self.embedder)
        return found if isinstance(found, Score) else Score(float(np.mean(found[1])))


@dataclasses.dataclass(frozen=True)
class Rank1(_BesideOthers):
    """1 where the own person is nearer than everybody else, else 0; a tie is none, and neither is a video without a
    face."""

    rate = True
    column, about = "rank1", "rank-1: share of videos whose own person is the nearest of all"

    def score(self, case: VideoToScore) -> Score:
        found = own_and_others(case, self.embedder)
        if isinstance(found, Score):
            return Score(0.0) if found.details.get("no_face") else found
        own, others = found
        return Score(float(own > max(others)))


@dataclasses.dataclass(frozen=True)
class VerificationAUC(_BesideOthers):
    """A video's cosine to its own person; over videos, the area under the ROC of own against other people's."""

    share = True
    column, about = "auc", "verification AUC: own against other people's references"

    def score(self, case: VideoToScore) -> Score:
        found = own_and_others(case, self.embedder)
        if isinstance(found, Score):
            return found
        own, others = found
        return Score(own, details={"others": [round(float(each), 6) for each in others]})

    def statistic(self, scores: Sequence[Score]) -> float:
        own = np.array([score.value for score in scores if score.value is not None])
        others = [np.asarray(score.details["others"]) for score in scores if score.value is not None]
        return area_under_roc(own, np.concatenate(others)) if others else math.nan


def area_under_roc(positive: np.ndarray, negative: np.ndarray) -> float:
    """How often one of `positive` is larger than one of `negative`, ties counting half; NaN where either is empty."""
    if not len(positive) or not len(negative):
        return math.nan
    order = np.sort(negative)
    below, not_above = (np.searchsorted(order, positive, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(negative))
