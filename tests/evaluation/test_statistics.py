"""Intervals over people: how often they cover the truth, and hand-made cases of figures, differences and rates."""

import json
import time

import numpy as np
import pytest

from mmjax.errors import DataError
from mmjax.evaluation.retrieval import wilson_interval
from mmjax.evaluation.statistics import (
    BOOTSTRAP,
    ONE_PERSON,
    WILSON,
    differences,
    figures,
    pairs_of,
)
from mmjax.evaluation.success_rates import FACE, TOGETHER, success_rates
from tests.helpers.random_results import Median, Plain, YesOrNo, results, scored, video

METRIC = Plain("fm_inter")
TRUE = 0.6


def drawn(seed, people, systems=("ours",), gap=0.0):
    """Videos of people who differ more than the videos of one of them do; the more of these, the higher the value."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 0.1, people)
    return [
        scored(
            f"{system} {person} {number}", TRUE + gap * place + own[person] + rng.normal(0, 0.03), system, f"p{person}"
        )
        for place, system in enumerate(systems)
        for person in range(people)
        for number in range(4)
    ]


def covered(people, metric=METRIC, draws=200):
    found = [figures(drawn(seed, people), [metric])["ours"][metric.name] for seed in range(draws)]
    return float(np.mean([each["low"] <= TRUE <= each["high"] for each in found]))


@pytest.mark.parametrize("people", [5, 10, 20, 50])
def test_the_true_mean_is_inside_as_often_as_the_interval_says(people):
    share = covered(people)
    print(f"{people} people: {share:.1%}")
    assert 0.90 <= share <= 0.99


def test_another_statistic_is_covered_too():
    share = covered(20, Median("fm_inter"))
    print(f"median: {share:.1%}")
    assert 0.90 <= share <= 0.99


def test_people_are_drawn_not_videos():
    """Ten copies of each person's video tell no more than one."""
    one = [scored(f"{number}", float(number), person=f"p{number}") for number in range(8)]
    ten = [each | {"key": f"{each['key']} {copy}"} for each in one for copy in range(10)]
    a, b = (figures(videos, [METRIC])["ours"]["fm_inter"] for videos in (one, ten))
    assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"])) and b["videos"] == 80
    strangers = [each | {"person": None} for each in ten]
    c = figures(strangers, [METRIC])["ours"]["fm_inter"]
    assert c["people"] == 80 and c["high"] - c["low"] < (a["high"] - a["low"]) / 2


def test_a_figure_says_what_it_is_of():
    values = [0.2, 0.4, None, None, 0.9]
    videos = [scored(f"{number}", value, person=f"p{number // 2}") for number, value in enumerate(values)]
    videos.append(video("broken", person="p3", problem="no frame could be decoded", looked=0))
    found = figures(videos, [METRIC])["ours"]["fm_inter"]
    assert found["value"] == pytest.approx(0.5) and (found["videos"], found["people"]) == (3, 2)
    assert found["not_computed"] == {"nothing was there": 2, "no frame could be decoded": 1}
    assert found["interval"] == BOOTSTRAP and 0.3 <= found["low"] < 0.5 < found["high"] <= 0.9
    assert found == figures(videos, [METRIC])["ours"]["fm_inter"]


def test_nothing_and_one_person_have_no_interval_and_say_why():
    found = figures([scored("a", 0.3), scored("b", 0.5)], [METRIC, Plain("other")])["ours"]
    one, none = found["fm_inter"], found["other"]
    assert (one["value"], one["low"], one["high"], one["interval"]) == (0.4, None, None, ONE_PERSON)
    assert none["value"] is None and none["low"] is None and none["not_computed"] == {"not looked at": 2}
    assert figures([], [METRIC]) == {} and differences([], [METRIC]) == []


RATE = YesOrNo("fm_inter")


def test_rates_of_one_video_a_person_have_wilsons_interval():
    videos = [scored(f"{number}", float(number < 7), person=f"p{number}") for number in range(10)]
    found = figures(videos, [RATE])["ours"]["fm_inter"]
    assert found["interval"] == WILSON and (found["low"], found["high"]) == wilson_interval(7, 10)
    several = [each | {"person": f"p{number % 5}"} for number, each in enumerate(videos)]
    assert figures(several, [RATE])["ours"]["fm_inter"]["interval"] == BOOTSTRAP
    always = [scored(f"{number}", 1.0, person=f"p{number % 5}") for number in range(10)]
    found = figures(always, [RATE])["ours"]["fm_inter"]
    assert (found["low"], found["high"]) == wilson_interval(5, 5)
    assert (
        figures(always, [METRIC])["ours"]["fm_inter"]["interval"] == BOOTSTRAP
    )  # which is no rate, whatever its values


def test_a_difference_by_hand():
    """Two people: each resample is one of them alone, or both: differences 0.1, 0.3 and their mean 0.2."""
    videos = [
        scored("1", 0.5, "a", "anna"),
        scored("2", 0.9, "a", "bert"),
        scored("3", 0.4, "b", "anna"),
        scored("4", 0.6, "b", "bert"),
        scored("5", 0.0, "b", "carl"),  # not in a
    ]
    (found,) = differences(videos, [METRIC])
    assert (found["a"], found["b"], found["metric"]) == ("a", "b", "fm_inter")
    assert found["value"] == pytest.approx(0.2) and (found["videos"], found["people"]) == (2, 2)
    assert (found["low"], found["high"]) == pytest.approx((0.1, 0.3))
    (median,) = differences(videos, [Median("fm_inter")])
    assert median["value"] == pytest.approx(0.2) and (median["low"], median["high"]) == pytest.approx((0.1, 0.3))


def test_pairs_find_a_difference_that_the_figures_alone_hide():
    videos = drawn(3, 20, ("ours", "other"), gap=0.03)
    (found,) = differences(videos, [METRIC])
    ours, other = (figures(videos, [METRIC])[system]["fm_inter"] for system in ("ours", "other"))
    assert ours["high"] > other["low"] and found["high"] < 0
    assert found["value"] == pytest.approx(ours["value"] - other["value"])


def test_differences_cover_the_truth():
    found = [differences(drawn(seed, 12, ("ours", "other"), gap=0.02), [METRIC])[0] for seed in range(200)]
    share = float(np.mean([each["low"] <= -0.02 <= each["high"] for each in found]))
    print(f"{share:.1%}")
    assert 0.90 <= share <= 0.99


def test_pairs_are_of_a_person_and_prompt_and_rather_of_one_seed_and_file():
    first = [video("a1", seed=1), video("a2", seed=2), video("a3", prompt="sings"), video("a4", person=None, file="x")]
    second = [
        video("b2", "o", seed=2),
        video("b9", "o", seed=9),
        video("b3", "o", prompt="sings", person="bert"),
        video("b4", "o", person=None, file="x"),
        video("b5", "o", person=None, file="y"),
    ]
    pairs = {(a["key"], b["key"]) for a, b in pairs_of(first, second)}
    assert pairs == {("a2", "b2"), ("a1", "b9"), ("a4", "b4")}
    assert {(a["key"], b["key"]) for b, a in pairs_of(second, first)} == pairs


def test_a_difference_without_common_videos_says_so():
    (found,) = differences([scored("1", 0.5, "a", "anna"), scored("2", 0.5, "b", "bert")], [METRIC])
    assert found["value"] is None and found["videos"] == 0 and found["interval"].startswith("none")


def test_results_are_plain_json_and_the_same_again():
    made = results(3)
    assert json.loads(json.dumps(made, allow_nan=False)) == made == results(3)


def test_two_hundred_videos_and_forty_metrics_take_two_seconds():
    metrics = [Plain(f"m{number}") for number in range(40)]
    rng = np.random.default_rng(0)
    videos = [
        video(
            f"{system}{n}",
            system,
            f"p{n % 50}",
            scores={
                each.name: {"value": float(rng.normal()), "series": [], "why": "", "details": {}} for each in metrics
            },
        )
        for system in ("a", "b")
        for n in range(200)
    ]
    begun = time.process_time()
    figures(videos[:200], metrics)
    one = time.process_time() - begun
    figures(videos, metrics)
    differences(videos, metrics)
    print(f"figures of 200 videos {one:.2f} s; with another system and differences {time.process_time() - begun:.2f} s")
    assert one < 2


def test_success_rates_by_hand():
    rows = [(0.9, 1.0, 16), (0.7, 1.0, 16), (0.9, 0.0, 16), (None, 1.0, 0), (0.9, None, 16)]
    videos = []
    for number, (identity, motion, faces) in enumerate(rows):
        scores = {
            name: {"value": value, "series": [], "why": "", "details": {}}
            for name, value in (("identity", identity), ("motion", motion))
        }
        videos.append(video(f"{number}", person=f"p{number}", faces_found=faces, scores=scores))
    videos.append(video("broken", problem="no frame", looked=0, faces_found=0))
    made = {"videos": videos, "metrics": [{"name": n, "better": "higher"} for n in ("identity", "motion")]}
    found = {row["criterion"]: row for row in success_rates(made, {"identity": 0.8, "motion": 0.5})}
    counts = {name: (row["passed"], row["videos"], row["not_counted"]) for name, row in found.items()}
    assert counts == {FACE: (4, 5, 1), "identity": (3, 5, 1), "motion": (3, 4, 2), TOGETHER: (1, 4, 2)}
    assert (found["identity"]["low"], found["identity"]["high"]) == wilson_interval(3, 5)
    with pytest.raises(DataError, match="threshold of text: expected one of the metrics identity, motion"):
        success_rates(made, {"text": 0.2})
    (none,) = [row for row in success_rates({**made, "videos": videos[-1:]}, {}) if row["criterion"] == FACE]
    assert none["value"] is None and none["low"] is None


def test_lower_is_a_success_where_lower_is_better():
    made = {"videos": [scored("a", 0.01), scored("b", 0.2)], "metrics": [{"name": "fm_inter", "better": "lower"}]}
    found = {row["criterion"]: row["passed"] for row in success_rates(made, {"fm_inter": 0.05})}
    assert found["fm_inter"] == 1


def test_pairs_lie_at_the_same_place_and_an_unknown_prompt_is_any():
    place = lambda system, name, prompt="": video(f"{system}/{name}", system=system, person="a", prompt=prompt)  # noqa: E731
    ours = [place("ours", f"anna/{n}.mp4", "smiles") for n in (1, 2, 3)]
    theirs = [place("theirs", f"anna/{n}.gif") for n in (2, 3)]
    assert [(a["key"], b["key"]) for a, b in pairs_of(ours, theirs)] == [
        ("ours/anna/2.mp4", "theirs/anna/2.gif"),
        ("ours/anna/3.mp4", "theirs/anna/3.gif"),
    ]


def test_what_nobody_looked_for_is_no_failure():
    made = results()
    for each in made["videos"]:
        each["scores"]["no_face"] = {"value": None, "series": [], "why": "it needs a face pack", "details": {}}
        each["faces_found"] = 0
    face, _, together = success_rates(made, {"smoothness": 0.1})[:3]
    assert face["criterion"] == FACE and face["value"] is None and face["not_counted"] > 0
    assert together["criterion"] == TOGETHER and together["passed"] == together["videos"] > 0
