"""What was seen is kept: a run that was stopped goes on, and one with another statistic need not look again.

One file for each video or picture, named by what it depends on: the bytes of the file and everything that changes what
is seen. It is written whole or not at all, so that whatever ends a run leaves only what is right. Plain arrays and
JSON; nothing in it is executed when it is read.
"""

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax import files
from mmjax.evaluation.metrics.interface import Score
from mmjax.evaluation.observation import FacesSeen, Observation

_LARGE, _END = 2**31, 2**20  # bytes
_FACES = tuple(field.name for field in dataclasses.fields(FacesSeen) if field.name != "embeddings")


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """Of one video or picture: what was seen, or why nothing could be (`problem`)."""

    observation: Observation | None
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)
    problem: str = ""


class Store:
    """The kept files of a folder.

    Args:
      depends_on: plain JSON values that change what is seen: settings, fingerprints, versions of metrics.
    """

    def __init__(self, folder: Path, depends_on: Any):
        self._folder = folder
        self._settings = json.dumps(depends_on, sort_keys=True)

    def key(self, path: Path, *more: str) -> str:
        """Of a file or a folder of frames by its content, and of what else it is looked at with.

        Raises `OSError` for what is no file that can be read.
        """
        found = hashlib.sha256(self._settings.encode())
        for text in more:
            found.update(f"\0{text}".encode())
        for each in sorted(path.iterdir()) if path.is_dir() else [path]:
            found.update(f"\0{each.name if path.is_dir() else ''}\0".encode())
            if each == path or each.is_file():
                found.update(_digest(each))
        return found.hexdigest()[:32]

    def read(self, key: str) -> Kept | None:
        """What was kept; None where nothing was, or what was cannot be read.

        Only what was seen is kept: a file that could not be looked at is tried again.
        """
        try:
            with np.load(self._folder / f"{key}.npz", allow_pickle=False) as arrays:
                return _unpacked({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, key: str, kept: Kept) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with io.BytesIO() as file:
            np.savez(file, **_packed(kept))
            files.write_bytes(self._folder / f"{key}.npz", file.getvalue())


def _digest(path: Path) -> bytes:
    """SHA-256 of a file's bytes; of one above `_LARGE` bytes by its size, its time and its ends."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", os.fspath(path))  # a pipe or a device would never end
    with open(path, "rb") as file:
        stat = os.fstat(file.fileno())
        if stat.st_size <= _LARGE:
            return hashlib.file_digest(file, "sha256").digest()
        ends = [file.read(_END)]
        file.seek(-_END, os.SEEK_END)
        ends.append(file.read(_END))
    return hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns} ".encode() + b"".join(ends)).digest()


def plain(values: Any) -> Any:
    """Plain JSON values: what is not finite becomes None, arrays become lists."""
    if isinstance(values, Mapping):
        return {str(name): plain(value) for name, value in values.items()}
    if isinstance(values, np.ndarray):
        return plain(values.tolist())
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if isinstance(values, np.generic):
        return plain(values.item())
    return None if isinstance(values, float) and not math.isfinite(values) else values


def score_row(score: Score) -> dict:
    """A score as plain JSON values."""
    return plain(dataclasses.asdict(score))


def score_of(row: Mapping) -> Score:
    """The score of a row; gaps of the series are NaN again."""
    series = tuple(math.nan if each is None else each for each in row["series"])
    return Score(row["value"], series, row["why"], row["details"])


def _packed(kept: Kept) -> dict[str, np.ndarray]:
    seen = kept.observation
    text = {"size": list(map(int, seen.size)), "total": seen.total, "embedders": list(seen.faces.embeddings)}
    text |= {"scores": {name: score_row(score) for name, score in kept.scores.items()}}
    arrays = {name: getattr(seen.faces, name) for name in _FACES}
    arrays |= {"seconds": seen.seconds, "numbers": seen.numbers}
    for number, values in enumerate(seen.faces.embeddings.values()):
        arrays[f"embedding_{number}"] = values
    for number, picture in enumerate(seen.strip):
        arrays[f"strip_{number:02d}"] = np.frombuffer(picture, np.uint8)
    return arrays | {"text": np.frombuffer(json.dumps(text).encode(), np.uint8)}


def _unpacked(arrays: dict[str, np.ndarray]) -> Kept:
    text = json.loads(arrays["text"].tobytes())
    embeddings = {name: arrays[f"embedding_{number}"] for number, name in enumerate(text["embedders"])}
    faces = FacesSeen(**{name: arrays[name] for name in _FACES}, embeddings=embeddings)
    strip = tuple(arrays[name].tobytes() for name in sorted(arrays) if name.startswith("strip_"))
    seen = Observation(tuple(text["size"]), arrays["seconds"], arrays["numbers"], text["total"], faces, strip)
    return Kept(seen, {name: score_of(row) for name, row in text["scores"].items()})
