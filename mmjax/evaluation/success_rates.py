"""How many videos are a success: the paper's table 5 (METHOD 6), with intervals.

A video succeeds in a criterion where a face was found in it, or where a metric is on the better side of a threshold.
"""

from collections.abc import Mapping, Sequence

from mmjax.errors import DataError
from mmjax.evaluation.retrieval import wilson_interval
from mmjax.evaluation.statistics import Video, by_system, person_of, score_of

FACE, TOGETHER = "face recognised", "all together"
FACELESS = "no_face"  # the metric of frames without a face
_HIGHER = ("higher", "")


def success_rates(results: Mapping, thresholds: Mapping[str, float]) -> list[dict]:
    """Rows of the table: for each system a face found, each threshold passed, and all of them together.

    The face counts as recognised where one was found in any frame that was looked at. A video without a face fails
    every threshold that it has no value for. Any other video without a value, such as a broken one, is not counted and
    said so; what no video has a value for, such as a face that nobody looked for, is no part of all together. The
    interval is Wilson's over videos, as if they were independent of each other: with several videos of a person
    (`people` is less than `videos`) it is somewhat too narrow.

    Args:
      results: of an evaluation; `videos` and `metrics` are used.
      thresholds: by the name of a metric. More than that is a success, or less where lower is better.

    Returns:
      Rows of `system`, `criterion`, `threshold` (None for the face and for all together), `passed`, `videos`,
      `people`, `value`, `low`, `high` (None without videos) and `not_counted`.

    Raises:
      DataError: a threshold of a metric that was not evaluated.
    """
    better = {metric["name"]: metric["better"] for metric in results["metrics"]}
    for name in thresholds:
        if name not in better:
            raise DataError(f"threshold of {name}: expected one of the metrics {', '.join(better)}; name one of them")
    judged = {
        system: (videos, [_judged(video, thresholds, better) for video in videos])
        for system, videos in by_system(results["videos"]).items()
    }
    criteria, everyone = (FACE, *thresholds), [each for _, own in judged.values() for each in own]
    known = [name for name in criteria if any(each[name] is not None for each in everyone)]
    rows = []
    for system, (videos, own) in judged.items():
        passes = {name: [each[name] for each in own] for name in criteria}
        passes[TOGETHER] = [_together([each[name] for name in known]) for each in own]
        rows += [_row(system, name, thresholds.get(name), videos, passed) for name, passed in passes.items()]
    return rows


def _judged(video: Video, thresholds: Mapping[str, float], better: Mapping[str, str]) -> dict[str, bool | None]:
    """Whether a video passes each criterion; None where that is not known."""
    without = score_of(video, FACELESS)["value"] if FACELESS in video["scores"] else float(not video["faces_found"])
    face = None if without is None or (video["problem"] and not video["looked"]) else without < 1
    passes: dict[str, bool | None] = {FACE: face}
    for name, threshold in thresholds.items():
        value = score_of(video, name)["value"]
        if value is None:
            passes[name] = False if face is False else None
        else:
            passes[name] = value > threshold if better[name] in _HIGHER else value < threshold
    return passes


def _together(passes: Sequence[bool | None]) -> bool | None:
    """Whether a video passes all; not known where one is not, lest those that fail be counted alone."""
    return None if not passes or None in passes else all(passes)


def _row(
    system: str, criterion: str, threshold: float | None, videos: Sequence[Video], passes: Sequence[bool | None]
) -> dict:
    counted = [video for video, passed in zip(videos, passes, strict=True) if passed is not None]
    passed = sum(map(bool, passes))
    low, high = wilson_interval(passed, len(counted)) if counted else (None, None)
    return {
        "system": system,
        "criterion": criterion,
        "threshold": threshold,
        "passed": passed,
        "videos": len(counted),
        "people": len({person_of(video) for video in counted}),
        "value": passed / len(counted) if counted else None,
        "low": low,
        "high": high,
        "not_counted": len(videos) - len(counted),
    }
