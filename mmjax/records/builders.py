"""TFDS builders that prepare records once, as ArrayRecord files, without TensorFlow.

    drawn_images   pictures of drawn people, one frame each
    drawn_clips    short clips of drawn people
    clip           windows of one real clip

A builder's folder is DIR/SHAPE-HASH/NAME/VERSION, with the hash of every setting that the records depend on. So a
changed setting never reads old records, and going back to earlier settings finds theirs again. TFDS writes into a
temporary folder and renames it at the end: a preparation that was interrupted leaves nothing that looks complete.
"""

import abc
import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator

import tensorflow_datasets as tfds
from tqdm import tqdm

from mmjax.config import Experiment
from mmjax.errors import ConfigError
from mmjax.records import clips
from mmjax.records.making import EncoderSet, description
from mmjax.records.schema import SCHEMA_VERSION, SPLITS, Record, encode_record, record_fields
from mmjax.records.storage import record_features
from mmjax.synthetic import people, records
from mmjax.synthetic.drawing import DRAWING_VERSION


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
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        fields = record_fields(self.experiment, self.frames)
        for index, record in enumerate(self.records(self.encoders, split)):
            yield index, encode_record(record, fields, f"{self.name} {split} record {index}")

    def prepare(self) -> "RecordBuilder":
        """Makes the records unless they are there. With many processes let one do this first, to save work."""
        tfds.disable_progress_bar()
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),  # TFDS talks of a download; there is none
                tempfile.TemporaryDirectory() as downloads,
            ):
                self.download_and_prepare(download_dir=downloads)
        except OSError:
            if not self.is_prepared():
                raise
        return self  # either way: when another process was faster, its records are the same


class _Drawn(RecordBuilder):
    """People who do not exist, drawn by `mmjax.synthetic.drawing`."""

    def _people(self, split: str) -> Iterator[int]:
        data = self.experiment.data
        count = data.people if split == "train" else data.held_out_people
        for index in tqdm(range(count), desc=f"drawing {self.name}, {split}", unit=" people", leave=False):
            yield people.person_number(split, index)

    def settings(self) -> dict:
        data = self.experiment.data
        return {"drawing": DRAWING_VERSION, "people": data.people, "held_out_people": data.held_out_people}


class DrawnImages(_Drawn):
    """Pictures of drawn people, one frame each, with portraits of the same person as reference."""

    def check(self):
        if self.frames != 1:
            raise ConfigError(
                f"data.frames = {self.frames}: expected 1 for the source drawn_images; clips are drawn_clips"
            )

    def settings(self) -> dict:
        return {**super().settings(), "pictures": self.experiment.data.pictures_per_person}

    def records(self, encoders, split):
        for number in self._people(split):
            yield from records.picture_records(
                self.experiment, encoders, number, self.experiment.data.pictures_per_person
            )


class DrawnClips(_Drawn):
    """Short clips of drawn people who turn, nod, talk and smile, with portraits of the same person as reference."""

    def settings(self) -> dict:
        return {**super().settings(), "clips": self.experiment.data.clips_per_person}

    def records(self, encoders, split):
        count = self.experiment.data.clips_per_person
        for number in self._people(split):
            yield from records.clip_records(self.experiment, encoders, number, count, self.frames)


class Clip(RecordBuilder):
    """Windows of one real clip. It shows one person and leaves nobody to hold out: both splits are the same records."""

    def check(self):
        if self.experiment.encoders.face == "drawn":
            raise ConfigError(
                "encoders.face = drawn: expected pixels with the source clip, which shows no drawn person"
            )

    def settings(self) -> dict:
        data = self.experiment.data
        chosen = {"caption": data.clip_caption, "windows": data.clip_windows, "stride": data.clip_stride}
        return {"clip": clips.clip_digest(data.clip), **chosen}

    def records(self, encoders, split):
        yield from clips.clip_records(self.experiment, encoders, self.frames)


BUILDERS = {builder.name: builder for builder in (DrawnImages, DrawnClips, Clip)}
