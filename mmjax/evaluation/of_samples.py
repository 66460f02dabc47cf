"""Metrics of `mmjax.evaluate` as figures of a training run's samples: those that need a video alone, or its faces.

    look = MetricsOfSamples(["smoothness/farneback", "fm_inter"], detect)
    look(videos, fps=8)  # {"samples/smoothness/farneback": 0.96, "samples/fm_inter": 1.3}

Likeness is the business of `identity.py`, which sees the same samples. NumPy and OpenCV; no JAX.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from mmjax.errors import ConfigError
from mmjax.evaluation.looking import Tools, observe
from mmjax.evaluation.metrics.interface import FACES, PIXELS, Score, VideoToScore, scored
from mmjax.evaluation.metrics.registry import known_metrics
from mmjax.evaluation.observation import DecodedVideo
from mmjax.faces.detection import Face

PREFIX = "samples"
_POSSIBLE = {PIXELS, FACES}


class MetricsOfSamples:
    """Looks at clips by the metrics of these names.

    Args:
      names: of `known_metrics`.
      detect: finds faces, a `mmjax.faces.detection.FaceDetector`; None where no metric needs them.

    Raises:
      ConfigError: a metric that is not known or needs more than clips, or needs faces and nobody finds them.
    """

    def __init__(self, names: Sequence[str], detect: Callable[..., list[Face]] | None = None):
        known = {name: metric for name, metric in known_metrics(()).items() if metric.needs <= _POSSIBLE}
        for name in names:
            if name not in known:
                raise ConfigError(f"train.sample_metrics: expected some of {', '.join(known)}; found {name}")
            if FACES in known[name].needs and detect is None:
                raise ConfigError(
                    f"train.sample_metrics: {name} needs faces; expected encoders.face_models, whose detector finds "
                    "them, or another metric"
                )
        self._metrics = [known[name] for name in names]
        self._tools = Tools(lambda total: range(total), detect)

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Of each figure by which a checkpoint may be chosen, by its tag."""
        sides = {"higher": True, "lower": False}
        return {f"{PREFIX}/{each.name}": sides[each.better] for each in self._metrics if each.better in sides}

    def __call__(self, videos: UInt8[np.ndarray, "clips frames h w 3"], fps: float) -> dict[str, float]:
        """A figure for each metric, by tag; NaN where no clip has one."""
        scores: dict[str, list[Score]] = {each.name: [] for each in self._metrics}
        for frames in videos:
            numbers = np.arange(len(frames))
            video = DecodedVideo(frames, numbers / fps, numbers, len(frames))
            case = VideoToScore(observe(self._tools, video), video=video)
            for each in self._metrics:
                scores[each.name].append(scored(each, case))
        return {f"{PREFIX}/{each.name}": _statistic(each, scores[each.name]) for each in self._metrics}


def _statistic(metric, scores: Sequence[Score]) -> float:
    found = [score for score in scores if score.value is not None]
    return metric.statistic(found) if found else math.nan
