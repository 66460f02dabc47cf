"""A record holds what the encoders said, each thing under its own name."""

import numpy as np

from mmjax.encoders.interface import FaceFeatures
from mmjax.records.making import Footage, record_of
from mmjax.records.schema import BFLOAT16


def drawn(*shape, seed):
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def test_every_field_is_its_own():
    """All features differ, so that none can stand for another."""
    footage = Footage(
        np.zeros((1, 8, 8, 3), np.uint8), drawn(1, 4, 4, seed=1), drawn(1, 4, seed=2), drawn(1, 5, 2, seed=3)
    )
    faces = FaceFeatures(
        drawn(2, 6, seed=4), drawn(2, 3, 5, seed=5), drawn(2, 3, 5, seed=6), np.ones((2, 8, 8, 3), np.uint8)
    )
    latents, text, mask = drawn(1, 4, 4, 3, seed=7), drawn(9, 4, seed=8), np.arange(9) == 2
    found = record_of(footage, latents, text, mask, faces, caption="A man img", person="anna", source="a.jpg")
    expected = {
        "latents": latents.astype(BFLOAT16),
        "text": text.astype(BFLOAT16),
        "class_mask": mask,
        "id_embedding": faces.id_embedding,
        "clip_last": faces.clip_last.astype(BFLOAT16),
        "clip_penultimate": faces.clip_penultimate.astype(BFLOAT16),
        "face_mask": footage.mask,
        "boxes": footage.boxes,
        "landmarks": footage.landmarks,
        "face_visible": np.array([False]),  # the eyes are not a pixel apart
        "reference": faces.picture,
    }
    strings = {"caption": "A man img", "person": "anna", "source": "a.jpg"}
    assert set(found) == {*expected, *strings} and {name: found[name] for name in strings} == strings
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_landmarks_are_valid_inside_of_the_frame_and_apart():
    face = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], np.float32)
    landmarks = np.stack([face, face - [21, 0], face + [0, 8], np.zeros((5, 2), np.float32)])
    pixels = np.zeros((4, 48, 64, 3), np.uint8)
    footage = Footage(pixels, np.zeros((4, 48, 64)), np.zeros((4, 4)), landmarks)
    assert footage.face_visible.tolist() == [True, False, False, False]
