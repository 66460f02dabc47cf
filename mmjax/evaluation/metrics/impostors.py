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

from mmjax.evaluation.metrics.identity import reference_embedding
from mmjax.evaluation.metrics.interface import (
    EMBEDDER,
    OTHERS,
    REFERENCES,
    MeanOverVideos,
    Score,
    VideoToScore,
    not_computed,
)
from mmjax.faces.embeddings import cosine_similarity, mean_embedding

_NEEDS = frozenset({EMBEDDER, REFERENCES, OTHERS})


@dataclasses.dataclass(frozen=True)
class ImpostorSimilarity(MeanOverVideos):
    """Mean cosine of a video's embedding to those of the other people."""

    embedder: str
    better: str = "lower"
    needs: frozenset[str] = _NEEDS
    version: int = 1

    @property
    def name(self) -> str:
        return f"impostors/{self.embedder}"

    @property
    def title(self) -> str:
        return f"impostors: mean cosine to the other people's references, by {self.embedder}"

    def score(self, case: VideoToScore) -> Score:
        found = own_and_others(case, self.embedder)
        return found if isinstance(found, Score) else Score(float(np.mean(found[1])))


@dataclasses.dataclass(frozen=True)
class Rank1(MeanOverVideos):
    """1 where the own person is nearer than everybody else, else 0; a tie is none, and neither is a video without a
    face."""

    rate = True

    embedder: str
    better: str = "higher"
    needs: frozenset[str] = _NEEDS
    version: int = 1

    @property
    def name(self) -> str:
        return f"rank1/{self.embedder}"

    @property
    def title(self) -> str:
        return f"rank-1: share of videos whose own person is the nearest of all, by {self.embedder}"

    def score(self, case: VideoToScore) -> Score:
        found = own_and_others(case, self.embedder)
        if isinstance(found, Score):
            return Score(0.0) if found.details.get("no_face") else found
        own, others = found
        return Score(float(own > max(others)))


@dataclasses.dataclass(frozen=True)
class VerificationAUC:
    """A video's cosine to its own person; over videos, the area under the ROC of own against other people's."""

    rate = False

    embedder: str
    better: str = "higher"
    needs: frozenset[str] = _NEEDS
    version: int = 1

    @property
    def name(self) -> str:
        return f"auc/{self.embedder}"

    @property
    def title(self) -> str:
        return f"verification AUC: own against other people's references, by {self.embedder}"

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


def own_and_others(case: VideoToScore, embedder: str) -> tuple[float, list[float]] | Score:
    """Cosines of the video's mean embedding to the own person and to all the others; or why there are none."""
    if case.subject is None:
        return not_computed("no person is known for this video; give --references with a folder or row of their name")
    gallery = {name: reference_embedding(each, embedder) for name, each in sorted(case.people.items())}
    own = gallery.pop(case.subject.name, None)
    if own is None:
        return not_computed(f"no face was found on the references of {case.subject.name}; give other pictures")
    others = [each for each in gallery.values() if each is not None]
    if not others:
        return not_computed("nobody else is there to compare with; give references of two people or more")
    seen = case.observation.faces.embeddings[embedder]
    seen = seen[np.isfinite(seen).all(axis=1)]
    if not len(seen):
        return Score(None, why="no face was found in any frame", details={"no_face": True})
    cosines = cosine_similarity(mean_embedding(seen)[None], np.stack([own, *others]))[0]
    return float(cosines[0]), cosines[1:].tolist()
