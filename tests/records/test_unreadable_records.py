"""Records that are damaged, or cannot be read here: each said by name, and nothing is blamed that is well."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python import array_record_module

from mmjax.errors import DataError
from mmjax.records import pipeline, schema, sources
from mmjax.synthetic import builders
from mmjax.synthetic.builders import BUILDERS
from tests.records.test_pipeline import ROOT, images, iterate, opened, same, take


def damaged(tmp_path, damage):
    """A source whose file of records was changed by `damage(bytes) -> bytes`."""
    source = opened(images(tmp_path), 0, "train")
    (path,) = Path(source.folder).glob("*-train.array_record*")
    path.write_bytes(damage(path.read_bytes()))
    return images(tmp_path)


def flip(content):
    changed = bytearray(content)
    for i in range(len(content) // 3, len(content) // 3 + 2000):
        changed[i] ^= 0x5A
    return bytes(changed)


@pytest.mark.parametrize("damage", [flip, lambda content: content[: len(content) // 2], lambda content: b""])
def test_damaged_records_are_named(tmp_path, damage):
    config = damaged(tmp_path, damage)
    with pytest.raises(DataError, match="(?s)drawn_images.*expected .*delete the folder and prepare it again"):
        source = opened(config, 0, "train")
        for index in range(len(source)):
            source[index]


@pytest.mark.parametrize("fields", [None, ("text",)])
def test_damage_stops_the_iterator_with_its_name(tmp_path, fields):
    """Also where little of a record is wanted: a damaged one is damaged, wherever the damage is."""
    config = damaged(tmp_path, flip)
    with pytest.raises(DataError, match="train record .*delete the folder"):
        take(iterate(config, fields=fields), 20)


def test_a_record_that_is_cut_off_is_refused_whatever_is_wanted_of_it(tmp_path):
    """Whole for ArrayRecord, but half a message for protobuf."""
    source = opened(images(tmp_path), 0, "train")
    records, _ = source._open()
    (path,) = Path(source.folder).glob("*-train.array_record*")
    cut = [records[index][: len(records[index]) // 2] for index in range(len(source))]
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for each in cut:
        writer.write(each)
    writer.close()
    with pytest.raises(DataError, match="train record 5: expected a readable record, found a damaged one .*prepare it"):
        sources.open_source(sources.find_sources(images(tmp_path), BUILDERS), 0, "train", ("text",))[5]


def test_what_is_wrong_in_a_field_is_an_obstacle_to_those_who_read_it(tmp_path, monkeypatch):
    """A landmark that is NaN is nothing to a training that reads none: its records need not be made again."""
    make = builders.DrawnImages.records

    def without_landmarks(self, encoders, split):
        for record in make(self, encoders, split):
            yield record | {"landmarks": np.full_like(record["landmarks"], np.nan)}

    with monkeypatch.context() as writing:
        writing.setattr(builders.DrawnImages, "records", without_landmarks)
        writing.setattr(schema, "_check", lambda *_: None)
        opened(images(tmp_path), 0, "train")
    assert take(iterate(images(tmp_path), fields=("latents", "text")), 6)
    for fields in (None, ("latents", "landmarks")):
        with pytest.raises(DataError, match="train record .*: landmarks: expected finite numbers, .*found inf or NaN"):
            next(iterate(images(tmp_path), fields=fields))


def test_single_bits_that_flip_in_records_are_noticed(tmp_path):
    """ArrayRecord's own checksums cover all that is read; files are filled up with zeros, which is not."""
    source, chance = opened(images(tmp_path), 0, "train"), np.random.default_rng(0)
    (path,) = Path(source.folder).glob("*-train.array_record*")
    whole, noticed = path.read_bytes(), 0
    before = [source[index] for index in range(len(source))]
    for _ in range(40):
        content, bit = bytearray(whole), int(chance.integers(8 * len(whole)))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            again = opened(images(tmp_path), 0, "train")
            after = [again[index] for index in range(len(again))]
        except DataError as error:
            assert source.folder in str(error)
            noticed += 1
        else:
            assert all(map(same_record, before, after)), f"bit {bit} was read without a word"
    print(f"measured: {noticed} of 40 flipped bits noticed, the others without effect")
    assert noticed > 10


def same_record(one, other):
    return same(pipeline.collate([one]), pipeline.collate([other]))


@pytest.mark.parametrize("missing", ["array_record", "tensorflow_datasets"])
def test_a_missing_package_is_named_and_the_records_are_not_blamed(folder, missing):
    opened(images(folder), 0, "train")
    code = f"""
import sys
from tests.records.test_pipeline import DataError, images, opened
source = opened(images({str(folder)!r}), 0, "train")
for name in [name for name in sys.modules if name.partition(".")[0] == {missing!r}]:
    sys.modules[name] = None
sys.modules[{missing!r}] = sys.modules[{missing + ".python.array_record_data_source"!r}] = None
try:
    source[0]
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert f"pip install {missing}; the records need not be made again" in done.stdout, done.stderr[-2000:]


def test_a_package_that_is_missing_is_named_as_it_is_installed(folder, monkeypatch):
    def without_dm_tree(folder):
        raise ModuleNotFoundError("No module named 'tree'", name="tree")

    monkeypatch.setattr("tensorflow_datasets.builder_from_directory", without_dm_tree)
    with pytest.raises(DataError, match="found one missing or broken .*'tree'.; pip install dm-tree; the records"):
        sources.open_folder(folder)
