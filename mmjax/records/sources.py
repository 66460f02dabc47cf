"""Opens what `config.data.sources` names, once for a run: folders of prepared records, or builders that make them.

`find_sources` returns the folders with what they say of themselves; `open_source` gives the records of one of them as a
random-access source, as Grain wants it, whose every trouble is a `DataError` that names the record.
"""

import dataclasses
import difflib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Shaped

from mmjax.config import Experiment
from mmjax.encoders.pixel import Pixel
from mmjax.errors import ConfigError, DataError
from mmjax.records.empty_prompt import read_unconditional_text
from mmjax.records.schema import (
    BFLOAT16,
    SCHEMA_VERSION,
    STRINGS,
    Field,
    Record,
    check_description,
    decode_record,
    described_fields,
)
from mmjax.training_settings import RecordSources

if TYPE_CHECKING:
    from mmjax.records.builders import RecordBuilder

_AGAIN = "delete the folder and prepare it again"
_PACKAGES = {"tree": "dm-tree"}  # by the module, where it has another name


@dataclasses.dataclass(frozen=True, eq=False)
class RecordFolders:
    """The sources of an experiment, found and checked, and which encoders made what it reads of their records."""

    folders: tuple[str, ...]  # in the order of `config.data.sources`
    encoders: Mapping[str, str]  # fingerprints, the same for all, by what they encode: text, face, autoencoder


@dataclasses.dataclass(frozen=True, eq=False)
class Sources(RecordFolders):
    """Those of a diffusion experiment, which needs the empty prompt as well."""

    unconditional_text: Shaped[np.ndarray, "L text_dim"]  # embedding of the empty prompt, bfloat16 as in the records


def find_sources(config: Experiment, builders: Mapping[str, "type[RecordBuilder]"] | None = None) -> Sources:
    """Finds the records of `config.data.sources`; no encoder's weights are read.

    Args:
      builders: by the name that stands for them among the sources. Their records are made first, unless they are there.

    Raises:
      ConfigError: no source, or one that does not suit the experiment.
      DataError: an unknown source, a folder without records or without the unconditional embedding, records that do not
        fit the experiment, or sources that were made with different encoders.
    """
    data, builders = config.data, builders or {}
    if not data.sources:
        raise ConfigError("data.sources = (): expected a source, such as drawn_images")
    folders = [_folder(config, builders, *source) for source in zip(data.sources, data.frames, strict=True)]
    encoders = [_metadata(folder)["encoders"] for folder in folders]
    _check_same_encoders(data.sources, encoders)
    texts = [read_unconditional_text(folder, config) for folder in folders]
    return Sources(tuple(folders), encoders[0], texts[0])


def find_pixel_records(data: RecordSources) -> RecordFolders:
    """Finds the records of `data.sources` for an experiment that reads their pixels alone; other encoders may differ.

    Raises:
      ConfigError: no source.
      DataError: a folder without records, or with records of other sizes or whose latents are no pixels.
    """
    if not data.sources:
        raise ConfigError("data.sources = (): expected the folder of prepared records, such as records/images")
    for name, frames in zip(data.sources, data.frames, strict=True):
        if not Path(name).is_dir():
            raise DataError(f'data.sources: expected the path of a prepared folder, found "{name}"')
        found = _metadata(name)
        if found.get("autoencoder") != "pixel":
            raise DataError(
                f"{name}: expected records whose latents are pixels, made with autoencoder.name = pixel, found "
                f"{found.get('autoencoder')}; prepare others, such as with configs/faces.py"
            )
        latents = [str(BFLOAT16), frames, data.height, data.width, 3]
        expected = {"schema_version": SCHEMA_VERSION, "frames": frames}
        check_description(found, expected | {"fields": found["fields"] | {"latents": latents}}, name)
    return RecordFolders(data.sources, {"autoencoder": Pixel.fingerprint})


class RecordSource:
    """Records of one split, by number. Opens its files where it is used, so it travels to workers cheaply.

    Args:
      fields, strings: of a record that are decoded, and checked. All of it is read, and a record that is damaged
        anywhere is refused; what else is wrong with the rest, such as NaN, is nobody's concern.
    """

    def __init__(self, folder: str, split: str, fields: dict[str, Field], strings: Collection[str] = STRINGS):
        self.folder, self.split, self.fields, self.strings = folder, split, fields, strings
        self._opened = None
        self._length = self._examples()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> Record:
        """Record `index`. Raises `DataError` when it is damaged."""
        index = index.__index__()
        where = f"{self.folder}, {self.split} record {index}"
        try:
            records, features = self._open()
            stored = features.deserialize_example_np(records[index])
        except DataError:
            raise
        except Exception as error:  # the readers below raise whatever comes to hand
            _check_packages(error, self.folder)
            reason = str(error).strip().partition("\n")[0] or repr(error)
            raise DataError(f"{where}: expected a readable record, found a damaged one ({reason}); {_AGAIN}") from error
        return decode_record(stored, self.fields, where, self.strings)

    def __repr__(self) -> str:
        return f"RecordSource({self.folder}, {self.split}, {len(self)} records)"

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def __setstate__(self, state):
        import tensorflow_datasets  # noqa: F401  a worker imports it here, not in several reading threads at once

        self.__dict__.update(state)

    def _open(self):
        """(the records as bytes, by number; TFDS's features of what is decoded of them)."""
        if self._opened is None:
            builder = open_folder(self.folder)
            import tensorflow_datasets as tfds  # takes seconds

            try:
                as_bytes = tfds.decode.DeserializeMethod.RAW_BYTES
                records = builder.as_data_source(self.split, deserialize_method=as_bytes)
                stored, wanted = builder.info.features, {*self.fields, *self.strings}
                features = tfds.features.FeaturesDict({name: stored[name] for name in stored if name in wanted})
                self._opened = records, features
            except Exception as error:
                _check_packages(error, self.folder)
                raise DataError(f"{self.folder}: expected ArrayRecord files, found: {error}; {_AGAIN}") from error
        return self._opened

    def _examples(self) -> int:
        splits = open_folder(self.folder).info.splits
        if self.split not in splits or not splits[self.split].num_examples:
            raise DataError(
                f"{self.folder}: expected records in the split {self.split}, found {dict.fromkeys(splits)}; {_AGAIN}"
            )
        return splits[self.split].num_examples


def open_source(sources: RecordFolders, index: int, split: str, fields: Collection[str] | None = None) -> RecordSource:
    """Records of the source of this number.

    Args:
      split: "train" or "validation".
      fields: the arrays that are read of each record; by default all, and its strings.

    Raises:
      DataError: there are none in this split.
    """
    folder = sources.folders[index]
    described = described_fields(_metadata(folder))
    if fields is None:
        return RecordSource(folder, split, described)
    return RecordSource(folder, split, {name: described[name] for name in fields}, strings=())


def source_identity(sources: RecordFolders, index: int) -> str:
    """What tells the records of a source from others, wherever they lie: hash of what the folder says of them.

    That is its description (schema, shapes, encoders, a builder's settings) and each split's shards and bytes.
    """
    info = open_folder(sources.folders[index]).info
    splits = {name: [list(split.shard_lengths), split.num_bytes] for name, split in sorted(info.splits.items())}
    described = json.dumps({"metadata": dict(info.metadata or {}), "splits": splits}, sort_keys=True)
    return f"{hashlib.sha256(described.encode()).hexdigest()[:16]}:{info.splits['train'].num_examples}"


def open_folder(folder: str | os.PathLike):
    """TFDS's read-only builder of a prepared folder. Raises `DataError`."""
    try:
        import tensorflow_datasets as tfds  # takes seconds

        return tfds.builder_from_directory(folder)
    except Exception as error:
        _check_packages(error, folder)
        raise DataError(
            f"{folder}: expected a folder of prepared records with dataset_info.json and features.json (OUTPUT/images "
            "or OUTPUT/clips of mmjax.prepare; a builder's is named like a version, as 2.0.0), found none that can "
            "be read; give that folder, or the name of a builder, such as drawn_images"
        ) from error


def _check_packages(error: Exception, folder: str | os.PathLike) -> None:
    """Where records cannot be read for want of a package, says which one (`DataError`): they are as good as ever."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, ImportError):
            package = (each.name or "").partition(".")[0]
            advice = f"pip install {_PACKAGES.get(package, package)}" if package else "install it"
            raise DataError(
                f"{folder}: expected the packages that read records, found one missing or broken ({each}); {advice}; "
                "the records need not be made again"
            ) from error
        each = each.__cause__ or each.__context__


def _folder(config: Experiment, builders: Mapping[str, "type[RecordBuilder]"], name: str, frames: int) -> str:
    """The folder of a source's records, which fit the experiment."""
    from mmjax.records.making import description  # placeholder encoders, which take Pillow

    if name in builders:
        folder = builders[name](config, frames).prepare().data_dir
    elif Path(name).is_dir():
        folder = name
    else:
        raise DataError(_unknown(name, builders))
    check_description(_metadata(folder), description(config, frames), f"{name} ({folder})")
    return os.fspath(folder)


def _check_same_encoders(names: Iterable[str], encoders: list[Mapping[str, str]]) -> None:
    """Refuses sources that were made with different encoders, naming both."""
    (first, *names), (expected, *others) = names, encoders
    for name, found in zip(names, others, strict=True):
        for what, made_by in expected.items():
            if found.get(what) != made_by:
                raise DataError(
                    f"data.sources: expected records that were all made with the same encoders, found two of {what}:\n"
                    f"  {first}: {made_by}\n  {name}: {found.get(what)}\n"
                    "  prepare one of them again with the encoder of the other, or train on one alone"
                )


def _metadata(folder: str | os.PathLike) -> dict:
    return dict(open_folder(folder).info.metadata or {})


def _unknown(name: str, builders: Iterable[str]) -> str:
    known = f"known builders: {', '.join(builders) or 'none'}"
    near = difflib.get_close_matches(name, builders, 1)
    hint = f"did you mean {near[0]}? {known}" if near else known
    return f'data.sources: expected a builder or the path of a prepared folder, found "{name}"; {hint}'
