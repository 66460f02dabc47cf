"""Findings on disk: what the analysis of a chunk of items gave, a file each, so that a restart need not do it again.

A file is an `.npz` of arrays with one JSON text for the rest; nothing in it is unpickled. It takes its name when all of
it is on disk.
"""

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax.errors import DataError
from mmjax.files import remove_partial, written_whole
from mmjax.preparation.framing import Framing
from mmjax.preparation.items import Item, Sample, Still
from mmjax.preparation.report.summary import Summary
from mmjax.preparation.settings import Settings

_HASHED = 32  # pixels of a portrait that is only to be compared
_SAMPLE_ARRAYS, _STILL_ARRAYS = ("boxes", "landmarks"), ("portrait", "embedding")  # stills are aligned no more


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Items that are analysed between two notes on disk: chunk `number` of the photos or of the videos."""

    kind: str
    number: int
    items: tuple[Item, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkFindings:
    """Samples and stills of a chunk, the summary of all that its analysis gave, and how long that took."""

    samples: list[Sample]
    stills: list[Still]
    summary: Summary
    seconds: float = 0.0


def divide(items: Sequence[Item], settings: Settings) -> list[Chunk]:
    """Chunks in the order of the items; a chunk is what is lost at most when a process is killed."""
    chunks = []
    for kind, size in (("photo", settings.chunk_photos), ("video", settings.chunk_videos)):
        own = [item for item in items if item.kind == kind]
        starts = range(0, len(own), size)
        chunks += [Chunk(kind, number, tuple(own[at : at + size])) for number, at in enumerate(starts)]
    return chunks


def write_findings(path: Path, found: ChunkFindings) -> None:
    """Writes the findings of a chunk; a file of that name is replaced, and what a killed writer left is removed."""
    texts = {
        "samples": [_plain(sample, _SAMPLE_ARRAYS) for sample in found.samples],
        "stills": [_plain(still, _STILL_ARRAYS) for still in found.stills],
        "summary": found.summary.as_json(),
        "seconds": found.seconds,
    }
    arrays = {name: _joined([getattr(sample, name) for sample in found.samples]) for name in _SAMPLE_ARRAYS}
    arrays |= {name: _stacked([getattr(still, name) for still in found.stills]) for name in _STILL_ARRAYS}
    remove_partial(path)
    with written_whole(path, suffix=".npz") as partial:
        np.savez(partial, text=np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays)


def read_findings(path: Path, portraits: bool) -> ChunkFindings:
    """Findings from disk, portraits whole or 32 pixels small; aligned faces were there to be embedded and are not kept.

    Raises `DataError` for a file that is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            texts = json.loads(file["text"].tobytes())
            arrays = {name: file[name] for name in (*_SAMPLE_ARRAYS, *_STILL_ARRAYS)}
        samples = _samples(texts["samples"], arrays)
        stills = [_still(row, arrays, number, portraits) for number, row in enumerate(texts["stills"])]
        return ChunkFindings(samples, stills, Summary.from_json(texts["summary"]), texts["seconds"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: expected what an earlier run found, found damage ({error}); delete this file and start again: "
            "its items are analysed once more"
        ) from error


def still_name(still: Still) -> str:
    """What distinguishes a still from all others."""
    return f"{still.item} {still.frame}"


class StoredStills:
    """Stills whose crops are left on disk until they are needed."""

    def __init__(self):
        self._places: dict[str, Path] = {}

    def add(self, path: Path, stills: Iterable[Still]) -> None:
        """Notes which stills the findings at `path` hold."""
        self._places |= {still_name(still): path for still in stills}

    def read(self, stills: Iterable[Still]) -> dict[str, Still]:
        """The stills with their crops, by `still_name`; each file is read once."""
        names, found = {still_name(still) for still in stills}, {}
        for path in sorted({self._places[name] for name in names}):
            named = {still_name(still): still for still in read_findings(path, portraits=True).stills}
            found |= {name: still for name, still in named.items() if name in names}
        return found


def _samples(rows: Sequence[dict], arrays: dict) -> list[Sample]:
    samples, start = [], 0
    for row in rows:
        stop = start + len(row["frames"])
        moved = {"framing": Framing(**row["framing"]), "frames": tuple(row["frames"]), "times": tuple(row["times"])}
        samples.append(Sample(**row | moved | {name: arrays[name][start:stop] for name in _SAMPLE_ARRAYS}))
        start = stop
    return samples


def _still(row: dict, arrays: dict, number: int, whole: bool) -> Still:
    portrait = arrays["portrait"][number]
    if not whole:
        portrait = np.asarray(Image.fromarray(portrait).resize((_HASHED, _HASHED), Image.Resampling.BOX))
    aligned = np.zeros((0, 0, 3), np.uint8)
    return Still(**row, aligned=aligned, portrait=portrait, embedding=arrays["embedding"][number])


def _plain(record, arrays: tuple[str, ...]) -> dict:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if "framing" in values:
        values["framing"] = dataclasses.asdict(values["framing"])
    return {name: value for name, value in values.items() if name not in (*arrays, "aligned")}


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _stacked(arrays: list[np.ndarray]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros(0, np.float32)
