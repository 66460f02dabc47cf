"""What TFDS builders of records share: they make records once, as ArrayRecord files, without TensorFlow.

A builder stands in `data.sources` under its name (`mmjax.synthetic.builders`, `mmjax.records.clips`). Its folder is
DIR/SHAPE-HASH/NAME/VERSION, with the hash of every setting that the records depend on. So a changed setting never reads
old records, and going back to earlier settings finds theirs again. TFDS writes into a temporary folder and renames it
at the end: a preparation that was interrupted leaves nothing that looks complete.
"""

import abc
import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator

import tensorflow_datasets as tfds

from mmjax.config import Experiment
from mmjax.errors import DataError
from mmjax.records.empty_prompt import encode_unconditional_text, write_unconditional_text
from mmjax.records.making import EncoderSet, description
from mmjax.records.schema import SCHEMA_VERSION, SPLITS, Record, encode_record, record_fields
from mmjax.records.storage import record_features


class _LocalInfo(tfds.core.DatasetInfo):
    """Our data sets are made here: TFDS need not ask its cloud bucket about them."""

    def initialize_from_bucket(self):
        pass


class RecordBuilder(tfds.core.GeneratorBasedBuilder):
    """What the builders share: features from the record schema, metadata, and the hash of the settings."""

    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")
    code_path = None  # where TFDS would look for the checksums of downloads; there are none

    def __init__(self, experiment: Experiment, frames: int):
        self.experiment, self.frames = experiment, frames
        self.check()
        self.encoders = EncoderSet.placeholders(experiment)
        self.description = description(experiment, frames)
        settings = json.dumps({**self.description, **self.settings()}, sort_keys=True)
        data = experiment.data
        shape = f"{frames}x{data.height}x{data.width}"
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        super().__init__(data_dir=f"{data.dir}/{shape}-{digest}", file_format="array_record")

    @abc.abstractmethod
    def settings(self) -> dict:
        """Everything beyond the record description that the records depend on."""

    @abc.abstractmethod
    def records(self, encoders: EncoderSet, split: str) -> Iterator[Record]:
        """The records of "train" or "validation"."""

    def check(self) -> None:
        """Raises `ConfigError` where the frame count does not suit the builder."""

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=(type(self).__doc__ or "").strip(),
            features=record_features(record_fields(self.experiment, self.frames)),
            metadata=tfds.core.MetadataDict({**self.description, **self.settings()}),
            disable_shuffling=True,  # Grain shuffles; on disk people stay together
        )

    def _split_generators(self, dl_manager):
        # TFDS calls this while `data_dir` is the temporary folder that it renames at the end
        write_unconditional_text(self.data_dir, encode_unconditional_text(self.encoders.text))
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        fields = record_fields(self.experiment, self.frames)
        for index, record in enumerate(self.records(self.encoders, split)):
            yield index, encode_record(record, fields, f"{self.name} {split} record {index}")

    def prepare(self) -> "RecordBuilder":
        """Makes the records unless they are there. With many processes let one do this first, to save work.

        Raises `DataError` where `data.dir` cannot be written.
        """
        tfds.disable_progress_bar()
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),  # TFDS talks of a download; there is none
                tempfile.TemporaryDirectory() as downloads,
            ):
                self.download_and_prepare(download_dir=downloads)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "write() failed" not in str(error):  # ArrayRecord's, of a full disk
                raise
            if not self.is_prepared():
                raise DataError(
                    f"data.dir = {self.experiment.data.dir}: expected a folder that can be written, to make the "
                    f"records of {self.name} there, found: {_reason(error)}; make room, or give another folder"
                ) from error
        return self  # either way: when another process was faster, its records are the same


def _reason(error: Exception) -> str:
    """What a disk's error says, without the names of temporary files."""
    if "No space left" in str(error):
        return "no space left on the disk"
    return getattr(error, "strerror", None) or str(error)
