"""A video, an animation or a folder of frames to the frames that are looked at. Runs in worker processes; no JAX."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mmjax import pictures, video
from mmjax.errors import DataError, MediaError, error_text
from mmjax.evaluation.observation import DecodedVideo

FOLDER_FPS = 8.0  # frames a second of a folder of frames, which says nothing of time; CogVideoX's own
MOST_FRAMES = 100_000  # in a file

Choose = Callable[[int], Sequence[int]]  # frames of a video -> numbers of those looked at, ascending, distinct


def decode_video(path: Path, choose: Choose) -> DecodedVideo:
    """The chosen frames of a file or a folder of frames.

    Raises `DataError` for what is no video, is damaged anywhere, has no frame, or has frames of several sizes; it says
    what was found.
    """
    if not path.is_dir() and not path.is_file():  # a pipe or a device might never end
        raise DataError(f"expected a video file, found {'a pipe or a device' if path.exists() else 'none'}")
    try:
        if path.is_dir():
            return _decode_folder(path, choose)
        if path.suffix.lower() in (".webp", ".apng"):
            return _decode_animation(path, choose)
        return _decode_file(path, choose)
    except MediaError as error:
        raise DataError(f"expected a video, found {error.detail}") from error
    except OSError as error:
        raise DataError(f"expected a video that can be read, found {error_text(error)}") from error


def _decode_file(path: Path, choose: Choose) -> DecodedVideo:
    """In two passes: how many frames there are is known at the end alone, and all of them may be too many to keep."""
    with open(path, "rb") as file, video.open_video(file) as opened:
        seconds = opened.times()
    with open(path, "rb") as file, video.open_video(file) as opened:
        return _kept(opened.frames(), seconds, choose)


def _decode_animation(path: Path, choose: Choose) -> DecodedVideo:
    with open(path, "rb") as file:
        seconds = [shown for shown, _ in pictures.animation_frames(file)]
    if len(seconds) > 1 and not seconds[-1]:  # it says nothing of time
        seconds = [number / FOLDER_FPS for number in range(len(seconds))]
    with open(path, "rb") as file:
        return _kept(pictures.animation_frames(file), seconds, choose)


def _kept(frames: Iterator[tuple[float, Any]], seconds: list[float], choose: Choose) -> DecodedVideo:
    numbers = _chosen(choose, len(seconds))
    wanted, kept = set(numbers), []
    for number, (_, pixels) in enumerate(frames):
        if number in wanted:
            kept.append(np.asarray(pixels))
        if number == numbers[-1]:
            break
    return _decoded(kept, [seconds[number] for number in numbers], numbers, len(seconds))


def _decode_folder(folder: Path, choose: Choose) -> DecodedVideo:
    found = (path for path in folder.iterdir() if path.suffix.lower() in pictures.ENDINGS)
    names = sorted((path for path in found if not path.name.startswith(".")), key=_by_number)
    numbers = _chosen(choose, len(names))
    kept = [np.asarray(pictures.read_picture(names[number])) for number in numbers]
    return _decoded(kept, [number / FOLDER_FPS for number in numbers], numbers, len(names))


def _by_number(path: Path) -> tuple[str, int, str]:
    """Frame 2 comes before frame 10."""
    number = re.search(r"\d*$", path.stem).group()
    return path.stem.removesuffix(number), int(number or 0), path.name


def _chosen(choose: Choose, total: int) -> list[int]:
    if not 0 < total <= MOST_FRAMES:
        raise MediaError("too_large" if total else "unreadable", f"{total} frames, expected 1 to {MOST_FRAMES}")
    return list(map(int, choose(total)))


def _decoded(kept: list[UInt8[np.ndarray, "h w 3"]], seconds: list[float], numbers: list[int], total: int):
    sizes = {pixels.shape for pixels in kept}
    if len(sizes) > 1:
        raise MediaError("unreadable", f"frames of {len(sizes)} sizes in one video")
    return DecodedVideo(np.stack(kept), np.asarray(seconds, float), np.asarray(numbers, int), total)
