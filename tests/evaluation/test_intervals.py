"""How often intervals over people hold the truth, on drawn people of whom it is known."""

import math

import numpy as np
import pytest

from mmjax.evaluation import intervals
from mmjax.evaluation.metrics.impostors import area_under_roc
from mmjax.evaluation.retrieval import wilson_interval

VIDEOS = 4  # of each person
PEOPLE = (2, 3, 5, 10, 30)
MEANS = {"normal": 0.0, "skewed": math.exp(0.18)}
RATES = {"rate 0.5, alike": 0.5, "rate 0.7, alike": 0.7, "rate 0.9, alike": 0.9, "rate 0.5, apart": 0.5}


def owned(people):
    return np.repeat(np.arange(people), VIDEOS)


def values(kind, people, rng):
    """Of videos, by person; people differ more than the videos of one of them do."""
    if kind == "normal":
        return np.repeat(rng.normal(0, 0.1, people), VIDEOS) + rng.normal(0, 0.03, people * VIDEOS)
    if kind == "skewed":
        return np.repeat(np.exp(rng.normal(0, 0.6, people)), VIDEOS) + rng.normal(0, 0.2, people * VIDEOS)
    true = RATES[kind]
    own = rng.beta(5 * true, 5 * (1 - true), people) if "alike" in kind else np.full(people, true)
    return (rng.random(people * VIDEOS) < np.repeat(own, VIDEOS)).astype(float)


def covered(of, kind, people, draws):
    """The share of draws in which the truth is inside."""
    true, rng = {**MEANS, **RATES}[kind], np.random.default_rng(people)
    found = [of(values(kind, people, rng), owned(people)) for _ in range(draws)]
    return float(np.mean([each.low - 1e-12 <= true <= each.high + 1e-12 for each in found]))


def cosines(people, gap, rng):
    """Of videos to their own person, and to eight others each."""
    own = np.repeat(gap + rng.normal(0, 0.08, people), VIDEOS) + rng.normal(0, 0.05, people * VIDEOS)
    others = np.repeat(rng.normal(0, 0.08, people), VIDEOS)[:, None] + rng.normal(0, 0.1, (people * VIDEOS, 8))
    return own, others


def area(own, others):
    return lambda chosen: area_under_roc(own[chosen], others[chosen].ravel())


def covered_area(people, gap, draws, of=intervals.of_a_share):
    """The same of the area under the ROC; draws without an interval are left out."""
    true = area(*cosines(4000, gap, np.random.default_rng(9)))(np.arange(4000 * VIDEOS))
    rng = np.random.default_rng(people)
    found = [of(area(*cosines(people, gap, rng)), owned(people)) for _ in range(draws)]
    found = [each for each in found if each.low is not None]
    return true, float(np.mean([each.low <= true <= each.high for each in found]))


@pytest.mark.parametrize("people", PEOPLE)
def test_the_true_mean_is_inside_as_often_as_the_interval_says(people):
    normal, skewed = (covered(intervals.of_a_mean, kind, people, 400) for kind in MEANS)
    print(f"{people} people: normal {normal:.1%}, skewed {skewed:.1%}")
    assert 0.92 <= normal <= 0.98 and 0.86 <= skewed <= 0.98


@pytest.mark.parametrize("people", PEOPLE)
@pytest.mark.parametrize("kind", RATES)
def test_the_true_rate_is_inside_whether_a_persons_videos_agree_or_not(kind, people):
    share = covered(intervals.of_a_rate, kind, people, 400)
    print(f"{people} people: {kind} {share:.1%}")
    assert share >= 0.92


@pytest.mark.parametrize("gap, people", [(0.2, 5), (0.32, 5), (0.2, 12), (0.32, 12)])
def test_the_true_area_under_the_roc_is_inside(gap, people):
    true, share = covered_area(people, gap, 150)
    print(f"{people} people: area {true:.3f} {share:.1%}")
    assert 0.89 <= share <= 1


def test_a_median_has_the_bootstrap_of_people_enough():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        each = values("normal", 10, rng)
        found.append(intervals.of_a_statistic(lambda chosen, each=each: float(np.median(each[chosen])), owned(10)))
    share = np.mean([each.low <= 0 <= each.high for each in found])
    print(f"median: {share:.1%}")
    assert share >= 0.9 and found[0].kind == intervals.BOOTSTRAP
    few = intervals.of_a_statistic(lambda chosen: 0.5, owned(9))
    assert few.low is None and few.kind == intervals.TOO_FEW


def test_students_interval_by_hand():
    """People's means 1 and 3 about 2: the standard error is 1, t(0.975, 1) is 12.706."""
    found = intervals.of_a_mean(np.array([0.0, 2.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert found.kind == intervals.STUDENT
    assert intervals.of_a_mean(np.arange(10.0), np.arange(10)).kind == intervals.BOOTSTRAP


def test_rates_count_videos_by_what_they_are_worth():
    found = intervals.of_a_rate(np.array([1.0, 0, 1, 1, 0, 1, 1, 1, 0, 1]), np.arange(10))
    assert (found.low, found.high) == wilson_interval(7, 10)  # one video a person
    agreed = intervals.of_a_rate(np.repeat([1.0, 0, 1, 1, 0], 4), np.repeat(np.arange(5), 4))
    assert (agreed.low, agreed.high) == pytest.approx(wilson_interval(3, 5))  # a person's videos are one
    always = intervals.of_a_rate(np.ones(10), np.arange(10) % 5)
    assert (always.low, always.high) == wilson_interval(5, 5)
    evenly = intervals.of_a_rate(np.array([0.0, 1] * 5), np.repeat(np.arange(5), 2))
    worth = 10 * (1.95996 / 2.77645) ** 2  # by t(0.975, 4): of five people
    assert (evenly.low, evenly.high) == pytest.approx(wilson_interval(2.5, 5), abs=1e-3) and worth < 5


@pytest.mark.parametrize("people", [2, 5, 10, 30])
def test_what_everybody_shares_is_no_interval(people):
    found = intervals.of_a_mean(np.full(people * VIDEOS, 0.1 + 0.2), owned(people))
    assert found.low is None and found.kind == intervals.ALIKE
    whole = intervals.of_a_share(lambda chosen: 1.0, owned(people))
    assert whole.low is None


def test_one_person_has_none():
    one = np.zeros(3, int)
    for found in (
        intervals.of_a_mean(np.arange(3.0), one),
        intervals.of_a_rate(np.ones(3), one),
        intervals.of_a_share(lambda chosen: 0.5, one),
        intervals.of_a_statistic(lambda chosen: 0.5, one),
    ):
        assert (found.low, found.high, found.kind) == (None, None, intervals.ONE_PERSON)


@pytest.mark.measures
def test_coverage_of_every_kind():
    def bootstrap(values, own):
        times = intervals._times_drawn(int(own.max()) + 1, intervals.RESAMPLES)
        return intervals._percentiles((times @ np.bincount(own, values)) / (times @ np.bincount(own)), own.max() + 1)

    def student(values, own):
        half = intervals.stdtrit(own.max(), 0.975) * intervals._standard_error(values, own)
        return intervals.Interval(values.mean() - half, values.mean() + half, "")

    def over_videos(values, own):
        return intervals.Interval(*wilson_interval(values.sum(), len(values)), "")

    ways = {**dict.fromkeys(MEANS, {"bootstrap": bootstrap, "Student's t": student, "chosen": intervals.of_a_mean})}
    ways |= dict.fromkeys(RATES, {"over videos": over_videos, "chosen": intervals.of_a_rate})
    for kind, each in ways.items():
        for name, of in each.items():
            shares = [f"{people}: {covered(of, kind, people, 1500):.1%}" for people in (2, 3, 4, 5, 6, 8, 10, 20, 30)]
            print(f"{kind:18} {name:14} {', '.join(shares)}")
    for gap in (0.12, 0.2, 0.32, 0.46):
        found = [covered_area(people, gap, 400) for people in (3, 5, 8, 10, 20, 30)]
        print(f"area {found[0][0]:.3f} {', '.join(f'{share:.1%}' for _, share in found)}")
        print(f"  bootstrap of 30 {covered_area(30, gap, 100, intervals.of_a_statistic)[1]:.1%}")
