"""Cuts between shots are told as soon as the new shot starts, and nothing else is."""

import numpy as np
import pytest

from mmjax.preparation.analysis.cuts import CutDetector
from mmjax.preparation.settings import Settings
from tests.helpers import face_pictures as fp
from tests.helpers.real_clips import frames_of

THRESHOLD = Settings().cut_threshold


def cuts(frames):
    detect = CutDetector(THRESHOLD)
    return [index for index, frame in enumerate(frames) if detect(frame)]


def shaken(picture, count, seed=0):
    """A shot with a moving camera and noise."""
    rng = np.random.default_rng(seed)
    shifts = np.cumsum(rng.integers(-2, 3, (count, 2)), axis=0)
    noise = rng.normal(0, 3, (count, *picture.shape))
    return [
        np.clip(np.roll(picture, shift, (0, 1)) + grain, 0, 255).astype(np.uint8)
        for shift, grain in zip(shifts, noise, strict=True)
    ]


@pytest.fixture(scope="module")
def other():
    return fp.read(fp.SIX)[:512, :512]


def test_a_shot_has_no_cut():
    assert cuts(shaken(fp.astronaut(), 12)) == []


def test_every_cut_is_found_at_once(other):
    shots = [shaken(picture, count, count) for picture, count in ((fp.astronaut(), 5), (other, 1), (fp.astronaut(), 4))]
    assert cuts(sum(shots, [])) == [5, 6]


def test_frames_may_change_their_size(other):
    """A stream may do that where its parts were joined."""
    assert cuts([*shaken(fp.astronaut(), 3), other[:300, :400], other[:300, :400]]) == [3]


def test_a_fade_is_no_cut(other):
    weights = np.linspace(0, 1, 24)[:, None, None, None]
    mixed = (1 - weights) * fp.astronaut()[: len(other)] + weights * other
    assert cuts(mixed.astype(np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (144, 176, 3)])
def test_any_size_will_do(shape):
    assert cuts(np.zeros((3, *shape), np.uint8)) == []


@fp.needs_faces
@pytest.mark.parametrize(
    "first, second",
    [
        ("carphone/carphone_pristine.mp4", "akiyo/akiyo_cif.mp4"),
        ("may/May_5s.mp4", "sadtalker/WDA_KatieHill_000.mp4"),
        ("liveportrait/source/s32.mp4", "pyfeat/single_face.mp4"),
    ],
)
def test_real_clips_have_no_cut_but_where_they_are_joined(first, second):
    shots = [frames_of(name, 60) for name in (first, second)]
    assert cuts([*shots[0], *shots[1]]) == [60]
