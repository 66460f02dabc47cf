"""The aligned crop inside a jitted step: insightface's pixels before they are rounded, and a gradient to them."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.faces import detection
from mmjax.faces.template import TEMPLATE
from mmjax.models.arcface.alignment import align, aligned_square


def picture(height=200, width=300):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def landmarks(turn, scale, centre):
    """Those of a face that is turned and scaled, a little out of shape."""
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    jitter = np.random.default_rng(1).normal(size=(5, 2))
    return ((TEMPLATE - 56) @ np.array([[c, -s], [s, c]]).T + centre + jitter).astype(np.float32)


@pytest.mark.parametrize(
    ("turn", "scale", "centre"),
    [(0, 1, (150, 100)), (0.5, 0.6, (120, 90)), (-2.5, 2.4, (150, 100)), (1, 1.5, (10, 190))],
    ids=["straight", "small", "large, upside down", "beyond the border"],
)
def test_the_pixels_are_those_of_the_crop_that_encoders_take(turn, scale, centre):
    points = landmarks(turn, scale, centre)
    found = np.asarray(jax.jit(align)(jnp.asarray(picture(), jnp.float32), points))
    expected = detection.align(picture(), points)
    error = np.abs(found - expected)
    print(f"measured: {error.max():.2f} of 255, {error.mean():.2f} on average")
    assert error.max() < 1.5 and error.mean() < 0.4  # theirs is rounded; measured 0.5 to 1.1, 0.2 to 0.3


def test_the_square_that_becomes_the_crop():
    centres, sides = aligned_square(np.stack([landmarks(0, 1, (0, 0)), landmarks(2, 2.5, (40, 10))]))
    np.testing.assert_allclose(sides, [112, 280], rtol=0.05)  # the jitter
    np.testing.assert_allclose(centres, [[0, 0], [40, 10]], atol=3)


def test_the_gradient_reaches_the_pixels_of_the_face_alone():
    gradient = jax.grad(lambda x: align(x, landmarks(0, 0.5, (100, 60))).sum())(jnp.zeros((120, 200, 3)))
    rows, columns = np.nonzero(np.asarray(gradient).any(-1))
    assert rows.min() > 25 and rows.max() < 95 and columns.min() > 65 and columns.max() < 135  # 56 pixels and jitter
    assert np.isfinite(gradient).all()
