"""Findings on disk: what looking at the items gave, a chunk of items to a file, so that a restart need not look again.

A chunk is an `.npz` of arrays with one JSON text for the rest; nothing in it is unpickled. It takes its name when all
of it is on disk.
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmjax.errors import DataError
from mmjax.faces.embeddings import cosine_similarity
from mmjax.faces.reference_check import SAME_PERSON
from mmjax.preparation.analysis.framing import Framing
from mmjax.preparation.items import Dropped, Finding, Sample, Still
from mmjax.preparation.report.summary import Summary

_HASHED = 32  # pixels of a portrait that is only to be compared
_SAMPLE_ARRAYS, _STILL_ARRAYS = ("boxes", "landmarks"), ("portrait", "embedding")  # stills are aligned no more


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Samples and stills of some items, the summary of all that looking at them gave, and how long it took."""

    samples: list[Sample]
    stills: list[Still]
    summary: Summary
    seconds: float = 0.0


def write_chunk(path: Path, chunk: Chunk) -> None:
    """Writes a chunk; a file of that name is replaced."""
    texts = {
        "samples": [_plain(sample, _SAMPLE_ARRAYS) for sample in chunk.samples],
        "stills": [_plain(still, _STILL_ARRAYS) for still in chunk.stills],
        "summary": chunk.summary.as_json(),
        "seconds": chunk.seconds,
    }
    arrays = {name: _joined([getattr(sample, name) for sample in chunk.samples]) for name in _SAMPLE_ARRAYS}
    arrays |= {name: _stacked([getattr(still, name) for still in chunk.stills]) for name in _STILL_ARRAYS}
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "wb") as file:
        np.savez(file, text=np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_chunk(path: Path, portraits: bool) -> Chunk:
    """Reads a chunk, portraits whole or 32 pixels small; aligned faces were there to be embedded, and are not kept.

    Raises `DataError` for a file that is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            texts = json.loads(file["text"].tobytes())
            arrays = {name: file[name] for name in (*_SAMPLE_ARRAYS, *_STILL_ARRAYS)}
        samples = _samples(texts["samples"], arrays)
        stills = [_still(row, arrays, number, portraits) for number, row in enumerate(texts["stills"])]
        return Chunk(samples, stills, Summary.from_json(texts["summary"]), texts["seconds"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: expected what an earlier run found, found damage ({error}); delete this file and start again: "
            "its items are looked at once more"
        ) from error


def without_changes(finding: Finding) -> Finding:
    """The finding without windows in which one person gives way to another: a cut that colours did not betray."""
    wrong = {}
    for sample in finding.samples:
        seen = [still.embedding for still in finding.stills if still.key == sample.key]
        if (cosine := cosine_similarity(seen, seen).min()) < SAME_PERSON:
            wrong[sample.key] = float(cosine)
    if not wrong:
        return finding
    kept = list(zip(finding.samples, finding.pictures, strict=True))
    detail = "expected one person throughout, found two faces whose embeddings have a cosine of {:.2f}"
    return dataclasses.replace(
        finding,
        samples=tuple(sample for sample, _ in kept if sample.key not in wrong),
        pictures=tuple(shown for sample, shown in kept if sample.key not in wrong),
        stills=tuple(still for still in finding.stills if still.key not in wrong),
        dropped=finding.dropped
        + tuple(
            Dropped(sample.key, "several_people", detail.format(wrong[sample.key]), wrong[sample.key], shown)
            for sample, shown in kept
            if sample.key in wrong
        ),
    )


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
