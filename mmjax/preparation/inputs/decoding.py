"""Pixels of an item, read so that no file can hurt: everything wrong with one comes out as `Rejected`.

What is decoded, and how it is shown, is the business of `mmjax.pictures` and `mmjax.video`; here stand the limits of a
preparation, its reasons, and the signs of life. This runs in worker processes and imports no JAX.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mmjax import pictures, video
from mmjax.errors import MediaError
from mmjax.preparation.inputs.opening import open_item, rejecting_errors
from mmjax.preparation.items import Item
from mmjax.preparation.processes.worker import beat
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_HEADER = 1 << 24  # bytes of a photo's file that are no pixels: previews, profiles, notes
_SAME_TIME = 5e-4  # seconds by which two readings of a frame's time may differ


class Frame(NamedTuple):
    """A frame of a video, as it is shown; `seconds` since the first one."""

    number: int
    seconds: float
    pixels: UInt8[np.ndarray, "h w 3"]


def read_photo(item: Item, settings: Settings) -> UInt8[np.ndarray, "h w 3"]:
    """A photo as `mmjax.pictures.open_picture` reads it: in sRGB, upright; of an animation the first picture in it.

    Raises:
      Rejected: "too_large" by its header or its bytes, before a pixel is decoded; "unsupported" for HEIC without the
        library for it; else "unreadable", which says what the file is where it is something else.
    """
    limit = settings.max_megapixels * 1e6
    with open_item(item) as file, rejecting_errors():
        size = file.seek(0, os.SEEK_END)
        if size > 8 * limit + _HEADER:  # 16 bits and four channels, not compressed
            raise Rejected("too_large", f"{size} bytes, expected at most {8 * limit + _HEADER:.0f}", size)
        file.seek(0)
        try:
            return np.asarray(pictures.open_picture(file, limit))
        except pictures.NoPicture:
            raise Rejected("unreadable", f"expected a picture, found {_content(file)}") from None


def video_frames(item: Item, settings: Settings) -> Iterator[Frame]:
    """Frames of a video in the order they are shown, RGB, as `mmjax.video` has them. Each is a sign of life.

    Raises:
      Rejected: "too_large" for the pixels of a frame or the number of frames, "unsupported" for what cannot be shown
        rightly, "unreadable" for all else. What comes before a damaged place is yielded first.
    """
    with _opened(item, settings) as opened:
        for count, (seconds, pixels) in enumerate(opened.frames()):
            beat()
            if count >= settings.max_frames:
                raise Rejected("too_large", f"more than {settings.max_frames} frames", count)
            yield Frame(count, seconds, pixels)


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
    with contextlib.suppress(Rejected), _opened(item, settings) as opened:
        for time, pixels in opened.frames(near=times[0]):
            beat()
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


@contextlib.contextmanager
def _opened(item, settings):
    """The item's video; what it raises comes out as `Rejected`."""
    try:
        with open_item(item) as file, _picture_named(file), video.open_video(file, _max_pixels(settings)) as opened:
            yield opened
    except MediaError as error:
        raise Rejected(error.reason, error.detail, error.value) from error


@contextlib.contextmanager
def _picture_named(file):
    """Of a file that is no video it is said what picture it is, if it is one."""
    try:
        yield
    except video.NoVideo as error:
        if form := pictures.format_of(file):
            raise Rejected("unreadable", f"expected a video, found a picture ({form}); give it such a name") from error
        raise


def _max_pixels(settings: Settings) -> float:
    return settings.max_megapixels * 1e6


def _content(file) -> str:
    """In words what a file is that is no picture."""
    file.seek(0)
    head = file.read(512)
    if not head.strip(b"\0"):
        return "nothing but zeros" if head else "an empty file"
    file.seek(0)
    if form := video.format_of(file):
        return f"a video ({form}); give it such a name"
    return "text" if head.isascii() and b"\0" not in head else "something else, or a damaged one"
