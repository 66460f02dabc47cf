"""Figures of the picture on a portrait that was spoilt in known ways."""

import cv2
import numpy as np
import pytest

from mmjax.evaluation.metrics import picture
from tests.helpers import face_pictures as fp
from tests.helpers import heads

LANDMARKS = np.array([[205, 113], [245, 110], [228, 130], [213, 150], [246, 148]], float)  # of the astronaut


def values(frames, scale=1.0, missing=()):
    faces = heads.faces_of(np.zeros((len(frames), 68, 2)), missing=missing)
    faces.landmarks[:] = np.where(faces.found[:, None, None], LANDMARKS * scale, np.nan)
    case = heads.case_of(faces, size=frames[0].shape[:2], video=heads.video_of(np.stack(frames)))
    return {metric.name: metric.score(case) for metric in picture.metrics()}


def figures(*frames, **how):
    return {name: score.value for name, score in values(frames, **how).items()}


CLEAN = figures(*[fp.astronaut()] * 3)


def test_a_sound_picture():
    assert CLEAN["flicker"] == 0 and CLEAN["blockiness"] < 0.2 and CLEAN["clipping"] < 0.15
    assert 0.4 < CLEAN["face_sharpness"] < 0.9 and 0.4 < CLEAN["frame_sharpness"] < 0.9


def test_blur_takes_sharpness():
    found = figures(*[cv2.GaussianBlur(fp.astronaut(), (0, 0), 4)] * 3)
    assert found["face_sharpness"] < 0.5 * CLEAN["face_sharpness"]
    assert found["frame_sharpness"] < 0.6 * CLEAN["frame_sharpness"]


def test_sharpness_of_a_picture_twice_as_large_is_the_same_detail_at_the_same_size():
    large = cv2.resize(fp.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    found = figures(*[large] * 3, scale=2.0)
    for name in ("face_sharpness", "frame_sharpness", "clipping"):
        assert found[name] == pytest.approx(CLEAN[name], rel=0.1, abs=0.01)


def test_compression_leaves_blocks():
    assert figures(*[fp.compressed(fp.astronaut(), 5)] * 3)["blockiness"] > CLEAN["blockiness"] + 1


def test_flicker_is_told_from_motion_and_from_a_change_of_light():
    still = fp.astronaut().astype(float)
    flickering = figures(*[np.clip(still + 6 * (-1) ** index, 0, 255).astype(np.uint8) for index in range(9)])
    moving = figures(*[np.roll(fp.astronaut(), 5 * index, axis=1) for index in range(9)])
    brighter = figures(*[np.clip(still * (0.6 + 0.03 * index), 0, 255).astype(np.uint8) for index in range(9)])
    assert flickering["flicker"] == pytest.approx(12, rel=0.15)
    assert moving["flicker"] < 0.3 and brighter["flicker"] < 0.5


def test_flicker_is_that_of_an_eighth_of_a_second_at_any_pace():
    """Levels that are drawn anew for each frame have the same flicker at 8 frames a second and at 24; 5 have none."""
    levels = np.random.default_rng(0).normal(0, 4, 200)
    frames = [np.clip(fp.astronaut()[::8, ::8].astype(float) + level, 0, 255).astype(np.uint8) for level in levels]
    flicker = next(metric for metric in picture.metrics() if metric.name == "flicker")
    faces = heads.faces_of(np.zeros((200, 68, 2)))
    score = lambda fps: flicker.score(heads.case_of(faces, video=heads.video_of(np.stack(frames), fps)))  # noqa: E731
    slow, middle, fast = (score(fps).value for fps in (8, 16, 24))
    print(f"{slow:.2f} {middle:.2f} {fast:.2f}")
    assert slow == pytest.approx(fast, rel=0.2) and slow == pytest.approx(middle, rel=0.2)
    assert "5.0 were looked at" in score(5).why


def test_clipping_of_both_ends():
    frame = np.full((64, 64, 3), 128, np.uint8)
    frame[:16], frame[16:24] = 255, 0
    score = values([frame] * 3)["clipping"]
    assert score.value == pytest.approx(3 / 8) and score.details == {"burnt": 0.25, "black": 0.125}


def test_frames_without_a_face():
    some = values([fp.astronaut()] * 3, missing=[1])["face_sharpness"]
    assert some.value == pytest.approx(CLEAN["face_sharpness"]) and np.isnan(some.series[1])
    none = values([fp.astronaut()] * 3, missing=[0, 1, 2])["face_sharpness"]
    assert none.value is None and "no face" in none.why


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (16, 16)])
def test_odd_sizes(size):
    found = values([np.zeros((*size, 3), np.uint8)] * 2, missing=[0, 1])
    assert found["flicker"].value is None and "3 or more" in found["flicker"].why
    assert found["clipping"].value == 1 and found["blockiness"].value == 0
    assert (found["frame_sharpness"].value is None) == (size == (3, 2000))
