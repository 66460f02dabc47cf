"""Opens what `config.data.sources` names: a builder, or the folder of prepared records.

What is opened is a random-access source of decoded records, as Grain wants it, whose every trouble is a `DataError`
that names the record.
"""

import difflib
import os
from pathlib import Path
from typing import SupportsIndex

import tensorflow_datasets as tfds

from mmjax.config import Experiment
from mmjax.errors import DataError
from mmjax.records.builders import BUILDERS
from mmjax.records.making import description
from mmjax.records.schema import Record, check_description, decode_record, record_fields

_AGAIN = "delete the folder and prepare it again"


class RecordSource:
    """Decoded records of one split, by number. Opens its files where it is used, so it travels to workers cheaply."""

    def __init__(self, folder: str, split: str, fields):
        self.folder, self.split, self.fields = folder, split, fields
        self._opened = None
        self._length = self._examples()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> Record:
        """Record `index`. Raises `DataError` when it is damaged."""
        index = index.__index__()
        where = f"{self.folder}, {self.split} record {index}"
        try:
            stored = self._open()[index]
        except DataError:
            raise
        except Exception as error:  # the readers below raise whatever comes to hand
            reason = str(error).strip().partition("\n")[0] or repr(error)
            raise DataError(f"{where}: expected a readable record, found a damaged one ({reason}); {_AGAIN}") from error
        return decode_record(stored, self.fields, where)

    def __repr__(self) -> str:
        return f"RecordSource({self.folder}, {self.split}, {len(self)} records)"

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def _open(self):
        if self._opened is None:
            builder = open_folder(self.folder)
            try:
                self._opened = builder.as_data_source(self.split)
            except Exception as error:
                raise DataError(f"{self.folder}: expected ArrayRecord files, found: {error}; {_AGAIN}") from error
        return self._opened

    def _examples(self) -> int:
        splits = open_folder(self.folder).info.splits
        if self.split not in splits or not splits[self.split].num_examples:
            raise DataError(
                f"{self.folder}: expected records in the split {self.split}, found {dict.fromkeys(splits)}; {_AGAIN}"
            )
        return splits[self.split].num_examples


def open_source(config: Experiment, index: int, split: str) -> RecordSource:
    """Records of `config.data.sources[index]`, made first when it names a builder whose records are not there yet.

    Args:
      split: "train" or "validation".

    Raises:
      DataError: an unknown source, a folder without records, or records that do not fit the experiment.
    """
    name, frames = config.data.sources[index], config.data.frames[index]
    if name in BUILDERS:
        folder = BUILDERS[name](config, frames).prepare().data_dir
    elif Path(name).is_dir():
        folder = name
    else:
        raise DataError(_unknown(name))
    check_description(_metadata(folder), description(config, frames), f"{name} ({folder})")
    return RecordSource(os.fspath(folder), split, record_fields(config, frames))


def record_encoders(config: Experiment) -> dict[str, str]:
    """Fingerprints of the encoders that the records of all sources were made with, by what they encode.

    Raises:
      DataError: sources that were made with different encoders, naming both; or what `open_source` raises.
    """
    names, found = config.data.sources, []
    for index, name in enumerate(names):
        found.append(_metadata(open_source(config, index, "train").folder)["encoders"])
        for what, made_by in found[0].items():
            if found[-1].get(what) != made_by:
                raise DataError(
                    f"data.sources: expected records that were all made with the same encoders, found two of {what}:\n"
                    f"  {names[0]}: {made_by}\n  {name}: {found[-1].get(what)}\n"
                    "  prepare one of them again with the encoder of the other, or train on one alone"
                )
    return found[0] if found else {}


def source_name(config: Experiment, index: int) -> str:
    """Folder's name and size of a source; for a builder's records equal names mean equal settings."""
    source = open_source(config, index, "train")
    return f"{'/'.join(Path(source.folder).parts[-3:])}:{len(source)}"


def open_folder(folder: str | os.PathLike):
    """TFDS's read-only builder of a prepared folder. Raises `DataError`."""
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:
        raise DataError(
            f"{folder}: expected a folder of prepared records with dataset_info.json and features.json (OUTPUT/images "
            "or OUTPUT/clips of mmjax.prepare; a builder's is named like a version, as 1.0.0), found none that can "
            f"be read; give that folder, or the name of a builder: {', '.join(BUILDERS)}"
        ) from error


def _metadata(folder) -> dict:
    return dict(open_folder(folder).info.metadata or {})


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, BUILDERS, 1)
    hint = f"did you mean {near[0]}?" if near else f"known builders: {', '.join(BUILDERS)}"
    return f'data.sources: expected a builder or the path of a prepared folder, found "{name}"; {hint}'
