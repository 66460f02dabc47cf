"""What a preparation finds in folders, tars, manifests and data sets, and that it reads the pixels that are meant."""

import csv
import dataclasses
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.errors import DataError
from mmjax.preparation.inputs import decoding
from mmjax.preparation.inputs.decoding import read_frames, read_photo, video_frames
from mmjax.preparation.inputs.listing import list_items
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings
from tests.helpers.hostile_files import encoded, movie, picture, tar

SETTINGS = Settings()
CLIPS = {  # and whether a reading from the middle finds every place in them
    "videos/liveportrait/driving/d13.mp4": True,
    "videos/franck/franck.mp4": True,
    "videos/grid/GRID/bbaf2n.mpg": False,
}


def write(folder: Path, files: dict) -> str:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def told(items, *names) -> dict:
    return {item.key: tuple(getattr(item, name) for name in names) for item in items}


def test_folders_are_listed_with_people_and_captions(tmp_path):
    root = write(
        tmp_path / "photos",
        {
            "top.jpg": "x",
            "anna/2.PNG": "x",
            "anna/1.jpg": "x",
            "anna/1.txt": "\ufeffA woman smiles.\n",
            "anna/trip/film.mp4": "x",
            "ben/1.webp": "x",
            "ben/1.json": '{"caption": "A man.", "person": 7, "width": 3}',
            "notes.pdf": "x",
            ".hidden/3.jpg": "x",
        },
    )
    items, dropped, ignored = list_items([root])
    assert dropped == []
    assert told(items, "kind", "person", "caption", "role", "collection") == {
        "anna/1.jpg": ("photo", "photos/anna", "A woman smiles.", "both", "photos"),
        "anna/2.PNG": ("photo", "photos/anna", None, "both", "photos"),
        "anna/trip/film.mp4": ("video", None, None, "both", "photos"),
        "ben/1.webp": ("photo", "photos/7", "A man.", "both", "photos"),
        "top.jpg": ("photo", None, None, "both", "photos"),
    }
    assert list(map(str, ignored)) == [
        "1 .pdf: a drawing or document",
        "1 without ending: a hidden file or folder",
    ]
    assert [item.key for item in items] == sorted(item.key for item in items)
    assert (items, dropped, ignored) == list_items([root])


def test_inputs_of_one_name_share_neither_keys_nor_people(tmp_path):
    files = {"p/1.jpg": "x", "p/2.jpg": "x"}
    items, _, _ = list_items([write(tmp_path / "a" / "set", files), write(tmp_path / "b" / "set", files)])
    assert [item.key for item in items] == ["set/p/1.jpg", "set/p/2.jpg", "set~2/p/1.jpg", "set~2/p/2.jpg"]
    assert {item.person for item in items} == {"set/p", "set~2/p"}


def test_a_file_that_two_inputs_hold_is_taken_once(tmp_path):
    root = write(tmp_path / "photos", {"p/1.jpg": "x", "p/2.jpg": "x"})
    items, dropped, _ = list_items([root, f"{root}/p", f"{root}/p/1.jpg"])
    assert len({item.path for item in items}) == len(items) == 2
    assert [drop.reason for drop in dropped] == ["duplicate"] * 3


def test_links_in_circles_end(tmp_path):
    root = write(tmp_path / "photos", {"p/1.jpg": "x"})
    os.symlink("..", f"{root}/p/up")
    os.symlink(root, f"{root}/again")
    assert len(list_items([root])[0]) == 1


def test_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    root, scan = write(tmp_path / "photos", {"p/1.jpg": "x", "q/1.jpg": "x"}), os.scandir

    def refuse(path):
        if str(path).endswith("/q"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    items, dropped, _ = list_items([root])
    assert [item.key for item in items] == ["p/1.jpg"]
    assert [(drop.key, drop.reason, drop.detail) for drop in dropped] == [
        ("q", "unreadable", "the folder cannot be read (Permission denied)")
    ]


def test_members_of_tars_are_read_where_they_stand(tmp_path):
    film, pictures = movie(frames=5), [encoded("PNG", picture(seed=seed)) for seed in range(2)]
    archive = tar(
        ("000.png", pictures[0]),
        ("000.txt", b"A man."),
        ("000.cls", b"12"),
        ("eva/1.png", pictures[1]),
        ("eva/2.mp4", film),
    )
    root = write(tmp_path / "shards", {"s-0.tar": archive})
    items, dropped, _ = list_items([root])
    assert dropped == []
    assert told(items, "kind", "person", "caption") == {
        "s-0.tar/000.png": ("photo", "shards/12", "A man."),
        "s-0.tar/eva/1.png": ("photo", "shards/eva", None),
        "s-0.tar/eva/2.mp4": ("video", "shards/eva", None),
    }
    for item, seed in zip(items[:2], range(2), strict=True):
        np.testing.assert_array_equal(read_photo(item, SETTINGS), picture(seed=seed))
    assert len(list(video_frames(items[2], SETTINGS))) == 5
    assert list_items([f"{root}/s-0.tar"])[0] == items


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_manifest_lists_what_is_looked_at(tmp_path, kind):
    write(tmp_path, {"m/a/1.jpg": "x", "m/2.jpg": "x", "other/3.mp4": "x", "m/notes.txt": "x", "up.jpg": "x"})
    rows = [
        {"path": "a/1.jpg", "caption": "A man, smiling.", "person": "ben", "role": "sample"},
        {"path": "3.mp4", "caption": "", "person": "ben", "role": ""},
        {"path": "gone.jpg", "caption": "x", "person": "x", "role": "both"},
        {"path": "../up.jpg", "caption": "x", "person": "x", "role": "both"},
        {"path": "/etc/passwd.jpg", "caption": "x", "person": "x", "role": "both"},
        {"path": "notes.txt", "caption": "x", "person": "x", "role": "both"},
    ]
    items, dropped, _ = list_items(
        [str(tmp_path / "other")], manifest=write_rows(tmp_path / "m" / f"list.{kind}", rows)
    )
    assert told(items, "kind", "person", "caption", "role") == {
        "3.mp4": ("video", "list/ben", None, "both"),
        "a/1.jpg": ("photo", "list/ben", "A man, smiling.", "sample"),
    }
    assert {drop.key: drop.detail for drop in dropped} == {
        "gone.jpg": "there is no such file",
        "../up.jpg": "its path leads out of the manifest's folder and of the inputs",
        "/etc/passwd.jpg": "its path leads out of the manifest's folder and of the inputs",
        "notes.txt": "neither a photo nor a video",
    }


def write_rows(path: Path, rows: list[dict]) -> str:
    if path.suffix == ".jsonl":
        return write(path.parent, {path.name: "\n".join(map(json.dumps, rows)) + "\n"}) + f"/{path.name}"
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return write(path.parent, {path.name: file.getvalue()}) + f"/{path.name}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "path,title\n1.jpg,x\n",
            "line 2: expected the columns path, caption, person, role, found also 'title'",
        ),
        ("a.csv", "1.jpg,x\n2.jpg,y\n", "expected the columns"),
        ("a.csv", "path,caption\n1.jpg,a,b\n", "more values than columns"),
        ("a.csv", "path,role\n1.jpg,star\n", "line 2: expected a role of sample, reference, both, found 'star'"),
        ("a.csv", "path\n\0\n", "expected a path|line contains NUL"),
        ("a.csv", b"path\n\xff\xfe.jpg\n", "expected UTF-8 text"),
        ("a.jsonl", '{"path": "1.jpg"}\n{"path": \n', "line 2: expected a JSON object"),
        ("a.jsonl", "[" * 100_000, "line 1: expected a JSON object"),
        ("a.jsonl", '{"caption": "x"}', "line 1: expected a path, found none"),
        ("a.jsonl", '{"path": ["1.jpg"]}', "expected text as path, found list"),
        ("a.txt", "1.jpg", "expected a .csv, .tsv or .jsonl file, found another kind"),
    ],
)
def test_wrong_manifests_are_refused_at_once(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        list_items([], manifest=write(tmp_path, {"1.jpg": "x", name: content}) + f"/{name}")


def test_generated_pictures_join_their_originals(tmp_path):
    originals = {f"{name}.jpg": "x" for name in ("1", "10", "1_b", "anna/5", "anna/6")}
    generated = ("1.png", "1_0.png", "1-gen.png", "1/0.png", "1_b_3.png", "10/x.png", "anna/5_1.png", "7.png", "12.png")
    items, dropped, _ = list_items(
        [write(tmp_path / "ffhq", originals)], references=[write(tmp_path / "made", dict.fromkeys(generated, "x"))]
    )
    joined = {item.key.removeprefix("made/"): item.person for item in items if item.collection == "made"}
    assert joined == {
        **dict.fromkeys(("1.png", "1_0.png", "1-gen.png", "1/0.png"), "ffhq/1.jpg"),
        **{"1_b_3.png": "ffhq/1_b.jpg", "10/x.png": "ffhq/10.jpg", "anna/5_1.png": "ffhq/anna"},
    }
    assert {item.role for item in items if item.collection == "made"} == {"reference"}
    persons = {item.key: item.person for item in items if item.collection == "ffhq"}
    assert persons["ffhq/1.jpg"] == "ffhq/1.jpg" and persons["ffhq/anna/6.jpg"] == "ffhq/anna"
    assert [(drop.key, drop.reason) for drop in dropped] == [
        ("made/12.png", "no_reference"),
        ("made/7.png", "no_reference"),
    ]


def test_generated_pictures_in_an_input_are_references_all_the_same(tmp_path):
    folder = write(tmp_path / "set", dict.fromkeys(("a.jpg", "b.jpg", "made/a_0.png", "made/a_1.png"), "x"))
    items, dropped, _ = list_items([folder], references=[f"{folder}/made"])
    assert {item.key: item.role for item in items if item.role != "both"} == {
        "made/a_0.png": "reference",
        "made/a_1.png": "reference",
    }
    assert len(items) == 4 and not dropped


def test_halves_of_letters_are_left_out(tmp_path):
    """As in a caption that was cut in the middle of an emoji."""
    rows = r'{"path": "1.jpg", "caption": "a man \ud83d", "person": "x\ud83d"}'
    folder = write(tmp_path / "set", {"1.jpg": "x", "list.jsonl": rows, "2.jpg": "x", "2.json": rows})
    (item,), _, _ = list_items([], manifest=f"{folder}/list.jsonl")
    assert (item.caption, item.person) == ("a man", "list/x")
    item = list_items([folder])[0][1]
    assert (item.caption, item.person) == ("a man", "set/x")


def test_nothing_to_look_at_is_told(tmp_path):
    with pytest.raises(DataError, match="expected photos or videos .*.webp.*, found none"):
        list_items([write(tmp_path / "empty", {"notes.pdf": "x"})])
    with pytest.raises(DataError, match="empty: expected photos or videos"):
        list_items([write(tmp_path / "full", {"1.jpg": "x"})], references=[str(tmp_path / "empty")])
    with pytest.raises(DataError, match="no input"):
        list_items([])
    with pytest.raises(DataError, match="gone: expected a folder.* found nothing"):
        list_items([str(tmp_path / "gone")])
    with pytest.raises(DataError, match=r"notes.pdf: expected a folder.* found another file"):
        list_items([f"{tmp_path}/empty/notes.pdf"])


class Portraits(tfds.core.GeneratorBasedBuilder):
    """Four photos of two people, as TFDS's lfw tells them."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None
    name = "portraits"

    def _info(self):
        features = {"label": tfds.features.Text(), "image": tfds.features.Image(shape=(48, 64, 3))}
        return _LocalInfo(builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for seed in range(4):
            yield seed, {"label": "Zoë" if seed % 2 else "Ben", "image": io.BytesIO(encoded("PNG", picture(seed=seed)))}


class _LocalInfo(tfds.core.DatasetInfo):
    def initialize_from_bucket(self):
        pass


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    builder = Portraits(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_dir=folder / "downloads")
    return builder.data_dir


def test_data_sets_are_read_by_folder_and_by_name(portraits, monkeypatch):
    items, dropped, _ = list_items([], dataset=str(portraits))
    assert dropped == []
    assert [(item.key, item.person, item.collection) for item in items] == [
        (f"train/{seed:07d}", f"portraits/{'Zoë' if seed % 2 else 'Ben'}", "portraits") for seed in range(4)
    ]
    for seed, item in enumerate(items):
        np.testing.assert_array_equal(read_photo(item, SETTINGS), picture(seed=seed))
    root = str(Path(portraits).parent.parent)
    monkeypatch.setattr("tensorflow_datasets.core.utils.file_utils.list_data_dirs", lambda *a, **k: [root])
    for name in ("portraits", "portraits:1.0.0"):
        assert list_items([], dataset=name)[0] == items
    with pytest.raises(DataError, match="lfw: expected a data set that TFDS prepared.*tfds build lfw"):
        list_items([], dataset="lfw")


def test_data_sets_of_other_kinds_are_refused(portraits, tmp_path):
    folder = tmp_path / "portraits" / "1.0.0"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        text = (Path(portraits) / name).read_text()
        (folder / name).write_text(text.replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match="expected ArrayRecord files.*found tfrecord.*file_format=array_record"):
        list_items([], dataset=str(folder))


def as_item(path, kind="video") -> Item:
    return Item(os.path.basename(path), kind, str(path), "test")


def test_frames_have_their_times_and_numbers(tmp_path):
    write(tmp_path, {"a.mp4": movie(frames=60, rate=25)})
    frames = list(video_frames(as_item(tmp_path / "a.mp4"), SETTINGS))
    assert [index for index, _, _ in frames] == list(range(60))
    np.testing.assert_allclose([seconds for _, seconds, _ in frames], np.arange(60) / 25, atol=1e-6)
    assert np.abs(frames[33][2].astype(int) - picture(seed=33)).mean() < 20
    found = read_frames(as_item(tmp_path / "a.mp4"), [40, 33, 40], SETTINGS)
    for pixels, index in zip(found, (40, 33, 40), strict=True):
        np.testing.assert_array_equal(pixels, frames[index][2])
    with pytest.raises(Rejected, match="expected frame 60, found fewer"):
        read_frames(as_item(tmp_path / "a.mp4"), [60], SETTINGS)


@pytest.mark.parametrize("name", CLIPS)
def test_frames_from_the_middle_are_those_of_a_whole_reading(name):
    folder = os.environ.get("MMJAX_TEST_DATA")
    if not folder:
        pytest.skip("MMJAX_TEST_DATA is not set: no real clips")
    item = as_item(Path(folder) / name)
    times, chosen = [], {}
    for index, seconds, pixels in video_frames(item, SETTINGS):
        times.append(seconds)
        if index % 7 == 3 and index < 400:
            chosen[index] = pixels
    for first in (3, 24, 45):
        indices = [index for index in (first, first + 7, first + 21) if index in chosen]
        span = times[indices[0]], times[indices[-1]]
        found = decoding._from_middle(item, set(indices), SETTINGS, span)
        assert sorted(found or ()) == indices or not CLIPS[name]
        np.testing.assert_array_equal(
            read_frames(item, indices, SETTINGS, span), np.stack([chosen[index] for index in indices])
        )
    wrong = (times[10] + 0.011, times[20])
    np.testing.assert_array_equal(read_frames(item, [10, 17], SETTINGS, wrong)[0], chosen[10])


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_frames_are_turned_as_a_player_shows_them(tmp_path, matrix, turns):
    """The mp4's display matrix (a b u c d v x y w; x' = a x + c y): (0, 1, -1, 0) turns clockwise by a quarter."""
    plain = bytearray(movie(frames=3))
    write(tmp_path, {"plain.mp4": bytes(plain)})
    at = plain.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    plain[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    write(tmp_path, {"turned.mp4": bytes(plain)})
    upright = read_frames(as_item(tmp_path / "plain.mp4"), [1], SETTINGS)[0]
    turned = read_frames(as_item(tmp_path / "turned.mp4"), [1], SETTINGS)[0]
    np.testing.assert_array_equal(turned, np.rot90(upright, turns))


def test_pixels_that_are_not_square_become_so():
    folder = os.environ.get("MMJAX_TEST_DATA")
    if not folder:
        pytest.skip("MMJAX_TEST_DATA is not set: no real clips")
    clip = as_item(Path(folder) / "videos/carphone/carphone_pristine.mp4")  # 176x144, pixels of 128:117
    assert next(video_frames(clip, SETTINGS))[2].shape == (144, 193, 3)


def test_limits_are_held(tmp_path):
    write(tmp_path, {"a.mp4": movie(frames=10), "a.png": encoded("PNG", picture(100, 200))})
    few = dataclasses.replace(SETTINGS, max_frames=4)
    seen = []
    with pytest.raises(Rejected, match="more than 4 frames") as caught:
        seen += [seen.append(index) for index, _, _ in video_frames(as_item(tmp_path / "a.mp4"), few)]
    assert seen == [0, 1, 2, 3] and caught.value.reason == "too_large"
    small = dataclasses.replace(SETTINGS, max_megapixels=0.003)
    with pytest.raises(Rejected, match="64x48 pixels"):
        next(video_frames(as_item(tmp_path / "a.mp4"), small))
    with pytest.raises(Rejected, match="200x100 pixels, expected at most 0.003 million"):
        read_photo(as_item(tmp_path / "a.png", "photo"), small)


def test_damage_in_the_middle_gives_the_frames_before_it(tmp_path):
    whole = movie(frames=40, fast_start=True)
    write(tmp_path, {"a.mp4": whole[: len(whole) * 3 // 4]})
    seen = []
    with pytest.raises(Rejected, match="after frame") as caught:
        seen += [seen.append(index) for index, _, _ in video_frames(as_item(tmp_path / "a.mp4"), SETTINGS)]
    assert caught.value.reason == "unreadable" and 5 < len(seen) < 40


def test_a_cut_between_two_pictures_is_found_by_the_index(tmp_path):
    """No picture of such a file is damaged, and libav ends as if that were all."""
    import av

    whole = movie(fast_start=True)
    with av.open(io.BytesIO(whole)) as container:
        twelfth = container.streams.video[0].index_entries[11]
    (tmp_path / "a.mp4").write_bytes(whole[: twelfth.pos + twelfth.size])
    seen = []
    with pytest.raises(Rejected, match="cut off after frame 12: its index names more"):
        seen += [seen.append(index) for index, _, _ in video_frames(as_item(tmp_path / "a.mp4"), SETTINGS)]
    assert len(seen) == 12


@pytest.mark.slow
def test_large_pictures_are_a_matter_of_the_setting_alone(tmp_path):
    """Pillow's own limit, 179 million pixels, does not count where the setting is higher."""
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.png")
    item = as_item(tmp_path / "a.png", "photo")
    with pytest.raises(Rejected, match="20000x10000 pixels, expected at most 100 million") as caught:
        read_photo(item, SETTINGS)
    assert caught.value.reason == "too_large"
    before = Image.MAX_IMAGE_PIXELS
    assert read_photo(item, dataclasses.replace(SETTINGS, max_megapixels=250.0)).shape == (10_000, 20_000, 3)
    assert before == Image.MAX_IMAGE_PIXELS
