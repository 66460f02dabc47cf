"""95 % intervals over people: which kind holds what its name says, for how many people, as measured.

Videos of one person are alike, so that people are drawn, not videos; `own` is the number of each video's person.

A mean over videos has Student's t interval of the people's means below `FEW` people, and from there the bootstrap:
the percentiles of resamples of the people, widened as Hesterberg (2015, "What teachers should know about the
bootstrap", section 3.4.1) has it: instead of the 2.5th that of Phi(-sqrt(n / (n - 1)) t(0.975, n - 1)). Of 1,500 draws
of people with 4 videos each the true mean was inside, normal and skewed (log-normal, 0.6) people:

| people | 2 | 3 | 5 | 10 | 30 |
|---|---|---|---|---|---|
| bootstrap | 50 %, 49 % | 75 %, 71 % | 91 %, 88 % | 95 %, 92 % | 95 %, 93 % |
| Student's t | 94 %, 93 % | 95 %, 92 % | 95 %, 89 % | 96 %, 92 % | 95 %, 92 % |

A rate has Wilson's interval of as many videos as would say as much if each were of another person: by how far people's
rates are apart, less what few people leave unknown of that, and one for each person at least. With 2 to 9 people it is
rather too wide than too narrow: 97 % to 100 %, from 10 people on 95 % to 99 %; Wilson's over all videos has 85 % to
96 %, and the bootstrap of two people 54 %.

A share that is no mean, such as an area under the ROC, has Student's t interval of its logit by leaving out a person at
a time, from 5 people on: 92 % to 98 % for areas of 0.77, 0.89 and 0.98, 85 % to 95 % for 0.998, of which the bootstrap
of 30 people has 79 %. Any other statistic has the bootstrap from `FEW` people on (a median: 95 % of 10), none below.

`MMJAX_MEASURE=1 pytest -s tests/evaluation/test_intervals.py` prints these figures.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from mmjax.evaluation.retrieval import wilson_interval

FEW = 10  # people: from here on the bootstrap
RESAMPLES = 2000  # of the people, for means
RESAMPLES_OF_OTHERS = 500  # for statistics that are computed anew on each
_SEED = 0
_FEWEST_FOR_SHARES = 5  # people
_WIDTH = 1e-9  # an interval that is no wider has none of its own

BOOTSTRAP, STUDENT = "bootstrap over people", "Student's t over people"
WILSON, LOGIT = "Wilson's for rates", "Student's t over people for areas under the ROC"
ONE_PERSON = "none: one person; an interval over people needs the videos of two or more"
TOO_FEW = "none: this statistic needs the videos of more people"
ALIKE = "none: everybody has the same value, which says nothing of how far others would be from it"
UNSTABLE = "none: the statistic has no value on most resamples; it needs more people"

Statistic = Callable[[Sequence[int]], float]  # of videos by number
Own = Int[np.ndarray, " videos"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """low, high: None for none. kind: which it is, or why there is none."""

    low: float | None
    high: float | None
    kind: str


def of_a_mean(values: Float[np.ndarray, " videos"], own: Own) -> Interval:
    """Of the mean over videos."""
    people = int(own.max()) + 1
    if people < 2:
        return _none(ONE_PERSON)
    if people < FEW:
        half = stdtrit(people - 1, 0.975) * _standard_error(values, own)
        return _checked(values.mean() - half, values.mean() + half, STUDENT)
    times = _times_drawn(people, RESAMPLES)
    return _percentiles((times @ np.bincount(own, values)) / (times @ np.bincount(own)), people)


def of_a_rate(values: Float[np.ndarray, " videos"], own: Own) -> Interval:
    """Of the share of videos that are a 1 and no 0."""
    people = int(own.max()) + 1
    if people < 2:
        return _none(ONE_PERSON)
    videos, rate, most = np.bincount(own), float(values.mean()), float(len(own))
    least = most**2 / float((videos**2).sum())  # where all videos of a person agree, a person counts once
    count = least
    if 0 < rate < 1:
        error = max(_standard_error(values, own), math.sqrt(rate * (1 - rate) / most))
        known = ndtri(0.975) / stdtrit(people - 1, 0.975)  # how well few people tell the error
        count = max(rate * (1 - rate) / error**2 * float(known) ** 2, least)
    return Interval(*wilson_interval(rate * count, count), WILSON)


def of_a_share(statistic: Statistic, own: Own) -> Interval:
    """Of a statistic between 0 and 1 that is no mean."""
    people, every = int(own.max()) + 1, np.arange(len(own))
    if people < _FEWEST_FOR_SHARES:
        return _none(TOO_FEW if people > 1 else ONE_PERSON)
    edge = 0.5 / len(own) ** 2 / (people - 1)  # 0 and 1 have no logit: half a comparison with another person
    whole, *without = (
        logit(np.clip(statistic(each), edge, 1 - edge)) for each in (every, *(every[own != n] for n in range(people)))
    )
    if not np.isfinite(without).all():
        return _none(UNSTABLE)
    error = math.sqrt((people - 1) ** 2 / people * np.var(without))
    half = stdtrit(people - 1, 0.975) * error
    return _checked(expit(whole - half), expit(whole + half), LOGIT)


def of_a_statistic(statistic: Statistic, own: Own) -> Interval:
    """Of any statistic, a difference of two among them."""
    people, every = int(own.max()) + 1, np.arange(len(own))
    if people < FEW:
        return _none(TOO_FEW if people > 1 else ONE_PERSON)
    drawn = np.array([statistic(np.repeat(every, row[own])) for row in _times_drawn(people, RESAMPLES_OF_OTHERS)])
    drawn = drawn[np.isfinite(drawn)]
    return _none(UNSTABLE) if 2 * len(drawn) < RESAMPLES_OF_OTHERS else _percentiles(drawn, people)


def _standard_error(values: Float[np.ndarray, " videos"], own: Own) -> float:
    """Of the mean over videos, from how far the people's means are from it."""
    people = int(own.max()) + 1
    away = np.bincount(own, values - values.mean()) / len(own)
    return math.sqrt(people / (people - 1) * float((away**2).sum()))


def _percentiles(drawn: Float[np.ndarray, " resamples"], people: int) -> Interval:
    tail = float(ndtr(-math.sqrt(people / (people - 1)) * stdtrit(people - 1, 0.975)))
    return _checked(*np.quantile(drawn, [tail, 1 - tail]), BOOTSTRAP)


def _checked(low: float, high: float, kind: str) -> Interval:
    if high - low <= _WIDTH * max(1.0, abs(low)):
        return _none(ALIKE)
    return Interval(float(low), float(high), kind)


def _none(why: str) -> Interval:
    return Interval(None, None, why)


@functools.lru_cache(maxsize=16)
def _times_drawn(people: int, resamples: int) -> Int[np.ndarray, "resamples people"]:
    """How often each person is drawn; the same for all metrics, systems and runs."""
    return np.random.default_rng(_SEED).multinomial(people, np.full(people, 1 / people), size=resamples)
