"""Head pose on heads that were turned by known angles, and on real clips with five landmarks and with 68."""

import dataclasses

import numpy as np
import pytest

from mmjax.evaluation.metrics import head_pose
from mmjax.evaluation.metrics.over_time import robust_range
from mmjax.faces import quality
from tests.helpers import heads

AXES = list(head_pose.AXES)
SWING = np.sin(np.linspace(0, 2 * np.pi, 16))


def poses(points, dense):
    return head_pose.head_poses(heads.faces_of(points, dense), heads.SIZE)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("angle", [-30, -10, 0, 20])
@pytest.mark.parametrize("dense", [True, False])
def test_the_model_itself_is_found_at_its_angle(axis, angle, dense):
    front, turned = poses([heads.seen(heads.mean_head()), heads.seen(heads.mean_head(), **{axis: angle})], dense)
    assert (turned - front)[AXES.index(axis)] == pytest.approx(angle, abs=2.5 if dense else 5)
    others = [index for index in range(3) if index != AXES.index(axis)]
    assert np.abs((turned - front)[others]).max() < 5


def test_yaw_has_the_sign_that_quality_has():
    points = heads.seen(heads.mean_head(), yaw=25)
    assert poses([points], False)[0, 0] > 15 and quality.yaw(heads.five_of(points)) > 15


def trembling(faces, rng):
    """Every point off by 2 % of the eye distance, another way in every frame."""
    eyes = max(heads.SIZE) / 14
    landmarks, points = (each + rng.normal(size=each.shape) * 0.02 * eyes for each in (faces.landmarks, faces.points))
    return dataclasses.replace(faces, landmarks=landmarks, points=points)


def test_the_range_is_found_on_heads_that_are_not_the_model():
    """Prints the table of `mmjax.evaluation.metrics.head_pose`."""
    rng, table = np.random.default_rng(0), {}
    for _ in range(80):
        head = heads.another_head(rng)
        for axis, extent in ((axis, extent) for axis in ("yaw", "pitch") for extent in (10, 20, 30)):
            angles = extent * SWING
            points = np.stack([heads.seen(head, **{axis: angle}) for angle in angles])
            for dense in (True, False):
                faces = trembling(heads.faces_of(points, dense), rng)
                found = head_pose.head_poses(faces, heads.SIZE)[:, AXES.index(axis)]
                found = robust_range(found) / robust_range(angles)
                table.setdefault((dense, axis), []).append(found)
    print()
    for (dense, axis), found in table.items():
        print(f"{'17 of 68' if dense else 'five':10} {axis:6} {np.mean(found):.2f} +- {np.std(found):.2f}")
    for (dense, _), found in table.items():
        assert np.mean(found) == pytest.approx(1, abs=0.1 if dense else 0.15)
        assert np.std(found) < (0.3 if dense else 0.35)


def test_one_bad_frame_has_no_say_and_a_frozen_head_has_no_range():
    head = heads.mean_head()
    points = np.stack([heads.seen(head, yaw=20 * share) for share in SWING])
    spoilt = points.copy()
    spoilt[5] = heads.seen(head, yaw=-75)
    metric = head_pose.metrics()[0]
    clean, bad = (metric.score(heads.case_of(heads.faces_of(each))) for each in (points, spoilt))
    assert clean.value == pytest.approx(38, abs=4) and bad.value == pytest.approx(clean.value, abs=4)
    assert clean.details == {"landmarks": 68} and len(clean.series) == 16
    frozen = heads.case_of(heads.faces_of([points[0]] * 16, dense=False))
    assert [each.score(frozen).value for each in head_pose.metrics()] == [0, 0, 0]
    assert metric.score(frozen).details == {"landmarks": 5}


def test_frames_without_a_face_and_too_few_of_them():
    points = np.stack([heads.seen(heads.mean_head())] * 6)
    metric = head_pose.metrics()[0]
    score = metric.score(heads.case_of(heads.faces_of(points, missing=[1])))
    assert score.value == 0 and np.isnan(score.series[1])
    assert "3 frames with a face" in metric.score(heads.case_of(heads.faces_of(points, missing=[0, 1, 2]))).why


def test_landmarks_in_one_place_have_no_pose():
    points = np.full((4, 68, 2), 100.0)
    score = head_pose.metrics()[0].score(heads.case_of(heads.faces_of(points, dense=False)))
    assert score.value is None or np.isfinite(score.value)
