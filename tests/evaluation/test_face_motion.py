"""FM_ref and FM_inter where the answer is known."""

import dataclasses
import math

import numpy as np
import pytest

from mmjax.evaluation.metrics import face_motion
from mmjax.evaluation.observation import Subject
from tests.helpers import heads

TO_REFERENCE, IN_TIME = face_motion.metrics()


def shifted(count, step):
    """A face that goes to the right by so many pixels a frame."""
    return heads.seen(heads.mean_head())[None] + np.arange(count)[:, None, None] * [step, 0]


def person(points, given=None, missing=()):
    names = [f"{index}.jpg" for index in range(len(points))]
    return Subject("anna", names, [heads.SIZE] * len(names), heads.faces_of(points, missing=missing), given)


def test_a_face_that_moves_three_pixels_a_frame():
    score = IN_TIME.score(heads.case_of(heads.faces_of(shifted(9, 3)), fps=8))
    assert score.value == pytest.approx(100 * 3 / 480) and len(score.series) == 8
    assert score.details["seconds"] == pytest.approx(1 / 8)


@pytest.mark.parametrize("fps", [5.5, 6, 8, 10, 12, 16, 24, 25, 30])
def test_frames_a_second_do_not_change_the_motion(fps):
    """24 pixels a second, whatever the pace; frames spread over a video are now two, now three of it apart."""
    score = IN_TIME.score(heads.case_of(heads.faces_of(shifted(60, 24 / fps)), fps=fps))
    assert score.value == pytest.approx(100 * 3 / 480) and 1 / 12 < score.details["seconds"] < 1 / 5.33
    if fps == 24:
        chosen = np.round(np.linspace(0, 59, 25)).astype(int)
        case = heads.case_of(heads.faces_of(shifted(60, 24 / fps)[chosen]))
        uneven = dataclasses.replace(case, observation=dataclasses.replace(case.observation, seconds=chosen / fps))
        assert IN_TIME.score(uneven).value == pytest.approx(score.value)


def test_the_size_does_not_change_the_motion():
    small = IN_TIME.score(heads.case_of(heads.faces_of(shifted(9, 3)), fps=8)).value
    large = IN_TIME.score(heads.case_of(heads.faces_of(2 * shifted(9, 3)), size=(960, 1440))).value
    assert large == pytest.approx(small)


def test_a_frozen_face_does_not_move():
    assert IN_TIME.score(heads.case_of(heads.faces_of(shifted(9, 0)))).value == 0


def test_frames_without_a_face_are_left_out():
    score = IN_TIME.score(heads.case_of(heads.faces_of(shifted(9, 3), missing=[4])))
    assert score.value == pytest.approx(100 * 3 / 480)
    assert np.flatnonzero(np.isnan(score.series)).tolist() == [3, 4]


@pytest.mark.parametrize("missing, why", [(range(9), "in both of which"), (range(0, 9, 2), "in both of which")])
def test_motion_that_nothing_tells(missing, why):
    score = IN_TIME.score(heads.case_of(heads.faces_of(shifted(9, 3), missing=list(missing))))
    assert score.value is None and why in score.why


def test_frames_that_are_too_few_or_too_sparse_show_no_motion():
    why = lambda count, fps: IN_TIME.score(heads.case_of(heads.faces_of(shifted(count, 3)), fps=fps)).why  # noqa: E731
    assert "two frames" in why(1, 8) and "1/8 s or more" in why(3, 24) and not why(4, 24)
    assert "needs 5.3 frames a second or more, 5.0 were looked at" in why(49, 5)
    assert "all frames have one time" in why(9, math.inf)


def test_place_and_size_are_no_distance_from_the_reference():
    faces = heads.faces_of(0.5 * shifted(4, 30) + 7)
    assert TO_REFERENCE.score(heads.case_of(faces, subject=person(shifted(1, 0)))).value == pytest.approx(0, abs=1e-12)


def test_distance_in_sides_of_the_box():
    faces = heads.faces_of(shifted(4, 0))
    moved = dataclasses.replace(
        faces, landmarks=faces.landmarks + [0, 0.1] * (faces.boxes[:1, 3:] - faces.boxes[:1, 1:2])
    )
    score = TO_REFERENCE.score(heads.case_of(moved, subject=person(shifted(1, 0))))
    assert score.value == pytest.approx(0.1) and score.series == pytest.approx([0.1] * 4)


def test_the_given_picture_is_the_reference_and_all_of_them_where_none_is_known():
    head = heads.mean_head()
    pictures = np.stack([heads.seen(head), heads.seen(head, yaw=30)])
    faces = heads.faces_of(np.stack([heads.seen(head)] * 3))

    def against(given, missing=()):
        return TO_REFERENCE.score(heads.case_of(faces, subject=person(pictures, given, missing))).value

    assert against(0) == pytest.approx(0, abs=1e-12) and against(1) > 0.03
    assert against(None) == pytest.approx((against(0) + against(1)) / 2)
    assert against(1, missing=[1]) == against(0)


def test_what_is_missing_is_said():
    faces = heads.faces_of(shifted(3, 1))
    assert "--references" in TO_REFERENCE.score(heads.case_of(faces)).why
    nobody = person(shifted(1, 0), missing=[0])
    assert "references of anna" in TO_REFERENCE.score(heads.case_of(faces, subject=nobody)).why
    empty = heads.faces_of(shifted(3, 1), missing=[0, 1, 2])
    assert "in any frame" in TO_REFERENCE.score(heads.case_of(empty, subject=person(shifted(1, 0)))).why
