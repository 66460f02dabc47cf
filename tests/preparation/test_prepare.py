"""From a folder of photos and a clip to records that training reads; stopped, gone on with, and shared by processes."""

import dataclasses
import json
import os
import random
import time

import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import ConfigError, DataError
from mmjax.preparation import run
from mmjax.preparation.processes.work import Work
from mmjax.preparation.run import prepare
from mmjax.records import pipeline
from mmjax.records.making import EncoderSet
from mmjax.records.schema import BFLOAT16, STRINGS
from mmjax.records.sources import find_sources, open_source
from tests.helpers import face_pictures as fp
from tests.helpers import prepared_input as pi

pytestmark = fp.needs_pack


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return pi.write(tmp_path_factory.mktemp("input") / "people")


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    """(the output of a run that nothing disturbed, its report)."""
    output = tmp_path_factory.mktemp("prepared")
    return output, prepare(pi.experiment(), output, [str(photos)], settings=pi.SETTINGS, workers=1)


def records(output, **changes):
    """All records of an output, by their source."""
    folders = [str(folder) for folder in (output / "images", output / "clips") if folder.is_dir()]
    config = pi.experiment(*folders, weights=(1.0,) * len(folders), batches=(1,) * len(folders), **changes)
    found = {}
    for index in range(len(folders)):
        for split in ("train", "validation"):
            source = open_source(find_sources(config), index, split)
            found |= {record["source"]: record for record in (source[row] for row in range(len(source)))}
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, record in one.items():
        for name, value in record.items():
            if name in STRINGS:
                assert value == other[key][name]
            else:
                np.testing.assert_array_equal(value, other[key][name], err_msg=f"{key} {name}")


def test_a_folder_becomes_records(prepared):
    output, report = prepared
    found = records(output)
    assert len(found) == report["counts"]["records"] == sum(report["splits"].values())
    assert report["counts"]["items"] == 12 and report["dropped"]["unreadable"] == 1
    assert report["dropped"]["duplicate"] == 1  # the copy of the astronaut
    captions = {source: record["caption"] for source, record in found.items()}
    assert captions["people: astronaut/1.png"] == "A woman img in an orange suit smiles."
    assert captions["people: crew/0.png"] == "A person img looks at the camera"
    clips = [record for source, record in found.items() if "#" in source]
    assert len(clips) == 3 and all(record["latents"].shape == (9, 32, 32, 3) for record in clips)


def test_references_are_of_the_same_person_and_no_copies(prepared):
    output, report = prepared
    found = records(output)
    embedding = {source: record["id_embedding"][0] for source, record in found.items()}
    assert set(report["origins"]) == {"other", "shot", "self"}
    assert report["origins"]["other"] == 3  # the astronaut's pictures stand for each other
    woman = [source for source in found if "astronaut" in source]
    for source in woman:
        own = found[source]["reference"][0].astype(float)
        taken = found[source]["latents"][0].astype(np.float32) * 127.5 + 127.5
        assert own.shape == (pi.SIDE, pi.SIDE, 3) and np.abs(own - taken).mean() > 5
    cosines = [
        np.dot(embedding[a], embedding[b]) / np.linalg.norm(embedding[a]) / np.linalg.norm(embedding[b])
        for a in woman
        for b in woman
    ]
    assert min(cosines) > 0.65


def test_masks_boxes_and_landmarks_lie_on_the_face(prepared):
    for record in records(prepared[0]).values():
        for mask, box, points in zip(record["face_mask"], record["boxes"], record["landmarks"], strict=True):
            assert 0.02 < mask.mean() < 0.9 and mask.max() == 1
            rows, columns = np.nonzero(mask > 0.5)
            assert box[0] - 3 <= columns.min() and columns.max() <= box[2] + 3
            assert box[1] - 4 <= rows.min() and rows.max() <= box[3] + 4
            assert (box[:2] < points.min(0)).all() and (points.max(0) < box[2:]).all()


def test_training_reads_them_and_refuses_other_encoders(prepared):
    config = pi.experiment(str(prepared[0] / "images"), str(prepared[0] / "clips"))
    found = find_sources(config)
    assert found.encoders["autoencoder"] == "pixel/1"
    empty = EncoderSet.placeholders(dataclasses.replace(config, encoders=c.Encoders("word_table", "pixels"))).text
    assert np.array_equal(found.unconditional_text, empty.encode_plain([""])[0].astype(BFLOAT16))
    batch = next(pipeline.make_train_iterator(config, found))
    assert batch["latents"].dtype.name == "bfloat16" and batch["text"].shape[1:] == (20, 8)
    with pytest.raises(DataError, match=r"face: expected.*seed=3|found"):
        find_sources(pi.experiment(str(prepared[0] / "images"), str(prepared[0] / "clips"), references=2))


def test_the_page_says_what_was_dropped(prepared):
    output, report = prepared
    page = (output / "report.html").read_text()
    assert "broken.jpg: expected a picture" in page
    assert json.loads((output / "report.json").read_text())["counts"] == report["counts"]
    for reason, count in report["dropped"].items():
        assert f'id="{reason}">{reason.replace("_", " ")}: {count}' in page


def test_going_on_does_nothing_when_all_is_done(prepared, photos):
    output, report = prepared
    shards = {path: path.stat().st_mtime_ns for path in output.glob("*/*.array_record-*")}
    again = prepare(pi.experiment(), output, [str(photos)], settings=pi.SETTINGS, workers=1)
    assert again["counts"] == report["counts"]
    assert shards == {path: path.stat().st_mtime_ns for path in output.glob("*/*.array_record-*")}


def test_another_preparation_in_the_same_folder_is_refused(prepared, photos):
    with pytest.raises(ConfigError, match="settings.min_face: then 48, now 20"):
        changed = dataclasses.replace(pi.SETTINGS, min_face=20)
        prepare(pi.experiment(), prepared[0], [str(photos)], settings=changed, workers=1)
    with pytest.raises(ConfigError, match="items: then"):
        prepare(pi.experiment(), prepared[0], [str(photos / "crew")], settings=pi.SETTINGS, workers=1)
    with pytest.raises(ConfigError, match="--process = 2: expected 0 to 1"):
        Work(prepared[0], 2, 2)


def test_other_peoples_folders_are_left_alone(photos, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / ".hidden").touch()
    with pytest.raises(ConfigError, match="expected a new folder, .* found thesis.txt in it; give another --output"):
        prepare(pi.experiment(), tmp_path, [str(photos)], settings=pi.SETTINGS, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "thesis.txt"]


def test_what_cannot_work_is_said_at_once(photos, tmp_path):
    with pytest.raises(ConfigError, match="none of 12 photos and videos has a caption"):
        (photos / "astronaut" / "1.txt").rename(photos / "1.away")
        try:
            prepare(pi.experiment(), tmp_path, [str(photos)], workers=1)
        finally:
            (photos / "1.away").rename(photos / "astronaut" / "1.txt")
    with pytest.raises(ConfigError, match="expected 1 for photos, one length of clips"):
        prepare(pi.experiment(frames=(9, 17)), tmp_path, [str(photos)], settings=pi.SETTINGS)


@pytest.mark.slow
def test_two_processes_give_the_records_of_one(prepared, photos, tmp_path):
    """Started by the command; the one was called from Python."""
    both = [pi.start(photos, tmp_path, "--process", str(n), "--processes", "2") for n in range(2)]
    printed = [process.communicate(timeout=300)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert_same(records(tmp_path), records(prepared[0]))


def finished(output):
    """How many chunks and shards are done; hidden files are not whole."""
    return len([path for path in output.glob("work/*/*") if not path.name.startswith(".")])


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_gives_the_same_records(tmp_path):
    """Every third kill comes at any time after the start, the others soon after something was done."""
    photos, output, draw, done = pi.many(tmp_path / "photos", 96), tmp_path / "killed", random.Random(0), []
    changed = dict(chunk_photos=5, shard_photos=4, min_sharpness=0.2)  # the recogniser takes 5 faces, or 64 at a time
    more = [f"--settings.{name}={value}" for name, value in changed.items()]
    # all of them run the recogniser as it is for users: compiled once, and kept, for the faces of all
    quick = {"env": os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}}
    for number in range(10):
        process = pi.start(photos, output, *more, start_new_session=True, **quick)
        deadline = time.monotonic() + (draw.uniform(0, 8) if number % 3 == 2 else 120)
        before = finished(output)
        while process.poll() is None and time.monotonic() < deadline and finished(output) < before + 3:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        assert process.poll() is None, "it was to be killed under way, and had ended"
        process.kill()
        process.communicate()
        done.append(finished(output))
    print(f"chunks and shards that were done at each kill: {done}")
    assert [pi.start(photos, folder, *more, **quick).wait(300) for folder in (output, tmp_path / "whole")] == [0, 0]
    found = records(output, frames=(1,))
    assert len(found) > 60
    assert_same(found, records(tmp_path / "whole", frames=(1,)))


@pytest.mark.parametrize(
    "kept, message", [(1, "images: expected records to train on, found only 1"), (0, "nothing was")]
)
def test_what_cannot_be_trained_on_is_said_with_a_report(photos, tmp_path, monkeypatch, kept, message):
    folder = tmp_path / "two"
    folder.mkdir()
    for number, source in enumerate(("crew/0.png", "astronaut/1.png")):
        (folder / f"{number}.png").write_bytes((photos / source).read_bytes())
        if number >= kept:
            (folder / f"{number}.txt").write_text("A woman img " + "and then " * 20)
    splits = {"0.png": "validation", "1.png": "train"}
    monkeypatch.setattr(run, "assign_splits", lambda *_: splits)
    with pytest.raises(DataError, match=message):
        prepare(pi.experiment(), tmp_path / "out", [str(folder)], settings=pi.SETTINGS, workers=1)
    dropped = json.loads((tmp_path / "out" / "report.json").read_text())["dropped"]
    assert dropped == {"long_caption": 2 - kept}
