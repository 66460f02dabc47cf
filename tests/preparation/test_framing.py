"""A record shows the whole face, as large as the source allows, and says where it came to lie."""

import numpy as np
import pytest

from mmjax.preparation.framing import (
    Framing,
    apply_framing,
    content_box,
    frame_on_face,
    move_boxes,
    move_landmarks,
)
from mmjax.preparation.reasons import Rejected
from tests.helpers import face_pictures as fp


def boxes(*rows):
    return np.array(rows, np.float32)


def framed(size, face, out=(480, 720), fit="auto", max_upscale=1.0, content=None):
    return frame_on_face(size, face, *out, fit, max_upscale, content)


def window(framing):
    return framing.left, framing.top, framing.width, framing.height


@pytest.mark.parametrize(
    "size, face, expected",
    [
        ((720, 1280), (600, 200, 700, 330), (110, 0, 1080, 720)),  # round the face's middle, as high as the picture
        ((720, 1280), (20, 200, 120, 330), (0, 0, 1080, 720)),  # near the left edge, moved into the picture
        ((720, 1280), (1190, 200, 1279, 330), (200, 0, 1080, 720)),
        ((1280, 720), (300, 700, 420, 860), (0, 540, 720, 480)),  # an upright phone: as wide as the picture
        ((480, 720), (300, 100, 420, 260), (0, 0, 720, 480)),  # nothing to do
    ],
)
def test_a_crop_is_the_largest_window_with_the_face_in_its_middle(size, face, expected):
    assert window(framed(size, boxes(face))) == expected


def test_a_crop_holds_the_face_of_every_frame():
    """The face wanders from left to right through half of the picture."""
    face = boxes(*((x, 300, x + 100, 430) for x in range(340, 940, 40)))
    framing = framed((720, 1280), face)
    moved = move_boxes(framing, face)
    assert moved.min() >= 0 and moved[:, 2].max() <= 720 and moved[:, 3].max() <= 480
    assert moved[0, 0] == pytest.approx(720 - moved[-1, 2], abs=1)


def test_a_face_that_no_crop_holds_gets_borders():
    """An upright portrait that the face fills."""
    face = boxes((60, 40, 660, 880))
    framing = framed((960, 720), face)
    assert window(framing) == (-360, 0, 1440, 960)
    assert framed((960, 720), face, fit="border") == framing
    with pytest.raises(Rejected, match="the largest crop has 720x480") as rejected:
        framed((960, 720), face, fit="crop")
    assert rejected.value.reason == "cut_off"


def test_borders_can_be_asked_for():
    assert window(framed((720, 720), boxes((300, 300, 400, 400)), fit="border")) == (-180, 0, 1080, 720)
    assert window(framed((720, 1440), boxes((300, 300, 400, 400)), fit="border")) == (0, -120, 1440, 960)


def test_a_face_outside_of_the_picture_is_cut_off():
    with pytest.raises(Rejected, match="20 % of the face's box") as rejected:
        framed((720, 1280), boxes((600, 200, 700, 300), (-20, 200, 80, 300)))
    assert rejected.value.reason == "cut_off"
    framed((720, 1280), boxes((-10, 200, 90, 300)))  # detectors' boxes end a little outside of the head


@pytest.mark.parametrize("fit, upscale", [("crop", 1.41), ("border", 0.94)])
def test_enlarging_has_a_limit_and_borders_are_not_counted(fit, upscale):
    face = boxes((200, 200, 300, 300))
    assert framed((512, 512), face, fit=fit, max_upscale=1.5).scale.max() == pytest.approx(upscale, abs=0.005)
    if upscale > 1:
        with pytest.raises(Rejected, match="enlarged 1.41 times to 720x480, more than max_upscale 1$") as rejected:
            framed((512, 512), face, fit=fit)
        assert rejected.value.reason == "low_resolution"
        assert rejected.value.value == pytest.approx(upscale, abs=0.005)


def test_bars_of_the_source_are_cut_away_first():
    """A letterboxed film with compression noise in its bars, and a frame that is dark everywhere."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 14, (5, 360, 640, 3), dtype=np.uint8)
    frames[:3, 45:315, 60:] = rng.integers(0, 256, (3, 270, 580, 3))
    content = content_box(frames)
    assert content == (60, 45, 640, 315)
    framing = framed((360, 640), boxes((400, 100, 480, 200)), out=(240, 360), content=content)
    assert window(framing) == (235, 45, 405, 270)
    assert apply_framing(framing, frames[:1])[0].mean(axis=(1, 2)).min() > 60


def test_a_picture_without_bars_is_whole():
    frames = fp.astronaut()[None]
    assert content_box(frames) == (0, 0, 512, 512)
    assert content_box(np.zeros_like(frames)) == (0, 0, 512, 512)


def test_a_dark_ground_is_no_bar():
    """A face that fades into black at both sides."""
    fade = np.clip(np.abs(np.arange(512) - 256) - 100, 0, 120) / 120
    frames = (fp.astronaut() * (1 - fade)[:, None]).astype(np.uint8)[None]
    assert frames[..., :36, :].max() == 0
    assert content_box(frames)[::2] == (0, 512)


@pytest.mark.parametrize(
    "framing",
    [
        Framing(100, 50, 300, 200, 100, 150),  # shrunk
        Framing(-64, 0, 640, 512, 128, 160),  # borders at the sides
        Framing(100, -100, 200, 800, 400, 100),  # borders above and below
        Framing(200, 150, 60, 40, 80, 120),  # enlarged
    ],
)
def test_pixels_boxes_and_landmarks_move_alike(framing):
    """A white square on grey lies where its box says, and what is outside of the source is black."""
    source = np.full((1, 512, 512, 3), 90, np.uint8)
    box = boxes((210, 160, 250, 184))
    source[0, 160:184, 210:250] = 255
    record = apply_framing(framing, source)[0, ..., 0]
    assert record.shape == (framing.out_height, framing.out_width)
    left, top, right, bottom = move_boxes(framing, box)[0]
    white = record > 172
    expected = (max(right, 0) - left) * (bottom - top)
    print(f"white {white.sum()}, box {expected:.0f}")
    assert abs(white.sum() - expected) <= (right - left + bottom - top) + 1  # half a pixel all round
    rows, columns = np.nonzero(white)
    assert columns.mean() + 0.5 == pytest.approx((left + right) / 2, abs=0.6)
    assert rows.mean() + 0.5 == pytest.approx((top + bottom) / 2, abs=0.6)
    np.testing.assert_allclose(
        move_landmarks(framing, box.reshape(1, 2, 2)).reshape(1, 4), [[left, top, right, bottom]]
    )
    outside = (framing.left < 0) + (framing.top < 0)
    assert (record == 0).any() == bool(outside)


def test_shrinking_does_not_alias():
    """Stripes finer than the record's pixels become grey."""
    stripes = np.zeros((1, 400, 600, 3), np.uint8)
    stripes[:, :, ::2] = 255
    record = apply_framing(Framing(0, 0, 600, 400, 100, 150), stripes)
    assert record.min() >= 127 and record.max() <= 128


def test_a_rejection_names_its_numbers():
    with pytest.raises(Rejected) as rejected:
        framed((100, 150), boxes((50, 30, 80, 60)))
    assert str(rejected.value) == "150x100 pixels would be enlarged 4.80 times to 720x480, more than max_upscale 1"
