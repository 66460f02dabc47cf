"""Metrics of evaluations as figures of a training run's samples."""

import math

import numpy as np
import pytest

from mmjax import config as c
from mmjax import train as entry
from mmjax.errors import ConfigError
from mmjax.evaluation.of_samples import MetricsOfSamples
from mmjax.evaluation.samples import Samples
from mmjax.training.evaluators import SampleSheets
from tests.helpers import tiny_run


def moving(step, frames=9, side=64):
    """A texture that moves to the right, `step` pixels a frame."""
    y, x = np.mgrid[:side, : side + frames * abs(step) + 1]
    wave = (127 + 60 * np.sin(x / 5) * np.cos(y / 7) + 40 * np.sin((x + 2 * y) / 11)).astype(np.uint8)
    starts = [step * (frames - n) if step > 0 else 0 for n in range(frames)]
    return np.stack([np.repeat(wave[:, start : start + side, None], 3, axis=2) for start in starts])


def test_what_stands_still_has_no_speed_and_what_moves_has():
    look = MetricsOfSamples(["mean_speed/farneback", "smoothness/farneback", "blockiness"])
    still, fast = look(moving(0)[None], 8), look(np.stack([moving(2), moving(2)]), 8)
    assert still["samples/mean_speed/farneback"] == pytest.approx(0, abs=1e-3)
    assert fast["samples/mean_speed/farneback"] == pytest.approx(100 * 2 * 8 / 64, rel=0.3)
    assert look.higher_is_better == {"samples/blockiness": False}  # smoothness has no better side
    assert math.isnan(look(moving(0, frames=1)[None], 8)["samples/mean_speed/farneback"])


def test_metrics_that_cannot_be_taken_are_refused():
    with pytest.raises(ConfigError, match="expected some of no_face, .*; found identity/mbf"):
        MetricsOfSamples(["identity/mbf"])
    with pytest.raises(ConfigError, match="fm_inter needs faces; expected encoders.face_models"):
        MetricsOfSamples(["fm_inter"])
    with pytest.raises(ConfigError, match="train.sample_metrics = .*expected none, or samples to look at"):
        tiny_run.experiment(train={"sample_metrics": ("blockiness",), "sample_every": 0})


def test_the_sheet_reports_them(monkeypatch):
    config = tiny_run.experiment(train={"sample_metrics": ("blockiness", "mean_speed/farneback"), "sample_every": 6})
    metrics = entry._sample_metrics(config)
    samples = Samples(("a", "b"), np.stack([moving(1), moving(0)]), 8.0, np.zeros((4, 4, 3), np.uint8))
    sheets = SampleSheets(6, lambda params, step: samples, None, metrics)

    class State:
        def params(self):
            return {}

    report = sheets(State(), 6)
    assert set(report.figures) == {"samples/blockiness", "samples/mean_speed/farneback"}
    assert sheets.higher_is_better == {"samples/blockiness": False}
    assert isinstance(config, c.Experiment)
