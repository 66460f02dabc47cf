"""Mouth, blinks and expression on faces of 68 points that were drawn to open, shut and turn by known amounts."""

import numpy as np
import pytest

from mmjax.evaluation.metrics import expression
from tests.helpers import heads

MOUTH, BLINKS, EXPRESSION = expression.metrics()
SWING = np.sin(np.linspace(0, 2 * np.pi, 24))


def score(metric, points, fps=8.0, **kind):
    return metric.score(heads.case_of(heads.faces_of(points, **kind), fps=fps))


def opened(head, by):
    """The mouth opened by so many eye distances: the lower lip goes down."""
    head = head.copy()
    head[[55, 56, 57, 58, 59, 65, 66, 67], 1] += by
    return head


def shut(head, by):
    """The eyes shut by a share of how far they are open."""
    head = head.copy()
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        middle = (head[upper] + head[lower]) / 2
        head[[upper, lower]] += by * (middle - head[[upper, lower]])
    return head


def faces(shapes, **turn):
    return np.stack([heads.seen(shape, **turn) for shape in shapes])


def test_the_mouth_opens_as_far_as_it_was_drawn_to_and_turning_changes_little():
    head = heads.mean_head()
    shapes = [opened(head, 0.2 * (1 + share)) for share in SWING]  # from 0 to 0.4
    front = score(MOUTH, faces(shapes)).value
    assert front == pytest.approx(0.4, abs=0.05)
    assert score(MOUTH, faces(shapes, yaw=25)).value == pytest.approx(front, rel=0.1)
    assert score(MOUTH, faces(shapes, roll=30)).value == pytest.approx(front, rel=0.02)
    turning = score(MOUTH, np.stack([heads.seen(head, yaw=20 * share) for share in SWING])).value
    print(f"opening 0.4: {front:.3f}; a head that turns by 20 degrees with its mouth shut: {turning:.3f}")
    assert turning < 0.1 * front


def test_blinks_are_counted():
    head = heads.mean_head()
    lids = np.zeros(48)
    lids[[5, 20, 21, 40]] = 0.8, 0.9, 0.8, 0.9
    found = score(BLINKS, faces([shut(head, by) for by in lids]))
    assert found.details == {"count": 3} and found.value == pytest.approx(3 * 60 * 8 / 47)
    assert len(found.series) == 48 and min(found.series) < 0.1 < 0.2 < max(found.series)


@pytest.mark.parametrize(
    "lids",
    [
        {10: 0.2, 11: 0.25},  # a squint
        {10: 0.9, 11: 0.9, 12: 0.9, 13: 0.9, 14: 0.9, 15: 0.9},  # shut for more than half a second
        {0: 0.9},  # shut when it begins
        {23: 0.9},  # and when it ends
    ],
)
def test_what_is_no_blink(lids):
    head = heads.mean_head()
    found = score(BLINKS, faces([shut(head, lids.get(index, 0)) for index in range(24)]))
    assert found.value == 0 and found.details == {"count": 0}


def test_eyes_that_stay_half_shut_for_a_frame_blinked_once():
    head, lids = heads.mean_head(), {10: 0.5, 11: 0.3, 12: 0.5}
    assert score(BLINKS, faces([shut(head, lids.get(index, 0)) for index in range(24)])).details == {"count": 1}


def test_a_blink_beside_a_frame_without_a_face_is_not_told():
    head, lids = heads.mean_head(), {10: 0.9, 17: 0.9}
    points = faces([shut(head, lids.get(index, 0)) for index in range(24)])
    assert score(BLINKS, points, missing=[11]).details == {"count": 1}


def test_blinks_need_frames_that_are_close():
    points = faces([heads.mean_head()] * 12)
    assert "2.0 were looked at; look at more frames" in score(BLINKS, points, fps=2).why
    assert "one frame" in score(BLINKS, points[:1]).why


def test_expression_is_what_moves_within_the_face():
    head = heads.mean_head()
    talking = score(EXPRESSION, faces([opened(head, 0.2 * (1 + share)) for share in SWING]))
    turning = score(EXPRESSION, np.stack([heads.seen(head, yaw=15 * share) for share in SWING]))
    frozen = score(EXPRESSION, faces([head] * 8))
    print(f"talking {talking.value:.2f} %, turning by 15 degrees {turning.value:.2f} %")
    assert frozen.value == pytest.approx(0, abs=1e-9)
    assert talking.value > 2 and talking.value > 2 * turning.value
    assert len(talking.series) == 24


@pytest.mark.parametrize("metric", [MOUTH, BLINKS, EXPRESSION])
def test_without_the_points_it_is_said_what_to_install(metric):
    points = faces([heads.mean_head()] * 8)
    found = score(metric, points, dense=False)
    assert found.value is None and "mmjax[dlib]" in found.why
    assert "in any frame" in score(metric, points, missing=range(8)).why


@pytest.mark.parametrize("metric", [MOUTH, EXPRESSION])
def test_too_few_frames(metric):
    found = score(metric, faces([heads.mean_head()] * 8), missing=range(1, 8))
    assert found.value is None and "frame" in found.why
