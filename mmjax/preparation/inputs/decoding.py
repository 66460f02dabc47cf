"""Pixels of an item, read so that no file can hurt: everything wrong with one comes out as `Rejected`.

A file is taken for what its content says, and only for a photo or video of the formats below: libav knows hundreds
more, among them playlists that name other files or servers. Limits are held before pixels are decoded. This runs in
worker processes and imports no JAX; PyAV is imported when the first video is read.
"""

import contextlib
import fractions
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from mmjax.media import to_rgb
from mmjax.preparation.inputs.opening import error_text, open_item, rejecting_errors
from mmjax.preparation.items import Item
from mmjax.preparation.processes.worker import beat
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # as Pillow calls them; of an animation the first picture
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,avi,gif"  # as libav does

_HEADER = 1 << 24  # bytes of a photo's file that are no pixels: previews, profiles, notes
_SAME_TIME = 5e-4  # seconds by which two readings of a frame's time may differ
_PREROLL = 1.0  # seconds to seek ahead of a frame; 0 lands behind it in files with coarse indices
_SQUARE = (0.25, 4.0)  # pixel shapes outside of this are damage


class Frame(NamedTuple):
    """A frame of a video, as it is shown; `seconds` since the first one."""

    number: int
    seconds: float
    pixels: UInt8[np.ndarray, "h w 3"]


def read_photo(item: Item, settings: Settings) -> UInt8[np.ndarray, "h w 3"]:
    """A photo in sRGB, upright as its camera meant it; of an animated picture the first one.

    Raises:
      Rejected: "too_large" by its header or its bytes, before a pixel is decoded; else "unreadable", which says what
        the file is where it is something else.
    """
    limit = settings.max_megapixels * 1e6
    with open_item(item) as file, rejecting_errors(), _own_limit():
        size = file.seek(0, os.SEEK_END)
        if size > 8 * limit + _HEADER:  # 16 bits and four channels, not compressed
            raise Rejected("too_large", f"{size} bytes, expected at most {8 * limit + _HEADER:.0f}", size)
        file.seek(0)
        try:
            opened = Image.open(file, formats=PICTURES)
        except Image.UnidentifiedImageError:
            raise Rejected("unreadable", f"expected a picture, found {_content(file)}") from None
        with opened:
            if opened.width * opened.height > limit:
                found = f"{opened.width}x{opened.height} pixels, expected at most {settings.max_megapixels:g} million"
                raise Rejected("too_large", found, opened.width * opened.height / 1e6)
            return np.asarray(to_rgb(_upright(opened)))


def video_frames(item: Item, settings: Settings) -> Iterator[Frame]:
    """Frames of a video in the order they are shown, RGB.

    Rotation and pixels that are not square are applied, so that a frame looks as a player shows it. Each frame is a
    sign of life (`worker.beat`).

    Raises:
      Rejected: "too_large" for the pixels of a frame or the number of frames, "unreadable" for all else. What comes
        before a damaged place is yielded first.
    """
    with _open_video(item, settings) as container:
        count = -1
        for count, (seconds, pixels) in enumerate(_decoded(container, settings)):
            if count >= settings.max_frames:
                raise Rejected("too_large", f"more than {settings.max_frames} frames", count)
            yield Frame(count, seconds, pixels)
        if count < 0:
            raise Rejected("unreadable", "a video without a frame")


def read_frames(
    item: Item, indices: Sequence[int], settings: Settings, times: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "n h w 3"]:
    """Frames of a video by number, as `video_frames` counts them, in the order of `indices`.

    Args:
      times: when the first and the last of them are shown, seconds. Reading then starts near the first, where the file
        allows; what is read is the same.

    Raises:
      Rejected: as `video_frames`, or "unreadable" where the video ends before the last of them.
    """
    wanted = set(indices)
    found = _from_middle(item, wanted, settings, times) if times else None
    if found is None:
        found = {}
        for frame in video_frames(item, settings):
            if frame.number in wanted:
                found[frame.number] = frame.pixels
            if frame.number == max(wanted):
                break
    if missing := sorted(wanted - found.keys()):
        raise Rejected("unreadable", f"expected frame {missing[0]}, found fewer frames")
    if len({pixels.shape for pixels in found.values()}) > 1:
        raise Rejected("unreadable", "frames of several sizes in one video")
    return np.stack([found[index] for index in indices])


def _from_middle(item, wanted, settings, times):
    """The frames wanted, counted from the one shown at `times[0]`; None where times or seeking cannot be relied on."""
    index, last, found = None, max(wanted), {}
    with _open_video(item, settings) as container, contextlib.suppress(Rejected):
        stream = container.streams.best("video")
        start = _first_time(container)
        with rejecting_errors():
            container.seek(int((start + max(times[0] - _PREROLL, 0)) / stream.time_base), stream=stream)
        for time, pixels in _decoded(container, settings, start):
            if index is None and time < times[0] - _SAME_TIME:
                continue
            index = min(wanted) if index is None else index + 1
            if index == min(wanted) and abs(time - times[0]) > _SAME_TIME:
                return None
            if index in wanted:
                found[index] = pixels
            if index == last:
                return found if abs(time - times[1]) < _SAME_TIME else None
    return None


def _first_time(container) -> float:
    """Of the first frame, which is where `video_frames` counts seconds from."""
    with rejecting_errors():
        time = next(container.decode(container.streams.best("video"))).time
    if time is None:
        raise Rejected("unreadable", "frames without times")
    return time


@contextlib.contextmanager
def _open_video(item, settings):
    import av

    with open_item(item) as file:
        with rejecting_errors():
            container = _probe(file)
        try:
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                raise Rejected("unreadable", "a file without a video stream that can be decoded")
            if container.format.name == "gif" and not _has_end(file):
                raise Rejected("unreadable", "cut off: a GIF without its end")
            if stream.disposition & av.stream.Disposition.attached_pic:
                raise Rejected("unreadable", "sound with a cover picture, no video")
            context = stream.codec_context
            _check_size(context.width, context.height, settings)
            context.thread_count = 1  # there is a worker for every core
            context.options = {"max_pixels": f"{settings.max_megapixels * 1e6:.0f}"}
            yield container
        finally:
            container.close()


def _probe(file):
    """Opens a video; what is a picture, or no video at all, is said."""
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        return av.open(file, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        found = _picture(file) or f"a file that does not open ({error_text(error)})"
        raise Rejected("unreadable", f"expected a video, found {found}") from error


def _has_end(file) -> bool:
    """Whether a GIF has its last byte; libav does not mind."""
    at = file.tell()
    file.seek(-min(1024, file.seek(0, os.SEEK_END)), os.SEEK_END)
    end = file.read().rstrip(b"\0\r\n ")
    file.seek(at)
    return end.endswith(b"\x3b")


def _decoded(container, settings, start=None):
    """Seconds and RGB of every frame, as it is shown."""
    from av.video.reformatter import VideoReformatter

    stream, reformatter = container.streams.best("video"), VideoReformatter()
    count = 0
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    with rejecting_errors():
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise Rejected("unreadable", f"cut off or damaged after frame {count}", count)
            for frame in _frames_of(packet, settings):
                beat()
                _check_size(frame.width, frame.height, settings)
                if frame.is_corrupt:
                    raise Rejected("unreadable", f"damaged at frame {count}", count)
                time = count / rate if frame.time is None else frame.time
                start = time if start is None else start
                yield time - start, _shown(frame, reformatter, stream)
                count += 1
        if container.format.name.startswith("mov") and _index_end(stream) > container.size > 0:
            raise Rejected("unreadable", f"cut off after frame {count}: its index names more", count)


def _index_end(stream) -> int:
    """Where in its file the last picture ends that an mp4's index names: a cut between two pictures damages none."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


def _frames_of(packet, settings):
    import av

    try:
        return packet.decode()
    except av.ArgumentError as error:  # libav's answer to a size beyond `max_pixels`, or beyond its own limit
        limit = f"{settings.max_megapixels:g} million"
        raise Rejected("too_large", f"frames of an impossible size, or of more than {limit} pixels") from error


def _shown(frame, reformatter, stream) -> UInt8[np.ndarray, "h w 3"]:
    shape = stream.sample_aspect_ratio or fractions.Fraction(1)
    if not _SQUARE[0] < shape < _SQUARE[1]:
        shape = fractions.Fraction(1)
    wide, high = (round(frame.width * shape), frame.height) if shape > 1 else (frame.width, round(frame.height / shape))
    pixels = reformatter.reformat(frame, width=wide, height=high, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _check_size(width: int, height: int, settings: Settings):
    if width * height > settings.max_megapixels * 1e6:
        found = f"frames of {width}x{height} pixels, expected at most {settings.max_megapixels:g} million"
        raise Rejected("too_large", found, width * height / 1e6)


@contextlib.contextmanager
def _own_limit():
    """Lifts Pillow's limit on pixels, which is lower than `settings.max_megapixels` may be, and its warnings."""
    pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of slight damage, such as to EXIF
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = pillows


def _upright(opened: Image.Image) -> Image.Image:
    """Turned by its EXIF tag; a picture with broken EXIF is taken as it is."""
    opened.load()
    try:
        return ImageOps.exif_transpose(opened)
    except Exception:
        return opened


def _picture(file) -> str:
    """In words what picture it is, if it is one."""
    file.seek(0)
    with contextlib.suppress(Exception), Image.open(file, formats=[n for n in PICTURES if n != "GIF"]) as opened:
        return f"a picture ({opened.format}); give it such a name"
    return ""


def _content(file) -> str:
    """In words what a file is that is no picture."""
    file.seek(0)
    head = file.read(512)
    if not head.strip(b"\0"):
        return "nothing but zeros" if head else "an empty file"
    file.seek(0)
    try:
        with _probe(file) as container:
            return f"a video ({container.format.name}); give it such a name"
    except Exception:
        return "text" if head.isascii() and b"\0" not in head else "something else, or a damaged one"
