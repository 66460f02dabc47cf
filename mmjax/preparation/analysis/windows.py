"""Windows of an item: a photo is one of a single frame, a video is cut into windows of a record's length.

A video is read once, from its first frame to its last: frames are taken at the records' rate and cut into windows that
hold no cut, so that no more than a window's frames are in memory.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from mmjax.preparation.analysis.cuts import CutDetector
from mmjax.preparation.inputs.decoding import Frame, read_photo, video_frames
from mmjax.preparation.items import Dropped, Item
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_SHOWN = 144  # pixels, longer side of the small pictures for the report
_SLACK = 0.25  # of the time between two frames of a record, by which one may be early
_GAP = 1.75  # of the same, between two frames in a row
_SLOWEST = 0.9  # of the records' rate, that a window has on average


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Frames in a row of one shot, or a photo.

    turns: quarter turns to the left by which `frames` differ from the source's.
    """

    key: str
    frames: UInt8[np.ndarray, "F h w 3"]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    shot: int
    turns: int = 0


def photo_window(item: Item, settings: Settings) -> Window:
    """The one window of a photo. Raises `Rejected` for a file that cannot be read."""
    return Window(item.key, read_photo(item, settings)[None], (0,), (0.0,), 0)


def video_windows(item: Item, length: int, fps: float, settings: Settings, dropped: list[Dropped]) -> Iterator[Window]:
    """Windows of `length` frames at `fps` frames a second, in order.

    Shots without any are added to `dropped`, and so is damage behind the first frame.

    Raises:
      Rejected: not a frame can be read.
    """
    taken = _Taken(item, length, fps, dropped)
    cut = CutDetector(settings.cut_threshold)
    for frame in _readable(item, settings, dropped):
        if cut(frame.pixels) or taken.of_another_size(frame):
            taken.start_shot(frame.seconds)
        window = taken.add(frame)
        if window is not None:
            yield window
    taken.end_shot()


class _Taken:
    """The frames of a shot that were taken for the next window."""

    def __init__(self, item: Item, length: int, fps: float, dropped: list[Dropped]):
        self._item, self._length, self._fps = item, length, fps
        self._dropped = dropped
        self._frames: list[Frame] = []
        self._shot = 0
        self._ended = 0  # windows of this shot that were cut, whole or not
        self._due = 0.0  # seconds, when the next frame is to be taken

    def of_another_size(self, frame: Frame) -> bool:
        return bool(self._frames) and frame.pixels.shape != self._frames[0].pixels.shape

    def start_shot(self, seconds: float) -> None:
        self.end_shot()
        self._frames = []
        self._shot += 1
        self._ended = 0
        self._due = seconds

    def end_shot(self) -> None:
        """Reports a shot that ended before its first window; what is left behind a window is not worth a word."""
        if self._frames and not self._ended:
            detail = f"{len(self._frames)} frames at {self._fps:g} a second, expected {self._length}"
            self._drop("too_short", detail, len(self._frames), self._frames[0])

    def add(self, frame: Frame) -> Window | None:
        """Takes a frame that is due; the window that it completes, if it does and has the records' rate."""
        step = 1 / self._fps
        if frame.seconds < self._due - _SLACK * step:
            return None
        if self._frames and frame.seconds - self._frames[-1].seconds > _GAP * step:
            if len(self._frames) > 1 or not self._ended:  # once where every frame is late
                self._drop_low_rate(1 / (frame.seconds - self._frames[-1].seconds))
            self._end_window()
        self._frames.append(frame)
        self._due = max(self._due, frame.seconds - step) + step
        return self._complete() if len(self._frames) == self._length else None

    def _complete(self) -> Window | None:
        numbers, times, pixels = zip(*self._frames, strict=True)
        rate = (len(times) - 1) / (times[-1] - times[0])
        if rate < _SLOWEST * self._fps:
            self._drop_low_rate(rate)
            window = None
        else:
            window = Window(f"{self._item.key}#{numbers[0]}", np.stack(pixels), numbers, times, self._shot)
        self._end_window()
        return window

    def _end_window(self) -> None:
        self._frames = []
        self._ended += 1

    def _drop_low_rate(self, rate: float) -> None:
        last = self._frames[-1]
        detail = f"{rate:.1f} frames a second at {last.seconds:.1f} s, expected {self._fps:g}"
        self._drop("low_rate", detail, rate, last)

    def _drop(self, reason: str, detail: str, value: float, shown: Frame) -> None:
        key = f"{self._item.key}#{self._frames[0].number}"
        self._dropped.append(Dropped(key, reason, detail, value, small(shown.pixels)))


def small(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "small_h small_w 3"]:
    """A picture for the report, its longer side 144 pixels at most."""
    scale = min(1.0, _SHOWN / max(picture.shape[:2]))
    size = tuple(max(1, round(edge * scale)) for edge in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _readable(item: Item, settings: Settings, dropped: list[Dropped]) -> Iterator[Frame]:
    """A video's frames. Damage behind the first one ends it and is added to `dropped`."""
    frame = None
    try:
        for frame in video_frames(item, settings):
            yield frame
    except Rejected as error:
        if frame is None:
            raise
        dropped.append(Dropped(item.key, error.reason, f"after frame {frame.number}: {error.detail}", error.value))
