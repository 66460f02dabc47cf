"""Frames that are looked at, from files, animations and folders; and what is said of what cannot be read."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from mmjax import media
from mmjax.errors import DataError
from mmjax.evaluation.decoding import decode_video
from tests.helpers import hostile_files


def middle(total):
    return [0, total // 2, total - 1]


def shades(count, size=(24, 32)):
    return [Image.fromarray(np.full((*size, 3), 20 * number, np.uint8)) for number in range(count)]


def levels(video):
    return [round(float(frame.mean()) / 20) for frame in video.frames]


def write(path, count=9):
    """The same nine shades of grey as a video of some kind."""
    first, *others = shades(count)
    if path.suffix == ".mp4":
        media.write_video(path, np.stack([np.asarray(each) for each in (first, *others)]), 8)
    elif path.suffix == "":
        path.mkdir()
        for number, each in enumerate((first, *others)):
            each.save(path / f"f{number:03d}.png")
    else:
        more = {"lossless": True} if path.suffix == ".webp" else {}
        first.save(path, save_all=True, append_images=others, duration=125, loop=0, **more)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.apng", "frames"])
def test_the_chosen_frames_of_every_kind(tmp_path, name):
    found = decode_video(write(tmp_path / name), middle)
    assert levels(found) == [0, 4, 8] and found.total == 9 and found.numbers.tolist() == [0, 4, 8]
    np.testing.assert_allclose(found.seconds, [0, 0.5, 1], atol=0.05 if name == "a.gif" else 1e-3)  # hundredths
    assert found.rate == pytest.approx(2, rel=0.05)
    assert found.frames.dtype == np.uint8 and found.frames.shape == (3, 24, 32, 3)


def test_one_frame_has_no_rate(tmp_path):
    found = decode_video(write(tmp_path / "a.gif", 1), lambda total: [0])
    assert found.total == 1 and np.isnan(found.rate)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.mp4", b"", "expected a video, found"),
        ("a.mp4", b"poem", "expected a video, found"),
        ("a.webp", b"RIFF....WEBP", "expected a video"),
        ("a.gif", b"GIF89a", "expected a video"),
        ("cut.mp4", None, "cut off|damaged|unreadable|expected a video"),
    ],
)
def test_what_is_no_video_is_said(tmp_path, name, content, match):
    content = hostile_files.movie(frames=12)[:-700] if content is None else content
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=match):
        decode_video(tmp_path / name, middle)


def test_what_never_ends_is_not_begun(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/zero")
    for name, found in (("a.mp4", "a pipe or a device"), ("b.mp4", "a pipe or a device"), ("c.mp4", "none")):
        with pytest.raises(DataError, match=f"found {found}"):
            decode_video(tmp_path / name, middle)


def test_frames_of_several_sizes_are_no_video(tmp_path):
    folder = write(tmp_path / "frames", 3)
    Image.new("RGB", (8, 8)).save(folder / "f001.png")
    with pytest.raises(DataError, match="frames of 2 sizes"):
        decode_video(folder, middle)


def test_a_bomb_of_pixels_is_not_unpacked(tmp_path):
    with io.BytesIO() as file:
        Image.new("1", (20_000, 20_000)).save(file, "PNG")
        (tmp_path / "a.apng").write_bytes(file.getvalue())
    with pytest.raises(DataError, match="expected a video"):
        decode_video(tmp_path / "a.apng", middle)


def test_frame_two_comes_before_frame_ten(tmp_path):
    (tmp_path / "walk").mkdir()
    for number, each in enumerate(shades(12)):
        each.save(tmp_path / "walk" / f"{number}.png")
    assert levels(decode_video(tmp_path / "walk", lambda total: range(total))) == list(range(12))
