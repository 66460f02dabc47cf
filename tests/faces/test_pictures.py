"""Pictures of every kind become upright RGB, and what is no picture is named."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmjax import media
from mmjax.errors import DataError


def picture(seed=0, height=40, width=30):
    """Smooth colours, which lossy formats keep."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR))


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return np.asarray(media.read_picture(tmp_path / name)).astype(int)


@pytest.mark.parametrize(
    "mode, name, within",
    [("RGB", "a.png", 0), ("RGB", "a.webp", 30), ("CMYK", "a.jpg", 12), ("RGBA", "a.png", 0), ("LAB", "a.tiff", 20)]
    + [("YCbCr", "a.tiff", 4), ("P", "a.png", 60), ("RGBX", "a.tiff", 0)],
)
def test_colour_of_every_mode(tmp_path, mode, name, within):
    pixels = picture()
    found = saved(tmp_path, Image.fromarray(pixels).convert(mode), name)
    assert found.shape == pixels.shape and np.abs(found - pixels).max() <= within


@pytest.mark.parametrize(
    "scale, dtype, name", [(1, np.uint8, "a.png"), (257, np.uint16, "a.png"), (1, np.float32, "a.tiff")]
)
def test_grey_of_every_depth(tmp_path, scale, dtype, name):
    grey = picture()[..., 0]
    found = saved(tmp_path, Image.fromarray(grey.astype(dtype) * dtype(scale)), name)
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))


def test_floats_that_end_at_one_are_scaled(tmp_path):
    grey = picture()[..., 0]
    found = saved(tmp_path, Image.fromarray(grey.astype(np.float32) / 255), "a.tiff")
    np.testing.assert_array_equal(found[..., 0], grey)


@pytest.mark.parametrize(
    "mode, options", [("RGBA", {}), ("LA", {}), ("P", {"transparency": 0}), ("RGB", {"transparency": (1, 2, 3)})]
)
def test_what_shows_through_is_white(tmp_path, mode, options):
    image = Image.new(mode, (4, 4), (1, 2, 3) if mode == "RGB" else 0)
    assert saved(tmp_path, image, "a.png", **options).min() == 255


def test_an_animation_gives_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    found = saved(tmp_path, first, "a.gif", save_all=True, append_images=[second], duration=50)
    assert np.abs(found - (255, 0, 0)).max() < 3


@pytest.mark.parametrize("turn, size", [(1, (8, 4)), (3, (8, 4)), (6, (4, 8)), (8, (4, 8))])
def test_the_camera_s_turn_is_undone(tmp_path, turn, size):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = media.read_picture(tmp_path / "a.png")
    where = {1: (0, 0), 3: (3, 7), 6: (0, 3), 8: (7, 0)}[turn]
    assert found.size == size and np.argwhere(np.asarray(found)[..., 0] > 0).tolist() == [list(where)]


def test_a_colour_profile_is_converted_and_a_broken_one_ignored(tmp_path):
    pixels = picture()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "a.png", icc_profile=srgb) - pixels).max() <= 1
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "b.png", icc_profile=b"nonsense") - pixels).max() == 0
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of another kind than the pixels
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "c.png", icc_profile=lab) - pixels).max() == 0


def test_rgb_of_rgb_changes_nothing_and_keeps_its_notes():
    image = Image.fromarray(picture())
    image.info = {"note": "a", "transparency": (0, 0, 0)}
    once = media.to_rgb(image)
    assert once.info == {"note": "a"} and media.to_rgb(once).tobytes() == once.tobytes()


@pytest.mark.parametrize("width, height", [(11_000, 10_000), (20_000, 10_000)])
def test_a_picture_that_unpacks_to_gigabytes_is_refused_unread(tmp_path, width, height):
    held = io.BytesIO()
    Image.new("1", (8, 8)).save(held, "png")
    data = bytearray(held.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(data)
    with pytest.raises(DataError, match=r"huge.png: expected at most 100 megapixels, found .*; save it smaller"):
        media.read_picture(tmp_path / "huge.png")
