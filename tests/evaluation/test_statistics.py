"""Figures, differences and success rates of hand-made cases; how often intervals hold is in test_intervals.py."""

import json
import time

import numpy as np
import pytest

from mmjax.errors import DataError
from mmjax.evaluation.intervals import ALIKE, BOOTSTRAP, LOGIT, ONE_PERSON, STUDENT, TOO_FEW, WILSON
from mmjax.evaluation.metrics.impostors import VerificationAUC
from mmjax.evaluation.retrieval import wilson_interval
from mmjax.evaluation.statistics import differences, figures, pairs_of
from mmjax.evaluation.success_rates import FACELESS, TOGETHER, Threshold, success_rates
from tests.helpers.random_results import Median, Plain, YesOrNo, results, scored, video

METRIC = Plain("fm_inter")
TRUE = 0.6
FACE = Threshold("face", FACELESS, 0.5, at_most=True)


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


def test_people_are_drawn_not_videos():
    """Ten copies of each person's video tell no more than one."""
    one = [scored(f"{number}", float(number), person=f"p{number}") for number in range(12)]
    ten = [each | {"key": f"{each['key']} {copy}"} for each in one for copy in range(10)]
    a, b = (figures(videos, [METRIC])["ours"]["fm_inter"] for videos in (one, ten))
    assert (a["low"], a["high"]) == pytest.approx((b["low"], b["high"])) and b["videos"] == 120
    strangers = [each | {"person": None} for each in ten]
    c = figures(strangers, [METRIC])["ours"]["fm_inter"]
    assert c["people"] == 120 and c["high"] - c["low"] < (a["high"] - a["low"]) / 2


def test_a_figure_says_what_it_is_of():
    values = [0.2, 0.4, None, None, 0.9]
    videos = [scored(f"{number}", value, person=f"p{number // 2}") for number, value in enumerate(values)]
    videos.append(video("broken", person="p3", problem="no frame could be decoded", looked=0))
    found = figures(videos, [METRIC])["ours"]["fm_inter"]
    assert found["value"] == pytest.approx(0.5) and (found["videos"], found["people"]) == (3, 2)
    assert found["not_computed"] == {"nothing was there": 2, "no frame could be decoded": 1}
    assert found["interval"] == STUDENT and found["low"] < 0.3 and found["high"] > 0.9
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
    always = [scored(f"{number}", 1.0, person=f"p{number % 5}") for number in range(10)]
    found = figures(always, [RATE])["ours"]["fm_inter"]
    assert (found["low"], found["high"]) == wilson_interval(5, 5)
    assert figures(always, [METRIC])["ours"]["fm_inter"]["interval"] == ALIKE  # which is no rate, whatever its values


def test_each_statistic_has_the_interval_of_its_kind():
    rng, auc = np.random.default_rng(0), VerificationAUC("dlib")
    videos = []
    for number in range(24):
        row = scored(f"{number}", rng.normal(0.4, 0.2), person=f"p{number % 12}")
        others = {"others": rng.normal(0, 0.2, 5).tolist()}
        score = {"value": rng.normal(0.4, 0.2), "series": [], "why": "", "details": others}
        videos.append(row | {"scores": row["scores"] | {auc.name: score}})
    median = Median("fm_inter")
    kinds = lambda rows, metric: figures(rows, [metric])["ours"][metric.name]["interval"]  # noqa: E731
    few = [each for each in videos if int(each["person"][1:]) < 9]
    assert (kinds(videos, METRIC), kinds(few, METRIC)) == (BOOTSTRAP, STUDENT)
    assert (kinds(videos, median), kinds(few, median)) == (BOOTSTRAP, TOO_FEW)
    assert kinds(videos, auc) == kinds(few, auc) == LOGIT
    other = [each | {"system": "b", "key": f"b{each['key']}"} for each in videos]
    (difference,) = differences(videos + other, [auc])
    assert difference["value"] == 0 and difference["interval"] == ALIKE


def test_a_difference_by_hand():
    """Two people, differences 0.1 and 0.3: their mean with a standard error of 0.1, and t(0.975, 1) is 12.706."""
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
    assert (found["low"], found["high"]) == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-4)
    (median,) = differences(videos, [Median("fm_inter")])
    assert median["value"] == pytest.approx(0.2) and median["interval"] == TOO_FEW


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
    rows = [(0.9, 1.0, 0.0), (0.7, 1.0, 0.4), (0.9, 0.0, 0.6), (None, 1.0, 1.0), (0.8, None, 0.0)]
    videos = []
    for number, row in enumerate(rows):
        scores = {
            name: {"value": value, "series": [], "why": "", "details": {}}
            for name, value in zip(("identity", "motion", FACELESS), row, strict=True)
        }
        videos.append(video(f"{number}", person=f"p{number}", scores=scores))
    videos.append(video("broken", problem="no frame", looked=0, faces_found=0))
    made = {"videos": videos, "metrics": [{"name": name} for name in ("identity", "motion", FACELESS)]}
    thresholds = [FACE, Threshold("who", "identity", 0.8), Threshold("moves", "motion", 0.5)]
    found = {row["criterion"]: row for row in success_rates(made, thresholds)}
    counts = {name: (row["passed"], row["videos"], row["not_counted"]) for name, row in found.items()}
    assert counts == {"face": (3, 5, 1), "who": (3, 5, 1), "moves": (3, 4, 2), TOGETHER: (1, 4, 2)}
    assert [row["rule"] for row in found.values()][:2] == ["no_face at most 0.5", "identity at least 0.8"]
    assert (found["who"]["low"], found["who"]["high"]) == wilson_interval(3, 5)
    with pytest.raises(DataError, match="threshold of text: expected one of the metrics identity, motion"):
        success_rates(made, [Threshold("text", "text", 0.2)])
    none = success_rates({**made, "videos": videos[-1:]}, [FACE])[0]
    assert none["value"] is None and none["low"] is None and none["not_counted"] == 1


def test_videos_of_one_person_tell_less_of_a_success():
    people = lambda count: [scored(f"{n}", float(n % 4 > 0), person=f"p{n % count}") for n in range(16)]  # noqa: E731
    rows = [
        success_rates({"videos": people(count), "metrics": [{"name": "fm_inter"}]}, [Threshold("m", "fm_inter", 0.5)])
        for count in (16, 4, 1)
    ]
    apart, alike, one = (row[0] for row in rows)
    assert (apart["low"], apart["high"]) == wilson_interval(12, 16) and alike["people"] == 4
    assert (alike["low"], alike["high"]) == pytest.approx(wilson_interval(3, 4)) and one["low"] is None


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
    face, _, together = success_rates(made, [FACE, Threshold("smooth", "smoothness", 0.1)])[:3]
    assert face["value"] is None and face["not_counted"] > 0
    assert together["criterion"] == TOGETHER and together["passed"] == together["videos"] > 0
