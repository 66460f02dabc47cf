"""Does the person in the clip stay the person of the reference? Figures over embeddings, whoever made them.

An embedder turns a frame into a vector: Fisherfaces for drawn people, a face recogniser for real ones. Two rules
(METHOD 6) hold for both. A person's gallery embedding is the mean over several pictures, and a clip's
probe is the mean over its frames, so that copying one picture does not win. NumPy only.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mmjax.errors import DataError
from mmjax.faces.embeddings import cosine_similarity


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """How often a probe is closest to its own person among all people of the gallery.

    `rate` is `correct / count`, `low` and `high` its 95 % Wilson interval, `chance` the rate of a guess, and
    `own_cosine` and `other_cosine` the mean similarity to the own person and to all the others.
    """

    correct: int
    count: int
    rate: float
    low: float
    high: float
    chance: float
    own_cosine: float
    other_cosine: float

    def __str__(self) -> str:
        return (
            f"{self.correct}/{self.count} = {self.rate:.1%} (95 % interval {self.low:.1%} to {self.high:.1%}), "
            f"cosine {self.own_cosine:.3f} to their own person, {self.other_cosine:.3f} to others"
        )


def retrieval(
    probes: Float[np.ndarray, "probes width"],
    gallery: Float[np.ndarray, "people width"],
    own: Int[np.ndarray, " probes"] | Sequence[int],
) -> Retrieval:
    """Rank-1 identification by cosine similarity.

    Args:
      probes: one embedding for each clip.
      gallery: one embedding for each person.
      own: for each probe, the row of its own person in the gallery.

    Raises:
      DataError: fewer than two people (nothing to confuse), or arrays that do not fit together.
    """
    own = np.asarray(own, int)
    if len(gallery) < 2 or len(probes) != len(own) or not len(own) or own.min() < 0 or own.max() >= len(gallery):
        raise DataError(
            "retrieval: expected a probe or more, each with its own person among two people or more; found "
            f"{len(probes)} probes, {len(own)} owners, {len(gallery)} people"
        )
    cosines = cosine_similarity(probes, gallery)
    mine = cosines[np.arange(len(own)), own]
    others = np.ones_like(cosines, bool)
    others[np.arange(len(own)), own] = False
    # a tie is no recognition: embeddings that collapse to one point must score nothing
    correct = int(np.sum(mine > np.where(others, cosines, -np.inf).max(axis=1)))
    low, high = wilson_interval(correct, len(own))
    return Retrieval(
        correct=correct,
        count=len(own),
        rate=correct / len(own),
        low=low,
        high=high,
        chance=1 / len(gallery),
        own_cosine=float(mine.mean()),
        other_cosine=float(cosines[others].mean()),
    )


def wilson_interval(correct: float, count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927), which stays within 0..1 for small counts.

    Trials that are not independent count by what they are worth, which need not be a whole number.

    Raises:
      DataError: no trials, or more successes than trials.
    """
    if not 0 <= correct <= count or count < 1:
        raise DataError(
            f"interval of a rate: expected 0 <= correct <= count and a trial, found {correct:g} of {count:g}"
        )
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, shrink = correct / count, 1 + z * z / count
    middle = (rate + z * z / (2 * count)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
