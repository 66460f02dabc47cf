"""Videos, pictures and contact sheets: what is written can be read back, and says that a model made it."""

import io
import os
import subprocess
import sys

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from PIL import Image, ImageFile

from mmjax import media, pictures
from mmjax.errors import ConfigError, DataError
from tests.test_config import ROOT

# H.264 keeps colour at half the resolution; smooth frames survive it well. Measured 43.0 dB on the frames below.
PSNR_FLOOR = 41.0


def smooth_frames(count=9, height=32, width=48):
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    planes = [90 + 3 * t + 2 * y, 60 + 2 * x + 0 * t, 200 - 2 * y - t]
    return np.stack(planes, axis=-1).astype(np.uint8)


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return frames, dict(container.metadata), float(stream.average_rate), stream.codec_context


def test_video_comes_back_with_its_frames_rate_and_notice(tmp_path):
    frames = smooth_frames()
    path = media.write_video(
        tmp_path / "new" / "clip.mp4", frames, fps=8, metadata={"prompt": "A man img", "seed": "3"}
    )
    found, tags, rate, codec = decode(path)
    assert found.shape == frames.shape and rate == 8 and codec.name == "h264" and codec.pix_fmt == "yuv420p"
    assert tags["comment"] == media.AI_NOTICE and tags["digital_source_type"] == media.DIGITAL_SOURCE_TYPE
    assert tags["prompt"] == "A man img" and tags["seed"] == "3"
    error = np.mean((found.astype(float) - frames) ** 2)
    psnr = 10 * np.log10(255**2 / error)
    print(f"PSNR after H.264: {psnr:.1f} dB")
    assert psnr > PSNR_FLOOR
    assert [p.name for p in path.parent.iterdir()] == ["clip.mp4"]  # nothing half-written stays


def moving_frames(count=9, height=128, width=160):
    """Blocks under noise, drawn anew in every frame: much to predict from and nothing that fits."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 128, (count, height // 4, width // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (blocks + rng.integers(0, 40, blocks.shape)).astype(np.uint8)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    """With all of x264's code for AVX-512 and the threads it picks, 30 encodings of these frames gave 10 files."""
    frames = moving_frames()
    found = {media.write_video(tmp_path / "clip.mp4", frames, 8).read_bytes() for _ in range(20)}
    assert len(found) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be taken from a process on Linux only")
def test_the_bytes_do_not_depend_on_the_cores(tmp_path):
    frames, cores = moving_frames(), os.sched_getaffinity(0)
    if len(cores) == 1:
        pytest.skip("this machine has one core")
    before = media.write_video(tmp_path / "clip.mp4", frames, 8).read_bytes()
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert media.write_video(tmp_path / "clip.mp4", frames, 8).read_bytes() == before
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("perturb", ["0", "85", "170"])
def test_the_bytes_do_not_depend_on_what_memory_held(tmp_path, perturb):
    """glibc fills new memory with a byte of one's choice: an encoder that reads before it writes shows."""
    expected = media.write_video(tmp_path / "here.mp4", moving_frames(), 8).read_bytes()
    code = "from tests.test_media import media, moving_frames; media.write_video('there.mp4', moving_frames(), 8)"
    env = os.environ | {"MALLOC_PERTURB_": perturb, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=env)
    assert (tmp_path / "there.mp4").read_bytes() == expected


def test_colours_are_rounded_as_every_machine_can(tmp_path):
    """Losslessly encoded, the planes are those of libswscale's plain code; its AVX-512 is a level off in places."""
    frames = moving_frames(2)
    with av.open(str(media.write_video(tmp_path / "clip.mp4", frames, 8, quality=0))) as container:
        found = [frame.to_ndarray() for frame in container.decode(video=0)]
    plain = Interpolation.BICUBIC | Interpolation.BITEXACT
    made = [av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in frames]
    expected = [frame.reformat(format="yuv420p", interpolation=plain).to_ndarray() for frame in made]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fps", [8, 16, 23.976])
def test_one_frame_and_broken_rates_work(tmp_path, fps):
    found, _, rate, _ = decode(media.write_video(tmp_path / "one.mp4", smooth_frames(1), fps))
    assert len(found) == 1 and rate == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 7, 8, 3), np.uint8),
        np.zeros((2, 8, 9, 3), np.uint8),
    ],
)
def test_frames_that_cannot_be_a_video_are_refused(tmp_path, frames):
    with pytest.raises(DataError, match="video frames: expected"):
        media.write_video(tmp_path / "clip.mp4", frames, 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -8, float("nan"), float("inf"), 1e-9, 1e12])
def test_rates_that_no_video_has_are_refused(tmp_path, fps):
    with pytest.raises(ConfigError, match=r"fps = .*: expected a number of 0.1 to 1000 \(frames a second\)"):
        media.write_video(tmp_path / "clip.mp4", smooth_frames(1), fps)
    assert not list(tmp_path.iterdir())


def test_png_comes_back_exactly_with_its_notice(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    with Image.open(media.write_png(tmp_path / "a.png", picture)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), picture)
        assert opened.text == {"Comment": media.AI_NOTICE, "DigitalSourceType": media.DIGITAL_SOURCE_TYPE}


def test_reference_pictures_are_read_upright_in_rgb(tmp_path):
    picture = Image.new("RGB", (8, 4), (10, 20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    picture.save(tmp_path / "turned.png", exif=exif)
    assert pictures.read_picture(tmp_path / "turned.png").size == (4, 8)
    Image.new("RGBA", (3, 3)).save(tmp_path / "alpha.png")
    assert pictures.read_picture(tmp_path / "alpha.png").mode == "RGB"


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_missing_or_broken_picture_is_named(tmp_path, content):
    path = tmp_path / "face.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="face.png: expected .* found") as error:
        pictures.read_picture(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("filled", [False, True])  # True: what face_recognition sets for the whole process
def test_a_truncated_picture_is_named(tmp_path, monkeypatch, filled):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", filled)
    path = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="does not decode"):
        pictures.read_picture(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is filled


@pytest.mark.parametrize("count, total, expected", [(4, 13, [0, 4, 8, 12]), (4, 3, [0, 1, 2]), (1, 5, [0])])
def test_frames_are_spread_from_first_to_last(count, total, expected):
    assert media.spread(count, total) == expected


def test_contact_sheet_shows_each_picture_where_its_label_is():
    red, green = np.zeros((16, 16, 3), np.uint8), np.zeros((300, 150, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    rows = [
        media.SheetRow([("reference", red), ("a frame with quite a long label", green)], title="person 1: a woman"),
        media.SheetRow([("reference", green)]),
    ]
    sheet = media.contact_sheet(rows, title="title " * 60, cell_height=96)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    is_red, is_green = (np.all(sheet == colour, axis=-1) for colour in ((255, 0, 0), (0, 255, 0)))
    assert is_red.sum() == 96 * 96 and is_green.sum() == 2 * 96 * 48
    right_of = np.argwhere(is_green)[:, 1].max()
    assert np.argwhere(is_red)[:, 1].max() < right_of < sheet.shape[1]
    below = sheet[np.argwhere(is_red)[:, 0].max() + 1 :][:18]  # the label's line
    assert (below.min(axis=-1) < 160).sum() > 40


def test_psnr_in_decibels():
    black, white = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 255, np.uint8)
    assert media.psnr(black, white) == 0
    assert media.psnr(black, black) == float("inf")
    assert media.psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


def test_a_gif_plays_shrunk_and_says_that_a_model_made_it():
    frames = smooth_frames(height=40, width=960)
    with Image.open(io.BytesIO(media.encode_gif(frames, fps=8))) as found:
        assert (found.format, found.size, found.n_frames) == ("GIF", (480, 20), 9)
        assert found.info["duration"] in (120, 130) and found.info["comment"].decode() == media.AI_NOTICE
        found.seek(8)
        last = np.asarray(found.convert("RGB"), float)
    expected = np.asarray(Image.fromarray(frames[8]).resize((480, 20), Image.Resampling.LANCZOS), float)
    assert np.abs(last - expected).mean() < 8  # of 255; 256 colours


@pytest.mark.parametrize("count, size", [(1, (5, 8)), (2, (5, 14)), (3, (10, 14)), (4, (10, 14)), (5, (10, 21))])
def test_clips_side_by_side_are_all_there(count, size):
    videos = np.arange(count, dtype=np.uint8)[:, None, None, None, None] + np.zeros((2, 5, 7, 3), np.uint8)
    found = media.side_by_side(videos)
    assert found.shape == (2, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert [int((found[1] == number).all(-1).sum()) for number in range(count)] == [35] * count
