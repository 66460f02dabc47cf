"""Shards that are whole or not there, and the folder that TFDS, Grain and training read."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags

from mmjax import config as c
from mmjax.errors import DataError
from mmjax.preparation.run import explained_disk
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records import pipeline, sources
from mmjax.records.making import description
from mmjax.records.schema import BFLOAT16, LARGEST, STRINGS, decode_record, record_fields
from mmjax.records.sources import find_sources

ROOT = Path(__file__).resolve().parents[2]


def experiment(*folders, frames=1, **data) -> c.Experiment:
    count = len(folders)
    settings = {"weights": (1.0,) * count, "batches": (2,) * count, "frames": (frames,) * count} | data
    return c.Experiment(
        name="small",
        autoencoder=c.Autoencoder("pixel"),
        model=c.Model(
            c.Transformer(latent_channels=3, text_dim=8, text_length=20),
            c.Adapter(id_dim=512, clip_dim=8, clip_tokens=5),
        ),
        encoders=c.Encoders("word_table", "arcface"),
        data=c.Data(sources=tuple(map(str, folders)), height=16, width=16, **settings),
    ).validated()


CONFIG = experiment()
FIELDS = record_fields(CONFIG, 1)
DESCRIPTION = description(CONFIG, 1)
TEXT = np.linspace(-1, 1, 160, dtype=np.float32).reshape(20, 8)  # of the empty prompt


def record(number: int) -> dict:
    """Random bits in every field; of bfloat16 every value may come that a record may hold."""
    rng, made = np.random.default_rng(number), {}
    for name, field in FIELDS.items():
        if field.dtype == BFLOAT16:
            values = rng.integers(0, 2**16, field.shape, dtype=np.uint16).view(BFLOAT16)
            made[name] = np.where(np.abs(values.astype(np.float32)) <= LARGEST, values, BFLOAT16.type(0))
        else:
            made[name] = rng.integers(0, 2, field.shape).astype(field.dtype)
    return {**made, "person": f"p{number}", "caption": "A man img, smiling – ñ", "source": "photos"}


def records(first: int, count: int):
    return [record(number) for number in range(first, first + count)]


def dataset(folder: Path, train=(3, 0, 2), validation=(1,), **more) -> Path:
    number, shards = 0, {"train": list(train), "validation": list(validation)}
    for split, lengths in shards.items():
        for shard, length in enumerate(lengths):
            assert write_shard(shard_path(folder, split, shard), records(number, length), FIELDS) == length
            number += length
    return finish_dataset(folder, "images", CONFIG, 1, {**DESCRIPTION, **more}, shards, TEXT)


def opened(config, index, split):
    return sources.open_source(find_sources(config), index, split)


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k] == b[k]
        if k in STRINGS
        else (a[k].dtype, a[k].shape, a[k].tobytes()) == (b[k].dtype, b[k].shape, b[k].tobytes())
        for k in a
    )


def test_records_come_back_bit_for_bit_over_empty_shards(tmp_path):
    folder = dataset(tmp_path / "images", prepared_by="a test")
    source = opened(experiment(folder), 0, "train")
    assert len(source) == 5
    assert all(same(source[number], record(number)) for number in range(5))
    assert same(opened(experiment(folder), 0, "validation")[0], record(5))
    metadata = dict(sources.open_folder(folder).info.metadata)
    assert metadata["prepared_by"] == "a test" and metadata["encoders"] == DESCRIPTION["encoders"]


def test_tfds_alone_reads_the_folder(tmp_path, monkeypatch):
    """Wherever it was moved to, and without asking the network."""
    monkeypatch.setattr(tfds.core.DatasetInfo, "initialize_from_bucket", lambda _: pytest.fail("asked the network"))
    folder = dataset(tmp_path / "images").rename(tmp_path / "elsewhere")
    builder = tfds.builder_from_directory(str(folder))
    assert builder.info.name == "images" and builder.info.splits["train"].num_examples == 5
    assert builder.info.splits["train"].shard_lengths == [3, 0, 2]
    assert builder.info.splits["train"].num_bytes == sum(f.stat().st_size for f in folder.glob("train.*"))
    found = [decode_record(stored, FIELDS, "here") for stored in builder.as_data_source("train")]
    assert all(same(one, record(number)) for number, one in enumerate(found))


def test_a_folder_without_held_out_records_is_read(tmp_path):
    folder = dataset(tmp_path / "images", validation=())
    assert len(opened(experiment(folder), 0, "train")) == 5
    with pytest.raises(DataError, match="expected records in the split validation"):
        opened(experiment(folder), 0, "validation")


@pytest.mark.parametrize("workers", [0, 2])
def test_grain_feeds_training_from_it(tmp_path, workers):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's workers are handed the flags
    config = experiment(dataset(tmp_path / "images", train=(3, 0, 3)), workers=workers)
    iterator = pipeline.make_train_iterator(config, find_sources(config))
    batches = [next(iterator) for _ in range(3)]
    if workers:
        iterator.close()
    seen = {row.tobytes() for batch in batches for row in batch["latents"]}
    assert seen == {record(number)["latents"].tobytes() for number in (0, 1, 2, 3, 4, 5)}


def test_more_shards_may_come_later(tmp_path):
    dataset(tmp_path, train=(2,))
    write_shard(shard_path(tmp_path, "train", 1), records(3, 2), FIELDS)
    finish_dataset(tmp_path, "images", CONFIG, 1, DESCRIPTION, {"train": [2, 2], "validation": [1]}, TEXT)
    source = opened(experiment(tmp_path), 0, "train")
    assert [source[number]["person"] for number in range(4)] == ["p0", "p1", "p3", "p4"]


def test_a_failed_shard_leaves_nothing(tmp_path):
    def failing():
        yield record(0)
        raise KeyboardInterrupt

    path = shard_path(tmp_path, "train", 0)
    with pytest.raises(KeyboardInterrupt):
        write_shard(path, failing(), FIELDS)
    with pytest.raises(DataError, match="train.array_record-00000 record 1: found the unknown fields depth"):
        write_shard(path, [record(0), {**record(1), "depth": np.zeros(3)}], FIELDS)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no dataset_info|dataset_info.json and features.json"):
        sources.open_folder(tmp_path)


def test_a_disk_that_fails_is_an_error_of_the_disk_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="write.. failed: File too large: '.*train.array_record"):
            write_shard(shard_path(tmp_path, "train", 0), records(0, 40), FIELDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    said = (
        f"{tmp_path}: {tmp_path}/x could not be .*: No space left on device .* MiB are free .*the same command goes on"
    )
    with pytest.raises(DataError, match=said), explained_disk(tmp_path):
        raise OSError(28, "No space left on device", f"{tmp_path}/x")


def test_a_killed_writer_leaves_no_shard_and_the_next_one_overwrites_it(tmp_path):
    script = f"""
import os, signal
from tests.preparation.test_prepare_shards import FIELDS, record, shard_path, write_shard
def records():
    for number in range(5):
        yield record(number)
    os.kill(os.getpid(), signal.SIGKILL)
write_shard(shard_path({str(tmp_path)!r}, "train", 0), records(), FIELDS)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path = shard_path(tmp_path, "train", 0)
    (left,) = tmp_path.iterdir()
    assert not path.exists() and left.match(f".{path.name}.*.partial")
    with pytest.raises(DataError, match="expected 1 shards of train, found no train.array_record-00000"):
        finish_dataset(tmp_path, "images", CONFIG, 1, DESCRIPTION, {"train": [5], "validation": []}, TEXT)
    assert write_shard(path, records(0, 2), FIELDS) == 2
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_file_that_says_all_is_there_comes_last(tmp_path, monkeypatch):
    moved, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: moved.append(Path(to).name) or replace(self, to))
    dataset(tmp_path)
    assert sorted(moved[-3:-1]) == ["features.json", "metadata.json"] and moved[-1] == "dataset_info.json"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_nothing_at_all_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="expected a record or more, found none"):
        dataset(tmp_path, train=(0,), validation=())
    with pytest.raises(DataError, match="expected shards of train and validation, found train"):
        finish_dataset(tmp_path, "images", CONFIG, 1, DESCRIPTION, {"train": [1]}, TEXT)


def test_records_for_another_experiment_are_refused(tmp_path):
    folder = dataset(tmp_path)
    other = dataclasses.replace(CONFIG.encoders, seed=3)
    with pytest.raises(DataError, match="(?s)encoders.face: expected arcface_patches/1 .*seed=3, found .*seed=0"):
        opened(dataclasses.replace(experiment(folder), encoders=other), 0, "train")
