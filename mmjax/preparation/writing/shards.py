"""Prepared records on disk: shards of ArrayRecord, and what makes a folder of them a data set.

    FOLDER/train.array_record-00000       a shard; it takes its name when all of it is on disk
    FOLDER/validation.array_record-00000
    FOLDER/unconditional_text.npy         the embedding of the empty prompt (`mmjax.records.empty_prompt`)
    FOLDER/features.json, metadata.json   how to read a record, and what the records were made with
    FOLDER/dataset_info.json              how many records each shard has; written last, it says that all is there

Shards can be written in any order, by any process; no name depends on how many there will be. A writer that is killed
leaves a hidden file at most, which the next one of that shard removes. The folder is read by
`tfds.builder_from_directory(FOLDER)`, and named in `data.sources`. TensorFlow Datasets takes seconds to import, and the
functions that write import it.
"""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax.config import Experiment
from mmjax.errors import DataError
from mmjax.files import remove_partial, write_bytes, written_whole
from mmjax.records.empty_prompt import write_unconditional_text
from mmjax.records.schema import SCHEMA_VERSION, SPLITS, Field, Record, encode_record, record_fields

_SUFFIX = "array_record"  # TFDS's, of FileFormat.ARRAY_RECORD
_TEMPLATE = "{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"  # TFDS's own one has the number of shards in every name
_LAST = "dataset_info.json"


def shard_path(folder: str | os.PathLike, split: str, number: int) -> Path:
    """Where shard `number` (from 0) of "train" or "validation" belongs."""
    return Path(folder) / f"{split}.{_SUFFIX}-{number:05d}"


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
      OSError: the disk is full, or fails.
    """
    remove_partial(path)
    with written_whole(path) as partial:
        return _write(partial, records, fields, Path(path).name)


def finish_dataset(
    folder: str | os.PathLike,
    name: str,
    config: Experiment,
    frames: int,
    description: Mapping,
    shards: Mapping[str, Sequence[int]],
    unconditional_text: Float[np.ndarray, "L text_dim"],
) -> Path:
    """Turns a folder of shards into a data set. May be called again, when there are more shards or after a kill.

    Args:
      folder: that holds the shards, each where `shard_path` says.
      name: of the data set, such as "images".
      frames: of the records' clips.
      description: from `schema.describe`, and more if wanted; plain JSON values.
      shards: for each split how many records each of its shards has, in order.
      unconditional_text: embedding of the empty prompt.

    Returns:
      The folder.

    Raises:
      DataError: a shard that is not there, or without any record at all.
    """
    import tensorflow_datasets as tfds

    from mmjax.records.storage import record_features

    folder = Path(folder)
    _check_shards(folder, shards)
    template = tfds.core.ShardedFileTemplate(folder, _TEMPLATE, name, filetype_suffix=_SUFFIX)
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
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.SplitDict([_split(folder, split, shards[split], template) for split in SPLITS]))
    write_unconditional_text(folder, unconditional_text)
    _publish(info, folder)
    return folder


def _write(partial: Path, records: Iterable[Record], fields: dict[str, Field], name: str) -> int:
    from array_record.python import array_record_module

    from mmjax.records.storage import record_features

    features, count = record_features(fields), 0
    writer = array_record_module.ArrayRecordWriter(os.fspath(partial), "group_size:1")
    try:
        for count, record in enumerate(records, 1):
            stored = encode_record(record, fields, f"{name} record {count - 1}")
            with _disk_errors(partial):
                writer.write(features.serialize_example(stored))
    finally:
        with _disk_errors(partial):
            writer.close()
    return count


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns what ArrayRecord says of a disk into an `OSError`, as any other writer would raise."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        full = "No space left" in text or "quota" in text
        raise OSError(errno.ENOSPC if full else errno.EIO, text.partition(";")[0], os.fspath(path)) from error


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


def _split(folder: Path, split: str, lengths: Sequence[int], template):
    import tensorflow_datasets as tfds

    size = sum(shard_path(folder, split, number).stat().st_size for number in range(len(lengths)))
    return tfds.core.SplitInfo(
        name=split, shard_lengths=list(lengths), num_bytes=size, filename_template=template.replace(split=split)
    )


def _publish(info, folder: Path) -> None:
    """Writes TFDS's files, each whole, the one that says that all is there last."""
    with tempfile.TemporaryDirectory() as aside:
        info.write_to_directory(aside)
        for file in sorted(Path(aside).iterdir(), key=lambda file: file.name == _LAST):
            write_bytes(folder / file.name, file.read_bytes())
