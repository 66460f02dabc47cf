"""Motion is measured in units that compare between clips; text that is laid over a picture is told from the picture."""

import random

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmjax.preparation.analysis import scores
from mmjax.preparation.analysis.scores import motion_score, text_share
from tests.helpers import face_pictures as fp

LINE = "We have been talking about this for years"
PROPOSED = 0.005  # max_text
STYLES = {
    "white, black outline": {"fill": "white", "stroke_fill": "black", "stroke": 0.08},
    "yellow, black outline": {"fill": (255, 230, 40), "stroke_fill": "black", "stroke": 0.05},
    "white on a black box": {"fill": "white", "box": "black"},
    "white on a red band": {"fill": "white", "box": (200, 30, 30), "whole": True},
    "white, no outline": {"fill": "white"},
    "half transparent": {"fill": (255, 255, 255, 120)},
}


def written(picture, size, fill, stroke=0.0, stroke_fill=None, box=None, whole=False):
    """The picture with a line of text at the bottom, `size` of its height high."""
    image = Image.fromarray(picture).convert("RGBA")
    layer = Image.new("RGBA", image.size)
    draw, (width, height) = ImageDraw.Draw(layer), image.size
    pixels = round(size * height)
    font, text = ImageFont.load_default(pixels), LINE
    while font.getlength(text) > 0.92 * width:
        text = text.rpartition(" ")[0]
    length = font.getlength(text)
    x, y = (width - length) / 2, height - 1.6 * pixels
    if box:
        margin = 0.2 * pixels
        edges = (0, width) if whole else (x - margin, x + length + margin)
        draw.rectangle((edges[0], y - margin, edges[1], height if whole else y + 1.3 * pixels), fill=box)
    outline = max(1, round(stroke * pixels)) if stroke else 0
    draw.text((x, y), text, font=font, fill=fill, stroke_width=outline, stroke_fill=stroke_fill)
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB"))


def moving(picture, pixels, count=9):
    """A clip in which the picture wanders to the right by so many pixels a frame."""
    return np.stack([np.roll(picture, round(index * pixels), axis=1) for index in range(count)])


def test_motion_is_in_percent_of_the_height_a_second():
    """512 pixels high, 4 pixels a frame at 25 frames a second: 19.5 percent; the seam of the roll adds a little."""
    score = motion_score(moving(fp.astronaut(), 4), 25)
    print(f"4 of 512 pixels a frame: {score:.2f}")
    assert score == pytest.approx(100 * 25 * 4 / 512, rel=0.1)
    assert motion_score(moving(fp.astronaut(), 4), 50) == pytest.approx(2 * score)


def test_motion_does_not_depend_on_the_size():
    small = np.stack(
        [cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in moving(fp.astronaut(), 4)]
    )
    assert motion_score(small, 25) == pytest.approx(motion_score(moving(fp.astronaut(), 4), 25), rel=0.05)


def test_a_still_picture_does_not_move():
    assert motion_score(moving(fp.astronaut(), 0), 25) < 0.01
    assert motion_score(fp.astronaut()[None], 25) == 0


@pytest.mark.parametrize("style", [style for style in STYLES if style != "half transparent"])
def test_text_is_found(style):
    share = text_share(written(fp.astronaut(), 0.06, **STYLES[style])[None])
    print(f"{style}: {share:.3f}")
    assert 0.02 < share < 0.15


def test_a_portrait_is_no_text():
    assert text_share(fp.astronaut()[None]) == 0


def test_text_counts_if_it_is_in_most_frames():
    plain, subtitled = fp.astronaut(), written(fp.astronaut(), 0.06, **STYLES["white on a black box"])
    assert text_share(np.stack([plain, plain, subtitled])) == 0
    assert text_share(np.stack([plain, subtitled, subtitled])) > 0.02


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (4000, 3, 3), (300, 6000, 3)])
def test_odd_sizes_are_looked_at_in_bounded_memory(shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert 0 <= text_share(frames) <= 1 and motion_score(frames, 25) >= 0
    assert scores._grey(frames[0], 360).size <= 4 * 360 * 360


@pytest.mark.measures
@fp.needs_faces
def test_how_often_text_is_found():
    """The table of `mmjax.preparation.analysis.scores`."""
    photos = sorted(fp.LFW.glob("**/*.jpg"))
    random.Random(5).shuffle(photos)
    pictures = [fp.read(path) for path in photos[:200]]
    sizes = (0.04, 0.05, 0.06, 0.08, 0.1)
    plain = [text_share(picture[None]) > PROPOSED for picture in pictures]
    print(f"\nas they are: {100 * np.mean(plain):.1f} %")
    for style, look in STYLES.items():
        rates = [
            np.mean([text_share(written(picture, size, **look)[None]) > PROPOSED for picture in pictures])
            for size in sizes
        ]
        print(f"{style}: {', '.join(f'{100 * rate:.1f} %' for rate in rates)}")
    more = [text_share(fp.read(path)[None]) > PROPOSED for path in photos[200:1700]]
    print(f"1,500 others as they are: {100 * np.mean(more):.1f} %")
    assert np.mean(plain) < 0.02
