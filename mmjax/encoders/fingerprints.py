"""Fingerprints: what an encoder's features depend on, as one line that people can read and programs can compare.

    t5/1 weights=ab12cd34ab12cd34 tokenizer=ef56ab12ef56ab12 length=226 id_tokens=2 dtype=bfloat16

A name with a version, then key=value. The version rises when the same settings give other features. An experiment knows
some of an encoder's values from its configuration alone; records made by that encoder carry all of them, so the line
that is expected may be shorter than the one that is found (`agrees`).

Hashes among the values are made by one rule (`short_hash`). What goes into them, in this order:

- `hash_converted`, weights in a converted folder: the record of sizes, the SHA-256 of each published weights file in
  sorted order, the dtypes in which leaves are stored. No name and no date; nothing large is read.
- `hash_leaves`, weights in memory: the record of sizes, then path, dtype, shape and SHA-256 of the bytes of each leaf,
  in the order of the paths.
- `hash_files`, small files: the SHA-256 of each, in the order in which they are given.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Names with versions of the networks' fingerprints; those of placeholder encoders stand with the encoders.
T5, PHOTOMAKER, CLIP, COGVIDEOX_VAE = "t5/1", "photomaker/1", "clip/1", "cogvideox_vae/1"
ARCFACE, EDGEFACE = "arcface/1", "edgeface/1"


def fingerprint(name: str, **values) -> str:
    """The line for `name`, such as "t5/1", and its values, in which blanks become colons."""
    return " ".join([name, *(f"{key}={':'.join(str(value).split())}" for key, value in values.items())])


def values_of(line: str) -> dict[str, str]:
    """The values of a fingerprint by their keys."""
    return dict(each.split("=", 1) for each in line.split()[1:])


def agrees(found: str, expected: str, but: tuple[str, ...] = ()) -> bool:
    """Whether `found` has the name and version of `expected` and all of its values; it may have more of them.

    Keys in `but` may differ, such as "dtype" where it only matters that the weights are the same.
    """
    (name, *values), (wanted, *needed) = found.split(), expected.split()
    return name == wanted and {each for each in needed if each.partition("=")[0] not in but} <= set(values)


def names(line: str, part: str) -> bool:
    """Whether a line says that something was made with another fingerprint, `part`, among its values."""
    return ":".join(part.split()) in (value.partition("=")[2] for value in line.split()[1:])


def part_in_training(embedder: str, conditioning: Iterable[str], judges: Iterable[str] = ()) -> str:
    """What the embedder with this fingerprint has to do with a model, in words; empty for nothing.

    Args:
      conditioning: fingerprints of what made the model's identity features, such as a face encoder that names its
        recogniser, or that recogniser.
      judges: fingerprints of the recognisers of its identity loss.
    """
    if any(embedder == line or names(line, embedder) for line in conditioning):
        return "the recogniser whose embeddings condition the model"
    return "the judge of the identity loss" if embedder in judges else ""


def short_hash(*parts) -> str:
    """The first 16 hex digits of the SHA-256 of plain values, written as one JSON list with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def hash_converted(folder: Path, component: str) -> str:
    """Hash of the weights in a folder that `mmjax.convert` wrote, without reading them.

    Raises `CheckpointError` for a folder that is incomplete or holds another component than `component`.
    """
    from mmjax.conversion import read_record, store  # JAX, which data workers must not import

    record, manifest = read_record(folder, component), store.read_manifest(folder)
    published = manifest["source"]["sha256"].items()
    weights = sorted(digest for name, digest in published if not name.endswith(".json") and "tokenizer/" not in name)
    stored = sorted({dtype for dtype, *_ in manifest["leaves"].values()})
    return short_hash(dataclasses.asdict(record), weights, stored)


def hash_leaves(record: Any, leaves: Mapping[str, np.ndarray]) -> str:
    """Hash of weights in memory: `leaves` by their paths (`mmjax.trees.flatten`), `record` a dataclass of sizes."""
    parts = [
        (path, str(leaf.dtype), leaf.shape, _sha256(np.ascontiguousarray(leaf).tobytes()))
        for path, leaf in sorted(leaves.items())
    ]
    return short_hash(dataclasses.asdict(record), parts)


def hash_files(files: Iterable[Path]) -> str:
    """Hash of small files' bytes; their names do not matter, their order does."""
    return short_hash(*(_sha256(file.read_bytes()) for file in files))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
