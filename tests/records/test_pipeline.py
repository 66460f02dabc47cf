"""The data pipeline: prepared once, shuffled, mixed, loaded in parts, resumed bit for bit, honest about damage."""

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import ConfigError, DataError
from mmjax.records import pipeline, sources
from mmjax.records.sources import find_sources
from mmjax.synthetic import builders, people
from mmjax.synthetic.builders import BUILDERS
from mmjax.synthetic.people import HELD_OUT_START

ROOT = Path(__file__).resolve().parents[2]
PEOPLE, PICTURES, CLIPS = 8, 3, 2


def experiment(folder, *, seed=0, encoders=None, **data):
    sizes = {
        **{"dir": str(folder), "height": 16, "width": 16, "sources": ("drawn_images", "drawn_clips")},
        **{"frames": (1, 9), "weights": (3.0, 1.0), "batches": (4, 2)},
        **{"people": PEOPLE, "held_out_people": 2, "pictures_per_person": PICTURES, "clips_per_person": CLIPS},
        **data,
    }
    transformer = c.Transformer(layers=2, heads=2, head_dim=16, latent_channels=3, text_dim=8, text_length=20)
    adapter = c.Adapter(id_dim=24, clip_dim=8, clip_tokens=5)
    made = c.Experiment(
        autoencoder=c.Autoencoder("pixel"),
        seed=seed,
        model=c.Model(transformer, adapter),
        data=c.Data(**sizes),
        encoders=encoders or c.Encoders(),
    )
    return made.validated()


def images(folder, **data):
    return experiment(folder, sources=("drawn_images",), frames=(1,), weights=(1.0,), batches=(4,), **data)


def opened(config, index, split):
    """Records of one source, made first where they are not there."""
    return sources.open_source(find_sources(config, BUILDERS), index, split)


def iterate(config, rows=None, done=0, fields=None):
    return pipeline.make_train_iterator(config, find_sources(config, BUILDERS), rows, done, fields)


def order_of(config):
    return pipeline.order_fingerprint(config, find_sources(config, BUILDERS))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)


def ids(batch):
    """One hashable for each sample, which tells records apart."""
    return [row.tobytes() for row in batch["id_embedding"]]


def test_a_batch_has_one_shape_and_no_strings(folder):
    batches = take(iterate(experiment(folder)), 12)
    shapes = {batch["latents"].shape for batch in batches}
    assert shapes == {(4, 1, 16, 16, 3), (2, 9, 16, 16, 3)}
    for batch in batches:
        assert all(isinstance(value, np.ndarray) and value.dtype.kind != "U" for value in batch.values())
        assert len({len(value) for value in batch.values()}) == 1
        assert str(batch["latents"].dtype) == str(batch["clip_last"].dtype) == "bfloat16"


def test_fields_that_are_not_asked_for_are_left_out_and_nothing_else_changes(folder):
    config, fields = experiment(folder), ("latents", "id_embedding")
    whole = take(iterate(config, done=3), 12)
    assert whole[0].keys() > {*fields, "reference", "text"}
    for batch, found in zip(whole, take(iterate(config, done=3, fields=fields), 12), strict=True):
        assert same(found, {name: batch[name] for name in (*fields, *pipeline.NUMBERS)})
    held_out = config, find_sources(config, BUILDERS), "drawn_images", 2
    both = pipeline.validation_batches(*held_out), pipeline.validation_batches(*held_out, fields=fields)
    for batch, found in zip(*both, strict=True):
        assert same(found, {name: batch[name] for name in fields})


def test_sources_are_mixed_by_weight(folder):
    lengths = [len(batch["latents"]) for batch in take(iterate(experiment(folder)), 40)]
    assert lengths.count(4) == 30 and lengths.count(2) == 10
    assert 2 in lengths[:5] and 4 in lengths[:5]


def test_every_epoch_shows_every_record_once_in_a_new_order(folder):
    records = PEOPLE * PICTURES
    seen = [i for batch in take(iterate(images(folder)), 2 * records // 4) for i in ids(batch)]
    first, second = seen[:records], seen[records:]
    assert len(set(first)) == records and set(first) == set(second) and first != second


def test_the_order_depends_on_the_seed_and_nothing_else(folder):
    def one_epoch(seed):
        return [ids(batch) for batch in take(iterate(images(folder, seed=seed)), 6)]

    assert one_epoch(0) == one_epoch(0) != one_epoch(1)


def test_the_order_does_not_depend_on_who_loads_which_rows(folder, monkeypatch):
    """What four devices load, two of them the same rows, are rows of the batches that one loads; no others are read."""
    config = experiment(folder)
    whole = take(iterate(config), 24)
    read = []
    decode = sources.RecordSource.__getitem__
    monkeypatch.setattr(sources.RecordSource, "__getitem__", lambda self, i: read.append(i) or decode(self, i))
    for rows in (((0, 1), (0,)), ((2, 3), (1,)), ((1, 3), (0,)), ((1, 3), (0,))):
        part = iterate(config, rows)
        for batch, found in zip(whole, take(part, 24), strict=True):
            mine = list(rows[int(batch["source_number"][0])])
            assert same(found, {name: value[mine] for name, value in batch.items()})
    assert 4 * 24 < len(read) <= 4 * (24 + 5) * 2, "only those rows, of a few batches ahead as well"


@pytest.mark.slow
def test_a_resumed_run_sees_the_same_batches(folder):
    """Begun after step k: bit-equal from step k + 1 on, over an epoch's end, also with other workers and rows."""
    config = experiment(folder)
    whole = take(iterate(config), 15)
    passed, expected = whole[:5], whole[5:]
    assert all(same(a, b) for a, b in zip(expected, take(iterate(config, done=5), 10), strict=True))
    with contextlib.closing(iterate(experiment(folder, workers=2), ((1, 2), (1,)), 5)) as resumed:
        for batch, found in zip(expected, take(resumed, 10), strict=True):
            rows = [1] if len(batch["latents"]) == 2 else [1, 2]
            assert same(found, {name: value[rows] for name, value in batch.items()})
    assert not any(same(a, b) for a, b in itertools.product(passed, expected[:2]))


def test_moved_records_are_the_same_records_and_others_are_not(folder, tmp_path):
    """What a resumed run compares: records by what they are, not by where they lie."""
    config = experiment(folder)
    sources = find_sources(config, BUILDERS)
    moved = [shutil.copytree(each, tmp_path / f"elsewhere-{number}") for number, each in enumerate(sources.folders)]
    elsewhere = dataclasses.replace(config.data, sources=tuple(str(path) for path in moved))
    there = find_sources(dataclasses.replace(config, data=elsewhere))
    order = pipeline.order_fingerprint(config, sources)
    assert pipeline.order_changes(order, pipeline.order_fingerprint(config, there)) == ""
    swapped = dataclasses.replace(there, folders=there.folders[::-1])
    assert "sources: was" in pipeline.order_changes(order, pipeline.order_fingerprint(config, swapped))


def test_a_changed_order_is_told_by_name(folder):
    saved = order_of(experiment(folder))
    assert pipeline.order_changes(saved, order_of(experiment(folder, workers=2))) == ""
    changes = {
        "seed: was 0, is 5": experiment(folder, seed=5),
        r"batches: was \[4, 2\], is \[8, 2\]": experiment(folder, batches=(8, 2)),
        r"weights: was .*, is \[1.0, 1.0\]": experiment(folder, weights=(1.0, 1.0)),
        "sources: was .*:16.*, is .*:8.*": experiment(folder, clips_per_person=1),
    }
    for said, changed in changes.items():
        assert re.fullmatch(said, pipeline.order_changes(saved, order_of(changed)))
    for damaged in ("", "[", "3"):
        with pytest.raises(DataError, match="saved order of the data is damaged"):
            pipeline.order_changes(damaged, saved)


@pytest.mark.parametrize("processes, said", [(1, ""), (2, "shuffled: was apart in 2 processes, is together")])
def test_orders_that_were_saved_before_batches_were_numbered(folder, processes, said):
    """One process had the order that all have now; several had each their own records, so that a run cannot go on."""
    now = order_of(experiment(folder))
    before = json.loads(now) | {"workers": 2, "processes": processes}
    assert pipeline.order_changes(json.dumps(before), now) == said


def test_validation_shows_held_out_people_in_a_fixed_order(folder):
    config = experiment(folder)
    found = find_sources(config, BUILDERS)
    records = pipeline.validation_records(config, found, "drawn_images", 6)
    numbers = [int(record["person"].removeprefix("drawn-")) for record in records]
    assert min(numbers) >= HELD_OUT_START and len(set(numbers)) == 2
    assert all(" img " in record["caption"] and record["source"] == "drawn_images" for record in records)
    batches = pipeline.validation_batches(config, found, "drawn_images", 2)
    again = pipeline.validation_batches(config, found, "drawn_images", 2)
    assert [len(batch["text"]) for batch in batches] == [4, 4]
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))
    for rows in ([0, 1], [1, 3]):
        some = pipeline.validation_batches(config, found, "drawn_images", 2, rows)
        assert [ids(batch) for batch in some] == [[ids(batch)[row] for row in rows] for batch in batches]
    with pytest.raises(DataError, match='"nobody": expected one of data.sources'):
        pipeline.validation_batches(config, found, "nobody", 1)


def test_nobody_is_in_both_splits(folder):
    config = experiment(folder)
    for index in range(2):
        train, held_out = (opened(config, index, split) for split in ("train", "validation"))
        names = [{source[i]["person"] for i in range(len(source))} for source in (train, held_out)]
        assert len(names[0]) == PEOPLE and len(names[1]) == 2 and not names[0] & names[1]


def test_records_are_made_once_and_settings_do_not_mix(folder, monkeypatch):
    source = opened(images(folder), 0, "train")
    monkeypatch.setattr(builders.DrawnImages, "records", lambda *_: pytest.fail("made again"))
    assert opened(images(folder), 0, "train").folder == source.folder
    monkeypatch.undo()
    names = {source.folder}
    for change in (
        {"people": 2},
        {"held_out_people": 2},
        {"pictures_per_person": 2},
        {"references": 2},
        {"height": 8},
        {"encoders": c.Encoders(seed=1)},
    ):
        other = images(folder, **{"people": 1, "held_out_people": 1, "pictures_per_person": 1, **change})
        names.add(opened(other, 0, "train").folder)
    assert len(names) == 7


def test_an_interrupted_preparation_leaves_nothing_behind(tmp_path, monkeypatch):
    config = images(tmp_path)
    make = builders.DrawnImages.records

    def interrupted(self, encoders, split):
        yield from itertools.islice(make(self, encoders, split), 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(builders.DrawnImages, "records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(config, 0, "train")
    assert not list(tmp_path.rglob("*.array_record*")) and not list(tmp_path.rglob("dataset_info.json"))
    monkeypatch.undo()
    assert len(opened(config, 0, "train")) == PEOPLE * PICTURES


def test_a_prepared_folder_is_opened_by_its_path(folder):
    made = opened(images(folder), 0, "train")
    by_path = dataclasses.replace(images(folder).data, sources=(made.folder,), dir="elsewhere")
    config = dataclasses.replace(images(folder), data=by_path)
    record = opened(config, 0, "train")[3]
    assert same(pipeline.collate([record]), pipeline.collate([made[3]]))


def test_a_folder_of_other_encoders_is_refused(folder):
    made = opened(images(folder), 0, "train")
    other = images(folder, encoders=c.Encoders(seed=9))
    config = dataclasses.replace(other, data=dataclasses.replace(other.data, sources=(made.folder,)))
    with pytest.raises(DataError, match="(?s)encoders.text: expected .*seed=9, found .*seed=0.*prepare them again"):
        iterate(config)


@pytest.mark.parametrize(
    "name, complaint",
    [("drawn_imagse", "did you mean drawn_images"), ("laion", "known builders: drawn_images, drawn_clips, clip")],
)
def test_unknown_sources_are_named(tmp_path, name, complaint):
    config = images(tmp_path)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(name,)))
    with pytest.raises(DataError, match=f'found "{name}"; {complaint}'):
        iterate(config)


def test_a_folder_without_records_is_refused(tmp_path):
    config = images(tmp_path)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(str(tmp_path),)))
    with pytest.raises(DataError, match="expected a folder of prepared records with dataset_info.json"):
        iterate(config)


def test_sources_that_do_not_suit_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="data.frames = 9: expected 1"):
        opened(experiment(tmp_path, frames=(9, 9)), 0, "train")
    with pytest.raises(ConfigError, match="encoders.face = drawn: expected pixels"):
        one = {"frames": (9,), "weights": (1.0,), "batches": (1,)}
        opened(experiment(tmp_path, sources=("clip",), **one), 0, "train")
    none = experiment(tmp_path, sources=(), frames=(), weights=(), batches=())
    with pytest.raises(ConfigError, match="expected a source"):
        find_sources(none)


def test_reading_starts_no_accelerator(folder):
    """Our own modules load no JAX. Grain imports it where it finds it, but nothing may wake a device."""
    opened(images(folder), 0, "train")
    script = f"""
import sys
import mmjax.records.sources, mmjax.synthetic.builders, mmjax.synthetic.galleries
assert "jax" not in sys.modules and "tensorflow" not in sys.modules, "loaded before Grain"
from tests.records.test_pipeline import images, iterate
from mmjax.records import pipeline
next(iterate(images({str(folder)!r})))
assert "tensorflow" not in sys.modules
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
import jax
pipeline._start_worker(0, 2)
assert jax.config.jax_platforms == "cpu"
"""
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_pictures_in_the_records_are_of_the_person_named(folder):
    source = opened(images(folder), 0, "train")
    for index in (0, 5, len(source) - 1):
        record = source[index]
        identity = people.make_identity(int(record["person"].removeprefix("drawn-")))
        assert np.abs(record["id_embedding"][0, : people.IDENTITY_DIM] - identity).max() < 0.15
        assert people.class_word(identity) in record["caption"]


def test_a_batch_says_which_records_it_was_made_of(folder):
    config = experiment(folder)
    for batch in take(iterate(config), 6):
        numbers = [batch[name].tolist() for name in pipeline.NUMBERS]
        for row, (source, record) in enumerate(zip(*numbers, strict=True)):
            assert ids(batch)[row] == opened(config, source, "train")[record]["id_embedding"].tobytes()
        (name,) = {config.data.sources[source] for source in numbers[0]}
        listed = ", ".join(map(str, numbers[1]))
        assert pipeline.name_records(config, batch) == f"{name}: train records {listed}"
        assert pipeline.name_records(config, batch, [1]) == f"{name}: train records {numbers[1][1]}"
