"""Figures of systems, and their differences, with 95 % intervals over people (METHOD 6).

Videos of one person are alike, so people are drawn, not videos: each resample takes as many people as there are, with
replacement, and all videos of each. A video without a person stands for a person of its own. Two systems are compared
on pairs of videos of the same person and prompt, and the same people are drawn for both, so that what is hard about a
person or a prompt falls out. `intervals.py` says which interval there is for how many people.
"""

import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from mmjax.evaluation import intervals, store
from mmjax.evaluation.metrics.interface import MeanOverVideos, Metric, Score

_NO_VALUE = "none: no value"

Video = Mapping  # a row of `results["videos"]`


def figures(videos: Sequence[Video], metrics: Sequence[Metric]) -> dict[str, dict[str, dict]]:
    """`results["figures"]`: by system and metric, in the order in which they come.

    Each has `value`, `low`, `high` (None for none), `interval` (which it is, or why there is none), `videos` and
    `people` that have a value, and `not_computed`, how many videos have none and why.
    """
    found = {}
    for system, own in by_system(videos).items():
        found[system] = {metric.name: _figure(own, metric) for metric in metrics}
    return found


def differences(videos: Sequence[Video], metrics: Sequence[Metric]) -> list[dict]:
    """`results["differences"]`: of every two systems, for each metric, that of `a` less that of `b`.

    Over the videos of `pairs_of` in which both have a value: `videos` counts the pairs, `people` those who are drawn.
    """
    systems = list(by_system(videos).items())
    found = []
    for number, (a, first) in enumerate(systems):
        for b, second in systems[number + 1 :]:
            pairs = pairs_of(first, second)
            found += [{"a": a, "b": b, "metric": metric.name} | _difference(pairs, metric) for metric in metrics]
    return found


def by_system(videos: Iterable[Video]) -> dict[str, list[Video]]:
    """Videos of each system, systems and videos in the order in which they come."""
    found: dict[str, list[Video]] = {}
    for video in videos:
        found.setdefault(video["system"], []).append(video)
    return found


def person_of(video: Video) -> Hashable:
    """Who is drawn with a video: its person, by name, or the video itself."""
    return ("video", video["key"]) if video["person"] is None else ("person", video["person"])


def score_of(video: Video, metric: str) -> Mapping:
    """The score of a video; without a value, and with the video's problem as the reason, where it was not looked at."""
    unknown = {"value": None, "series": [], "why": video["problem"] or "not looked at", "details": {}}
    return video["scores"].get(metric, unknown)


def pairs_of(first: Sequence[Video], second: Sequence[Video]) -> list[tuple[Video, Video]]:
    """Videos of the same person and prompt, one of each system; each video is in one pair at most.

    Where there are several of a person and prompt, those of the same seed and place below their system's folder belong
    together, then those of the same seed, of the same place, and the rest in order. A prompt that is not known is like
    any other. Without a person, only the same place will do.
    """
    pairs, left, right = [], list(first), list(second)
    by_seed, by_place = (lambda v: v["seed"]), _place
    for alike in (lambda v: (by_seed(v), by_place(v)), by_place, by_seed, lambda _: None):
        unpaired = []
        for video in left:
            other = next((each for each in right if _comparable(video, each) and alike(video) == alike(each)), None)
            if other is None:
                unpaired.append(video)
            else:
                pairs.append((video, other))
                right.remove(other)
        left = unpaired
    return pairs


def _comparable(a: Video, b: Video) -> bool:
    """Whether two videos show the same person after the same prompt, as far as is known."""
    same_prompt = a["prompt"] == b["prompt"] or not a["prompt"] or not b["prompt"]
    same_place = a["person"] is not None or _place(a) == _place(b)
    return a["person"] == b["person"] and same_prompt and same_place


def _place(video: Video) -> str:
    """Where a video lies below its system's folder, without the ending of its name."""
    return os.path.splitext(video["key"].partition("/")[2])[0]


def _figure(videos: Sequence[Video], metric: Metric) -> dict:
    scored = [video for video in videos if score_of(video, metric.name)["value"] is not None]
    missing = Counter(score["why"] for video in videos if (score := score_of(video, metric.name))["value"] is None)
    people = [person_of(video) for video in scored]
    scores = [store.score_of(score_of(video, metric.name)) for video in scored]
    figure = _with_interval(metric, [scores], people)
    return figure | {"videos": len(scored), "people": len(set(people)), "not_computed": dict(missing.most_common())}


def _difference(pairs: Sequence[tuple[Video, Video]], metric: Metric) -> dict:
    scored = [pair for pair in pairs if all(score_of(video, metric.name)["value"] is not None for video in pair)]
    people = [person_of(a) if a["person"] is not None else ("place", _place(a)) for a, _ in scored]
    scores = [[store.score_of(score_of(pair[side], metric.name)) for pair in scored] for side in (0, 1)]
    return _with_interval(metric, scores, people) | {"videos": len(scored), "people": len(set(people))}


def _with_interval(metric: Metric, sides: Sequence[Sequence[Score]], people: Sequence[Hashable]) -> dict:
    """Value and interval of one side, or of the first less the second. All sides are in the order of `people`."""

    def statistic(chosen: Sequence[int]) -> float:
        each = [metric.statistic([side[number] for number in chosen]) for side in sides]
        return each[0] - each[1] if len(each) == 2 else each[0]

    value = _finite(statistic(range(len(people)))) if people else None
    if value is None:
        return {"value": None, "low": None, "high": None, "interval": _NO_VALUE}
    own, one_side = numbered(people), len(sides) == 1
    if _is_mean(metric):
        values = [np.array([score.value for score in side], float) for side in sides]
        of = intervals.of_a_rate if one_side and metric.rate else intervals.of_a_mean
        found = of(values[0] if one_side else values[0] - values[1], own)
    else:
        of = intervals.of_a_share if one_side and metric.share else intervals.of_a_statistic
        found = of(statistic, own)
    return {"value": value, "low": found.low, "high": found.high, "interval": found.kind}


def numbered(people: Sequence[Hashable]) -> Int[np.ndarray, " videos"]:
    """The number of each video's person, from 0 on."""
    rows = {person: row for row, person in enumerate(dict.fromkeys(people))}
    return np.array([rows[person] for person in people])


def _is_mean(metric: Metric) -> bool:
    """Whether its statistic is the mean, which is taken of all resamples at once."""
    return getattr(type(metric), "statistic", None) is MeanOverVideos.statistic


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
