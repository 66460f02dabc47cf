"""Pictures of every kind become upright RGB, and what is no picture is named."""

import io
import os
import zlib

import av
import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from mmjax import colours, pictures
from mmjax.errors import DataError
from tests.helpers.told_videos import flat, written


def picture(seed=0, height=40, width=30):
    """Smooth colours, which lossy formats keep."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR))


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return np.asarray(pictures.read_picture(tmp_path / name)).astype(int)


@pytest.mark.parametrize(
    "mode, name, within",
    [("RGB", "a.png", 0), ("RGB", "a.webp", 30), ("CMYK", "a.jpg", 12), ("RGBA", "a.png", 0), ("LAB", "a.tiff", 20)]
    + [("P", "a.png", 60), ("RGBX", "a.tiff", 0)],
)
def test_colour_of_every_mode(tmp_path, mode, name, within):
    pixels = picture()
    found = saved(tmp_path, Image.fromarray(pixels).convert(mode), name)
    assert found.shape == pixels.shape and np.abs(found - pixels).max() <= within


def test_ycbcr_is_read_and_uncompressed_where_pillow_can(tmp_path):
    """Pillow 12 does not read what it wrote itself uncompressed: that is said then, in one line."""
    pixels = picture()
    image = Image.fromarray(pixels).convert("YCbCr")
    assert np.abs(saved(tmp_path, image, "a.tiff", compression="tiff_lzw") - pixels).max() <= 4
    if int(PIL.__version__.split(".")[0]) >= 13:
        assert np.abs(saved(tmp_path, image, "b.tiff") - pixels).max() <= 4
    else:
        with pytest.raises(DataError, match="b.tiff: expected a PNG, .* found a file that does not decode"):
            saved(tmp_path, image, "b.tiff")


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
    Image.new(mode, (4, 4), (1, 2, 3) if mode == "RGB" else 0).save(tmp_path / "a.png", **options)
    with Image.open(tmp_path / "a.png") as opened:
        assert np.asarray(pictures.to_rgb(opened)).min() == 255


@pytest.mark.parametrize("form", ["gif", "png", "webp", "tiff"])
@pytest.mark.parametrize("blank", [0, 1, 3])
def test_an_animation_gives_its_first_frame_that_shows_something(tmp_path, form, blank):
    """A fade from black, or a picture that is only there from the second frame on."""
    frames = [Image.new("RGB", (30, 40), (3 * number,) * 3) for number in range(blank)]
    frames += [Image.fromarray(picture(seed)) for seed in (1, 2)]
    found = saved(tmp_path, frames[0], f"a.{form}", save_all=True, append_images=frames[1:])
    assert np.abs(found - picture(1)).mean() < 12 < np.abs(picture(1).astype(int) - picture(2)).mean()


def test_an_animation_that_shows_nothing_gives_its_first_frame(tmp_path):
    """Nobody is found in it, which is said then."""
    found = saved(
        tmp_path, Image.new("RGB", (8, 8), "red"), "a.png", save_all=True, append_images=[Image.new("RGB", (8, 8))]
    )
    np.testing.assert_array_equal(found, np.broadcast_to((255, 0, 0), (8, 8, 3)))


def test_transparency_of_all_is_a_mistake_where_there_are_colours(tmp_path):
    """As 32-bit bitmaps have it, whose fourth byte nobody filled."""
    pixels = np.concatenate([picture(), np.zeros((40, 30, 1), np.uint8)], -1)
    np.testing.assert_array_equal(saved(tmp_path, Image.fromarray(pixels), "a.png"), picture())


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", ["gray16be", "rgb48be", "rgba64be", "gray16le", "rgb48le"])
def test_samples_of_few_bits_in_sixteen_are_not_black(tmp_path, bits, channels):
    """Cameras and scanners store 12 bits so; taken for 16 they are all but black."""
    pixels = picture() if "rgb" in channels else np.repeat(picture()[..., :1], 3, 2)
    top = (1 << bits) - 1
    values = np.round(pixels / pixels.max() * top).astype(np.uint16)
    if "rgba" in channels:
        values = np.concatenate([values, np.full((40, 30, 1), 65535, np.uint16)], -1)
    values = values[..., 0] if "gray" in channels else values
    (tmp_path / "a").write_bytes(deep(np.ascontiguousarray(values), channels))
    found = np.asarray(pictures.read_picture(tmp_path / "a")).astype(int)
    assert np.abs(found - np.round(pixels / pixels.max() * 255)).max() <= 1


def deep(values, channels) -> bytes:
    """A PNG or TIFF of 16-bit samples, which Pillow writes for greys alone."""
    held = io.BytesIO()
    with av.open(held, "w", format="image2pipe") as container:
        stream = container.add_stream("png" if channels.endswith("be") else "tiff", rate=1)
        stream.height, stream.width = values.shape[:2]
        stream.pix_fmt = channels
        container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format=channels)))
        container.mux(stream.encode())
    return held.getvalue()


ORIENTATIONS = {  # of EXIF: what has to be done with the stored pixels
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize("turn", ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.avif", "a.mpo"])
def test_the_camera_s_turn_is_undone(tmp_path, turn, name):
    """Mirrored ones too, as front cameras write them."""
    exif = Image.Exif()
    exif[0x0112] = turn
    found, expected = saved(tmp_path, Image.fromarray(picture()), name, exif=exif), ORIENTATIONS[turn](picture())
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 6


@pytest.mark.parametrize("turn", [1, 4, 6])
def test_the_turn_counts_for_few_bits_too(tmp_path, turn):
    values = np.ascontiguousarray(picture().astype(np.uint16) * 16)
    exif = Image.Exif()
    exif[0x0112] = turn
    held = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = len(held).to_bytes(4, "big") + b"eXIf" + held + zlib.crc32(b"eXIf" + held).to_bytes(4, "big")
    data = deep(values, "rgb48be")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    found = np.asarray(pictures.read_picture(tmp_path / "a.png")).astype(int)
    assert np.abs(found - ORIENTATIONS[turn](picture())).max() <= 1


def test_a_colour_profile_is_converted_and_a_broken_one_ignored(tmp_path):
    pixels = picture()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "a.png", icc_profile=srgb) - pixels).max() <= 1
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "b.png", icc_profile=b"nonsense") - pixels).max() == 0
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    found = saved(tmp_path, Image.fromarray(pixels), "d.png", icc_profile=swapped)
    assert np.abs(found - pixels[..., ::-1]).max() <= 2, "a profile in which red means blue"
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of another kind than the pixels
    assert np.abs(saved(tmp_path, Image.fromarray(pixels), "c.png", icc_profile=lab) - pixels).max() == 0


def test_rgb_of_rgb_changes_nothing_and_keeps_its_notes():
    image = Image.fromarray(picture())
    image.info = {"note": "a", "transparency": (0, 0, 0)}
    once = pictures.to_rgb(image)
    assert once.info == {"note": "a"} and pictures.to_rgb(once).tobytes() == once.tobytes()


@pytest.mark.parametrize("width, height", [(11_000, 10_000), (20_000, 10_000)])
def test_a_picture_that_unpacks_to_gigabytes_is_refused_unread(tmp_path, width, height):
    held = io.BytesIO()
    Image.new("1", (8, 8)).save(held, "png")
    data = bytearray(held.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "huge.png").write_bytes(data)
    with pytest.raises(DataError, match=r"huge.png: found .*, expected at most 100 million; save it smaller"):
        pictures.read_picture(tmp_path / "huge.png")


@pytest.mark.parametrize(("light", "expected"), [(26, 100), (203, 229), (1000, 255)])
def test_bright_pictures_are_brought_into_range(tmp_path, light, expected):
    """PQ in an AVIF as phones save it, and in a PNG by its chunk of H.273's numbers; else they look washed out."""
    code = round(65535 * float(colours.pq(light)))
    tags = {"colorspace": 9, "color_range": 1, "color_trc": 16, "color_primaries": 9}
    grey = flat((code,) * 3, 1, 64, 64, np.uint16)
    (tmp_path / "a.avif").write_bytes(written(grey, "avif", "libsvtav1", "yuv420p10le", tags=tags))
    held = io.BytesIO()
    Image.fromarray((grey[0] >> 8).astype(np.uint8)).save(held, "png")
    chunk = b"cICP" + bytes((9, 16, 0, 1))
    data = held.getvalue()
    chunk = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    for name in ("a.avif", "a.png"):
        assert np.abs(np.asarray(pictures.read_picture(tmp_path / name)).astype(int) - expected).max() <= 4


def test_no_picture_starts_another_program(tmp_path):
    """EPS is a program, and Pillow has Ghostscript run it."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with open(tmp_path / "a.png", "rb") as file, pytest.raises(pictures.NoPicture):
        pictures.open_picture(file)
    with open(tmp_path / "a.png", "rb") as file:
        assert pictures.format_of(file) == ""


def test_what_cannot_be_opened_is_told_from_what_is_damaged(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(DataError, match=f"{name}: expected a picture file, found a folder or device"):
            pictures.read_picture(tmp_path / name)
    with pytest.raises(DataError, match="found one that cannot be opened .File name too long.; check its path"):
        pictures.read_picture(tmp_path / ("n" * 300 + ".png"))
    Image.fromarray(picture()).save(tmp_path / "mine.png")
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match="mine.png: .* cannot be opened .Permission denied.; check its path and perm"):
        pictures.read_picture(tmp_path / "mine.png")
