"""How many videos are a success: the paper's table 5 (METHOD 6), with intervals over people.

A video succeeds in a criterion where a metric is on the right side of a threshold.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mmjax.errors import DataError
from mmjax.evaluation.intervals import of_a_rate
from mmjax.evaluation.statistics import Video, by_system, numbered, person_of, score_of

TOGETHER = "all together"
FACELESS = "no_face"  # the metric of frames without a face


@dataclasses.dataclass(frozen=True)
class Threshold:
    """What a video must reach to count as a success in one respect.

    metric: name of the metric that is asked. value: it counts from here on, or up to here where `at_most`.
    """

    name: str
    metric: str
    value: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether a video with this value succeeds."""
        return value <= self.value if self.at_most else value >= self.value

    @property
    def rule(self) -> str:
        """The rule as a reader of the table sees it."""
        return f"{self.metric} {'at most' if self.at_most else 'at least'} {self.value:g}"


def success_rates(results: Mapping, thresholds: Sequence[Threshold]) -> list[dict]:
    """Rows of the table: for each system each threshold met, and all of them together.

    A video without a face in any frame fails every threshold that it has no value for. Any other video without a value,
    such as a broken one, is not counted and said so; what no video has a value for, such as a face that nobody looked
    for, is no part of all together. The interval is over people, as that of any rate.

    Args:
      results: of an evaluation; `videos` and `metrics` are used.

    Returns:
      Rows of `system`, `criterion`, `rule` ("" for all together), `passed`, `videos`, `people`, `value`, `low`, `high`
      (None for none) and `not_counted`.

    Raises:
      DataError: a threshold of a metric that was not evaluated.
    """
    names = [metric["name"] for metric in results["metrics"]]
    for each in thresholds:
        if each.metric not in names:
            raise DataError(f"threshold of {each.metric}: expected one of the metrics {', '.join(names)}; name one")
    judged = {
        system: (videos, [_judged(video, thresholds) for video in videos])
        for system, videos in by_system(results["videos"]).items()
    }
    everyone = [each for _, own in judged.values() for each in own]
    known = [each.name for each in thresholds if any(video[each.name] is not None for video in everyone)]
    rows = []
    for system, (videos, own) in judged.items():
        passes = [(each.name, each.rule, [video[each.name] for video in own]) for each in thresholds]
        passes.append((TOGETHER, "", [_together([video[name] for name in known]) for video in own]))
        rows += [_row(system, name, rule, videos, passed) for name, rule, passed in passes]
    return rows


def _judged(video: Video, thresholds: Sequence[Threshold]) -> dict[str, bool | None]:
    """Whether a video meets each threshold; None where that is not known."""
    faceless = score_of(video, FACELESS)["value"] == 1
    values = {each.name: score_of(video, each.metric)["value"] for each in thresholds}
    unknown = False if faceless else None
    return {each.name: unknown if (v := values[each.name]) is None else each.met(v) for each in thresholds}


def _together(passes: Sequence[bool | None]) -> bool | None:
    """Whether a video passes all; not known where one is not, lest those that fail be counted alone."""
    return None if not passes or None in passes else all(passes)


def _row(system: str, criterion: str, rule: str, videos: Sequence[Video], passes: Sequence[bool | None]) -> dict:
    counted = [(person_of(video), passed) for video, passed in zip(videos, passes, strict=True) if passed is not None]
    people, values = [person for person, _ in counted], np.array([passed for _, passed in counted], float)
    interval = of_a_rate(values, numbered(people)) if counted else None
    return {
        "system": system,
        "criterion": criterion,
        "rule": rule,
        "passed": int(values.sum()),
        "videos": len(counted),
        "people": len(set(people)),
        "value": float(values.mean()) if counted else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "not_counted": len(videos) - len(counted),
    }
