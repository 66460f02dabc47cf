"""Pixels of an item, read so that no file can hurt: everything wrong with one comes out as `Rejected`.

A file is taken for what its content says, and only for a photo or video of the formats below: libav knows hundreds
more, among them playlists that name other files or servers. Limits are held before pixels are decoded. This runs in
worker processes and imports no JAX.
"""

import contextlib
import fractions
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from PIL import Image, ImageOps

from mmjax.media import to_rgb
from mmjax.preparation.analysis.workers import beat
from mmjax.preparation.inputs import datasets
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # as Pillow calls them; of an animation the first picture
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,avi,gif"  # as libav does

_HEADER = 1 << 24  # bytes of a photo's file that are no pixels: previews, profiles, notes
_SAME_TIME = 5e-4  # seconds by which two readings of a frame's time may differ
_PREROLL = 1.0  # seconds to seek ahead of a frame; 0 lands behind it in files with coarse indices
_SQUARE = (0.25, 4.0)  # pixel shapes outside of this are damage

Frame = tuple[int, float, UInt8[np.ndarray, "h w 3"]]


def read_bytes(item: Item, limit: int) -> bytes:
    """The item's bytes as they are stored. Raises `Rejected` where they cannot be read, or are more than `limit`."""
    with open_item(item) as file, _troubles():
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Rejected("too_large", f"expected at most {limit} bytes, found more")
    return data


@contextlib.contextmanager
def open_item(item: Item) -> Iterator[io.BufferedReader | io.BytesIO]:
    """A seekable file of the item's bytes alone, also where they are a member of a tar or an example of a data set.

    Raises:
      Rejected: "unreadable": no such file, no permission, or not a file at all (a pipe would be waited for).
    """
    if item.dataset:
        yield io.BytesIO(datasets.read_example(item.path, item.dataset, item.offset))
        return
    with _troubles():
        descriptor = os.open(item.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as raw:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Rejected("unreadable", "expected a file, found a pipe, device or folder of that name")
        size = found.st_size if item.size is None else item.size
        if item.offset + size > found.st_size:
            raise Rejected("unreadable", "its archive is shorter than when it was listed")
        yield io.BufferedReader(_Window(raw, item.offset, size), 1 << 16)


def read_photo(item: Item, settings: Settings) -> UInt8[np.ndarray, "h w 3"]:
    """A photo in sRGB, upright as its camera meant it; of an animated picture the first one.

    Raises:
      Rejected: "too_large" by its header or its bytes, before a pixel is decoded; else "unreadable", which says what
        the file is where it is something else.
    """
    limit = settings.max_megapixels * 1e6
    with open_item(item) as file, _troubles(), _own_limit():
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
    """Frames of a video in the order they are shown: number, seconds since the first one, RGB.

    Rotation and pixels that are not square are applied, so that a frame looks as a player shows it. Each frame is a
    sign of life (`workers.beat`).

    Raises:
      Rejected: "too_large" for the pixels of a frame or the number of frames, "unreadable" for all else. What comes
        before a damaged place is yielded first.
    """
    with _open_video(item, settings) as container:
        count = -1
        for count, (seconds, pixels) in enumerate(_decoded(container, settings)):
            if count >= settings.max_frames:
                raise Rejected("too_large", f"more than {settings.max_frames} frames", count)
            yield count, seconds, pixels
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
        for index, _, pixels in video_frames(item, settings):
            if index in wanted:
                found[index] = pixels
            if index == max(wanted):
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
        with _troubles():
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
    with _troubles():
        time = next(container.decode(container.streams.best("video"))).time
    if time is None:
        raise Rejected("unreadable", "frames without times")
    return time


@contextlib.contextmanager
def _open_video(item, settings):
    with open_item(item) as file:
        with _troubles():
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
    """Opens a video; what is a picture, or no video at all, is told."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        return av.open(file, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        found = _picture(file) or f"a file that does not open ({_text(error)})"
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
    stream, reformatter, count = container.streams.best("video"), VideoReformatter(), 0
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    with _troubles():
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


def _frames_of(packet, settings):
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
def _troubles():
    """What the libraries raise of a damaged file, as `Rejected`."""
    try:
        yield
    except Rejected:
        raise
    except MemoryError:
        raise Rejected("too_large", "it does not fit into the memory that a worker may use") from None
    except Exception as error:  # whatever comes to hand: a damaged file may lead anywhere in a library
        raise Rejected("unreadable", f"it does not decode ({_text(error)})") from error


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


def _text(error: BaseException) -> str:
    told = getattr(error, "strerror", None) or str(error)  # libav's has no more to say than this
    return told.strip().partition("\n")[0][:200] or type(error).__name__


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, raw: io.FileIO, offset: int, size: int):
        self._raw, self._offset, self._size, self._at = raw, offset, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a place before the start of the file")
        self._at = base + offset
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        self._raw.seek(self._offset + self._at)
        count = max(0, min(len(buffer), self._size - self._at))
        read = self._raw.readinto(memoryview(buffer)[:count]) if count else 0
        self._at += read
        return read
