"""Prepared records on disk: shards of ArrayRecord, and what makes a folder of them a data set.

    FOLDER/train.array_record-00000       a shard; it takes its name when all of it is on disk
    FOLDER/validation.array_record-00000
    FOLDER/features.json, metadata.json   how to read a record, and what the records were made with
    FOLDER/dataset_info.json              how many records each shard has; written last, it says that all is there

Shards can be written in any order, by any process; no name depends on how many there will be. A writer that is killed
leaves a hidden file at most, which the next one of that shard overwrites. The folder is read by
`tfds.builder_from_directory(FOLDER)`, and named in `data.sources`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from mmjax.config import Experiment
from mmjax.errors import DataError
from mmjax.records.schema import SCHEMA_VERSION, SPLITS, Field, Record, encode_record, record_fields
from mmjax.records.storage import record_features

_FORMAT = tfds.core.FileFormat.ARRAY_RECORD
_TEMPLATE = "{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"  # TFDS's own one has the number of shards in every name
_LAST = "dataset_info.json"


def shard_path(folder: str | os.PathLike, split: str, number: int) -> Path:
    """Where shard `number` (from 0) of "train" or "validation" belongs."""
    return Path(folder) / f"{split}.{_FORMAT.file_suffix}-{number:05d}"


def write_shard(path: str | os.PathLike, records: Iterable[Record], fields: dict[str, Field]) -> int:
    """Writes records of `schema.record_fields` to an ArrayRecord file; bfloat16 keeps its bits.

    The file takes its name when all of it is on disk; a shard that is there already is replaced.

    Args:
      path: from `shard_path`; its folder is made.
      records: read one after the other, so that they may be made meanwhile. There may be none.

    Returns:
      How many records the shard has.

    Raises:
      DataError: a record that does not fit `fields`; nothing is left behind then, nor when making one fails.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        count = _write(partial, records, fields, path)
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)
    return count


def finish_dataset(
    folder: str | os.PathLike,
    name: str,
    config: Experiment,
    frames: int,
    description: Mapping,
    shards: Mapping[str, Sequence[int]],
) -> Path:
    """Turns a folder of shards into a data set. May be called again, when there are more shards or after a kill.

    Args:
      folder: that holds the shards, each where `shard_path` says.
      name: of the data set, such as "images".
      frames: of the records' clips.
      description: from `schema.describe`, and more if wanted; plain JSON values.
      shards: for each split how many records each of its shards has, in order.

    Returns:
      The folder.

    Raises:
      DataError: a shard that is not there, or without any record at all.
    """
    folder = Path(folder)
    _check_shards(folder, shards)
    template = tfds.core.ShardedFileTemplate(folder, _TEMPLATE, name, filetype_suffix=_FORMAT.file_suffix)
    identity = tfds.core.DatasetIdentity(
        name=name, version=tfds.core.Version(f"{SCHEMA_VERSION}.0.0"), data_dir=os.fspath(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"Records of {frames} frames for mmjax ({config.name}), made by mmjax.prepare.",
        features=record_features(record_fields(config, frames)),
        metadata=tfds.core.MetadataDict(json.loads(json.dumps(description))),
        disable_shuffling=True,
    )
    info.set_file_format(_FORMAT)
    info.set_splits(tfds.core.SplitDict([_split(folder, split, shards[split], template) for split in SPLITS]))
    _publish(info, folder)
    return folder


def _write(partial: Path, records: Iterable[Record], fields: dict[str, Field], path: Path) -> int:
    features, count = record_features(fields), 0
    writer = array_record_module.ArrayRecordWriter(os.fspath(partial), "group_size:1")
    try:
        for count, record in enumerate(records, 1):
            stored = encode_record(record, fields, f"{path.name} record {count - 1}")
            writer.write(features.serialize_example(stored))
    finally:
        writer.close()
    return count


def _check_shards(folder: Path, shards: Mapping[str, Sequence[int]]) -> None:
    if set(shards) != set(SPLITS):
        raise DataError(f"{folder}: expected shards of {' and '.join(SPLITS)}, found {', '.join(shards) or 'none'}")
    if not sum(map(sum, shards.values())):
        raise DataError(
            f"{folder}: expected a record or more, found none in any shard; the report says what was dropped"
        )
    for split, lengths in shards.items():
        lost = [path.name for path in (shard_path(folder, split, n) for n in range(len(lengths))) if not path.is_file()]
        if lost:
            raise DataError(f"{folder}: expected {len(lengths)} shards of {split}, found no {', '.join(lost)}")


def _split(folder: Path, split: str, lengths: Sequence[int], template) -> tfds.core.SplitInfo:
    size = sum(shard_path(folder, split, number).stat().st_size for number in range(len(lengths)))
    return tfds.core.SplitInfo(
        name=split, shard_lengths=list(lengths), num_bytes=size, filename_template=template.replace(split=split)
    )


def _publish(info: tfds.core.DatasetInfo, folder: Path) -> None:
    """Writes TFDS's files aside and moves them here, the one that says that all is there last."""
    aside = folder / ".metadata.partial"
    aside.mkdir(exist_ok=True)
    info.write_to_directory(os.fspath(aside))
    for file in sorted(aside.iterdir(), key=lambda file: file.name == _LAST):
        _sync(file)
        file.replace(folder / file.name)
    aside.rmdir()
    _sync(folder)


def _sync(path: Path) -> None:
    """Has the disk hold what was written to a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
