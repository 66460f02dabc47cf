"""Videos are shown as a player shows them, whatever they say of themselves: turned, wide, bright, interlaced."""

import io
import types
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from mmjax import colours, deinterlacing, media, video
from mmjax.errors import MediaError
from tests.helpers.hostile_files import movie, picture
from tests.helpers.told_videos import combed, flat, with_display_matrix, written


def frames_of(data: bytes, **options) -> list:
    with video.open_video(io.BytesIO(data), **options) as opened:
        return list(opened.frames())


def first(data: bytes) -> np.ndarray:
    return frames_of(data)[0][1]


MATRICES = {  # a, b, c, d
    "plain": (1, 0, 0, 1),
    "a quarter clockwise": (0, 1, -1, 0),
    "half": (-1, 0, 0, -1),
    "three quarters": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down mirrored": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed the other way": (0, -1, -1, 0),
}


def players_filters(matrix) -> list[tuple[str, str]]:
    """What ffmpeg's autorotation puts behind a decoder (ffplay.c and ffmpeg_filter.c, behind `get_rotation`)."""
    a, b, c, d = matrix
    theta = np.degrees(np.arctan2(b, a)) % 360  # clockwise
    if abs(theta - 90) < 1:
        return [("transpose", "cclock_flip" if c > 0 else "clock")]
    if abs(theta - 180) < 1:
        return [*([("hflip", "")] if a < 0 else []), *([("vflip", "")] if d < 0 else [])]
    if abs(theta - 270) < 1:
        return [("transpose", "clock_flip" if c < 0 else "cclock")]
    return [("vflip", "")] if d < 0 else []


def as_a_player(frame, filters) -> np.ndarray:
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))]
    nodes += [graph.add(name, options or None) for name, options in filters] + [graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    graph.vpush(frame)
    return graph.vpull().to_ndarray(format="rgb24")


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("name", MATRICES)
def test_every_display_matrix_is_shown_as_ffmpeg_shows_it(name, scale):
    matrix = MATRICES[name]
    plain = movie(frames=1)
    with av.open(io.BytesIO(plain)) as container:
        stored = next(container.decode(video=0))
        expected = as_a_player(stored.reformat(format="rgb24"), players_filters(matrix))
    found = first(with_display_matrix(plain, [scale * value for value in matrix]))
    np.testing.assert_array_equal(found, expected)


def test_a_display_matrix_that_says_nothing_turns_nothing():
    plain = movie(frames=1)
    np.testing.assert_array_equal(first(with_display_matrix(plain, (0, 0, 0, 0))), first(plain))


@pytest.mark.parametrize(
    ("aspect", "size"), [((2, 1), (48, 128)), ((1, 2), (96, 64)), ((12, 11), (48, 70)), ((50, 1), (48, 64))]
)
def test_pixels_become_square_before_the_frame_is_turned(aspect, size):
    """A shape of 50 to 1 is damage."""
    data = written([picture(48, 64)], aspect=Fraction(*aspect))
    assert first(data).shape[:2] == size
    assert first(with_display_matrix(data, MATRICES["a quarter clockwise"])).shape[:2] == size[::-1]


def test_frames_that_grow_too_large_when_they_are_shown_are_refused():
    data = written([picture(48, 64)], aspect=Fraction(2, 1))
    with pytest.raises(MediaError, match="frames of 128x48 pixels, expected at most 0.005 million") as caught:
        frames_of(data, max_pixels=5000)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("colour", [(200, 30, 60), (20, 180, 40), (128, 128, 128), (240, 220, 190)])
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("whole", [1, 2])
def test_matrix_and_range_are_those_that_the_file_says(colour, matrix, whole):
    data = written(flat(colour), tags={"colorspace": matrix, "color_range": whole})
    assert np.abs(first(data).astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("height", "matrix"), [(480, 5), (720, 1)])
def test_large_videos_that_say_nothing_are_of_bt709(height, matrix):
    """As players have it; ffmpeg alone takes BT.601 for all."""
    data = written(flat((200, 30, 60), 1, height, 64), matrix=matrix)
    assert np.abs(first(data).astype(int) - (200, 30, 60)).max() <= 3


@pytest.mark.parametrize("height", [64, 720])
def test_our_own_videos_come_back_in_their_colours(tmp_path, height):
    path = media.write_video(tmp_path / "a.mp4", flat((200, 30, 60), 1, height, 64), 8)
    assert np.abs(first(path.read_bytes()).astype(int) - (200, 30, 60)).max() <= 3


def codes(light_or_code, transfer) -> np.ndarray:
    """A grey of 16 bits whose light is given in cd/m2 (PQ), or whose code is (HLG)."""
    code = colours.pq(light_or_code) if transfer == 16 else light_or_code
    return flat((round(65535 * float(code)),) * 3, dtype=np.uint16)


@pytest.mark.parametrize(
    ("transfer", "value", "expected"),
    # by hand from BT.2408: 26 cd/m2 is the grey card of a white of 203, HLG has it at 0.38 and the white at 0.75
    [(16, 0, 0), (16, 26, 100), (16, 203, 229), (16, 1000, 255), (16, 4000, 255), (18, 0.0, 0), (18, 0.38, 100)]
    + [(18, 0.75, 229), (18, 1.0, 255)],
)
def test_high_dynamic_range_is_brought_into_range(transfer, value, expected):
    tags = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": 9}
    data = written(codes(value, transfer), codec="libx264", pix_fmt="yuv420p10le", tags=tags)
    found = first(data).astype(int)
    assert np.ptp(found) <= 3 and abs(found.mean() - expected) <= 3


@pytest.mark.parametrize("primaries", [9, 12])
def test_wide_gamuts_are_narrowed(primaries):
    """A grey stays; sRGB's red, which fills less of a wide gamut, comes back as it was."""
    name = colours.PRIMARIES[primaries]
    linear = np.linalg.inv(colours._matrix(name).astype(np.float64)) @ (0.8, 0.02, 0.02)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    tags = {"colorspace": 9, "color_range": 1, "color_trc": 1, "color_primaries": primaries}
    data = written(flat(np.round(255 * coded).astype(np.uint8)), tags=tags)
    assert np.abs(first(data)[8, 8].astype(int) - (231, 39, 39)).max() <= 6
    assert np.abs(first(written(flat((90, 90, 90)), tags=tags)).astype(int) - 90).max() <= 3


@pytest.mark.parametrize("transfer", [16, 18])
def test_bright_colours_keep_their_hue(transfer):
    """What is brighter than the screen becomes darker as a whole; a knee for each colour would bleach it."""
    code = colours.pq(np.array([1000.0, 250.0, 60.0])) if transfer == 16 else np.array([1.0, 0.75, 0.5])
    values = np.round(65535 * code).astype(np.uint16)[None, None]
    name = colours.TRANSFERS[transfer]
    found = colours._srgb_light(colours.to_srgb(values, name, "srgb")[0, 0] / 255)
    light = np.array([1000.0, 250.0, 60.0]) if transfer == 16 else colours._hlg_light(code)
    np.testing.assert_allclose(found / found.max(), light / light.max(), atol=0.01)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_that_names_no_primaries_is_of_bt2020(transfer):
    """As BT.2100 has it with both curves."""
    frames = flat((40000, 20000, 20000), dtype=np.uint16)
    said, unsaid = (
        first(
            written(
                frames,
                pix_fmt="yuv420p10le",
                tags={"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": primaries},
            )
        )
        for primaries in (9, 2)
    )
    np.testing.assert_array_equal(said, unsaid)
    assert said[8, 8, 0] > said[8, 8, 1] + 40


def combs(pixels) -> float:
    return float(np.abs(np.diff(pixels[..., 1].astype(int), axis=0)).mean())


@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("matroska", "libx264"), ("mpeg", "mpeg2video")])
def test_interlaced_frames_have_no_combs(form, codec):
    interlaced = {"x264-params": "tff=1:interlaced=1:asm=sse4.2"} if codec == "libx264" else {"flags": "+ilme+ildct"}
    data = written(combed(), form, codec, options=interlaced)
    with av.open(io.BytesIO(data)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = frames_of(data)
    assert [round(25 * seconds) for seconds, _ in found] == list(range(len(stored))) == list(range(12))
    for (_, pixels), raw in zip(found[1:-1], stored[1:-1], strict=True):
        assert combs(raw) > 8 and combs(pixels) < 0.5
    assert combs(found[0][1]) < 1 and combs(found[-1][1]) < 1, "which have a neighbour on one side alone"
    at = [int(np.argmax(pixels[32, :, 1] > 128)) for _, pixels in found]
    assert np.diff(at).min() >= 5 and np.diff(at).max() <= 7, "the bar goes on by a frame's way"


def test_progressive_frames_meet_no_filter():
    data = written(combed())
    with av.open(io.BytesIO(data)) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack([pixels for _, pixels in frames_of(data)]), np.stack(stored))


class Frame:
    """A frame of the deinterlacer's: its number is in its pixels."""

    def __init__(self, number, interlaced, height=64):
        pixels = combed(12, height)[number]
        self.of = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        self.of.time_base = Fraction(1, 25)
        self.number, self.interlaced_frame = number, interlaced

    def __getattr__(self, name):
        return getattr(self.of, name)


def deinterlaced(frames, monkeypatch):
    """(times, heights) of what comes out; of each frame its number is the time."""
    push = av.filter.Graph.vpush
    graph = types.SimpleNamespace
    fields, found = deinterlacing.Deinterlacer(), []

    def made(frame):
        whole = real(frame)
        return graph(vpush=lambda each: push(whole, each.of if each else None), vpull=whole.vpull)

    real = deinterlacing._graph
    monkeypatch.setattr(deinterlacing, "_graph", made)
    for frame in frames:
        found += fields.add(float(frame.number), frame)
    found += fields.finish()
    return [time for time, _ in found], [frame.height for _, frame in found]


def test_films_that_change_in_the_middle(monkeypatch):
    """Whole frames, then interlaced ones, then those of another size: each is shown once, at its time."""
    frames = [Frame(number, interlaced=number > 2) for number in range(7)]
    frames += [Frame(number, interlaced=True, height=32) for number in range(7, 10)]
    frames += [Frame(number, interlaced=False, height=48) for number in range(10, 12)]
    times, heights = deinterlaced(frames, monkeypatch)
    assert times == list(range(12)) and heights == [64] * 7 + [32] * 3 + [48] * 2


@pytest.mark.parametrize("interlaced", [0, 1])
def test_reading_from_the_middle_gives_the_same_pixels(interlaced):
    options = {"x264-params": f"interlaced={interlaced}:asm=sse4.2", "g": "10"}
    data = written(combed(80, width=640), options=options)
    whole = {round(25 * seconds): pixels for seconds, pixels in frames_of(data)}
    with video.open_video(io.BytesIO(data)) as opened:
        some = {round(25 * seconds): pixels for seconds, pixels in opened.frames(near=2.0)}
    assert 10 < min(some) < 50 and max(some) == max(whole) == 79
    for number in range(50, 80):
        np.testing.assert_array_equal(some[number], whole[number])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            lambda: written(flat((9, 9, 9)), tags={"colorspace": 14, "color_trc": 16}),
            "colours of the matrix 14 of H.273",
        ),
        (lambda: written(flat((9, 9, 9)), tags={"colorspace": 8}), "colours of the matrix 8 of H.273"),
        (lambda: written(flat((9, 9, 9)), tags={"color_trc": 8}), "colours with a linear transfer"),
        (lambda: written(flat((9, 9, 9)), options={"x264-params": "frame-packing=3"}), "stereoscopic"),
    ],
)
def test_what_cannot_be_shown_rightly_is_refused(data, message):
    with pytest.raises(MediaError, match=message) as caught:
        frames_of(data())
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    ("note", "message"), [("DOVI_RPU_BUFFER", "Dolby Vision without a base layer"), ("SPHERICAL", "a spherical")]
)
def test_notes_of_a_frame_are_heeded(note, message):
    kind = types.SimpleNamespace(type=types.SimpleNamespace(name=note))
    frame = types.SimpleNamespace(side_data=[kind], color_trc=2, color_primaries=2, colorspace=2)
    with pytest.raises(MediaError, match=message):
        video._Picture(None, 1e6).of(frame)


def test_what_shows_through_is_white():
    held = io.BytesIO()
    pixels = np.dstack([picture(48, 64), np.zeros((48, 64), np.uint8)])
    pixels[:24, :, 3] = 255
    with av.open(held, "w", format="mov") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format="argb")))
        container.mux(stream.encode())
    found = first(held.getvalue())
    np.testing.assert_array_equal(found[:24], picture(48, 64)[:24])
    assert found[24:].min() == 255


CONTAINERS = {  # by a name's ending: format, codec, size
    **dict.fromkeys(("mp4", "m4v", "mov", "3gp"), ("mp4", "libx264", (64, 48))),
    **{"f4v": ("f4v", "libx264", (64, 48)), "mkv": ("matroska", "libx264", (64, 48))},
    **{"webm": ("webm", "libvpx", (64, 48)), "ogv": ("ogg", "libvpx", (64, 48)), "flv": ("flv", "flv1", (64, 48))},
    **{"avi": ("avi", "mpeg4", (64, 48)), "wmv": ("asf", "wmv2", (64, 48)), "mpg": ("mpeg", "mpeg2video", (64, 48))},
    **{"m2v": ("mpeg2video", "mpeg2video", (64, 48)), "ts": ("mpegts", "libx264", (64, 48))},
    **{"mts": ("mpegts", "mpeg2video", (64, 48)), "mxf": ("mxf", "mpeg2video", (64, 48))},
    **{"vob": ("vob", "mpeg2video", (64, 48)), "dv": ("dv", "dvvideo", (720, 576))},
    **{"y4m": ("yuv4mpegpipe", "wrapped_avframe", (64, 48)), "gif": ("gif", "gif", (64, 48))},
}


@pytest.mark.parametrize("ending", CONTAINERS)
def test_every_container_is_read(ending):
    form, codec, size = CONTAINERS[ending]
    found = frames_of(movie(form, codec, frames=5, size=size))
    height, width = found[2][1].shape[:2]
    expected = np.asarray(Image.fromarray(picture(*size[::-1], 2)).resize((width, height))).astype(int)
    assert len(found) == 5 and np.abs(found[2][1] - expected).mean() < 40


held = io.BytesIO()
Image.new("RGB", (16, 16)).save(held, "png")
PNG = held.getvalue()  # which libav opens as a video of one frame


@pytest.mark.parametrize(
    "content", [b"", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", bytes(5000), b"<html>404</html>", PNG], ids=range(5)
)
def test_what_is_no_video_is_told(content):
    with pytest.raises(video.NoVideo, match="does not open as a video"):
        frames_of(content)
    assert video.format_of(io.BytesIO(content)) == ""
