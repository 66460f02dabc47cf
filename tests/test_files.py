"""Files are there whole or not at all, whatever happens while they are written; and the versions beside results."""

import json
import os
import stat
import threading
from importlib import metadata

import pytest

from mmjax import files, versions

NAMES = ["plain.json", "a" * 251 + ".bin", "é" * 120 + ".json", "日本" * 40 + ".png", ".hidden", "[odd] *?.txt"]


@pytest.fixture(params=[0o022, 0o077])
def mask(request):
    """The mask of new files while a test runs."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def only(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_written_and_replaced(tmp_path, name):
    """Names up to the 255 bytes that a disk takes; nothing else stays."""
    path = tmp_path / "new" / "folder" / name
    assert files.write_text(path, "first") == path
    assert files.write_bytes(str(path), "zweit\u00e4".encode()) == path
    assert path.read_text(encoding="utf-8") == "zweitä" and only(path.parent) == [name]


def test_json_ends_with_a_line(tmp_path):
    path = files.write_json(tmp_path / "a.json", {"b": [1, 2]}, indent=None)
    assert path.read_text() == '{"b": [1, 2]}\n'
    assert json.loads(files.write_json(path, {"ü": 1}).read_text()) == {"ü": 1}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_debris(tmp_path, error):
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), files.written_whole(path) as partial:
        partial.write_text("half of the n")
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old" and only(tmp_path) == ["a.txt"]


def test_what_cannot_be_renamed_leaves_no_debris(tmp_path):
    (tmp_path / "a" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        files.write_text(tmp_path / "a", "a file where a folder is")
    assert only(tmp_path) == ["a"] and only(tmp_path / "a") == ["inside"]


def test_values_that_are_no_json_touch_nothing(tmp_path):
    path = files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        files.write_json(path, {"set": {1}})
    assert path.read_text() == "1\n" and only(tmp_path) == ["a.json"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")
    with open(path) as opened:
        with files.written_whole(path) as partial:
            partial.write_text("new")
            assert path.read_text() == "old"
            assert partial.parent == path.parent  # a rename between disks would be a copy
        assert opened.read() == "old"  # who has the old file open goes on reading it
    assert path.read_text() == "new"


def test_the_temporary_name_has_the_suffix_asked_for(tmp_path):
    with files.written_whole(tmp_path / "clip.mp4", ".mp4") as partial:
        assert partial.suffix == ".mp4" and partial.name.startswith(".clip.mp4.") and partial.exists()


def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    (tmp_path / "other").write_text("")
    path = files.write_text(tmp_path / "a.txt", "x")
    mode = stat.S_IMODE(path.stat().st_mode)
    assert mode == stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o666 & ~mask


def test_the_mask_of_the_process_is_never_touched(tmp_path, monkeypatch):
    """It belongs to all threads: one that sets and restores it can leave another's files open to everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the mask was set"))
    files.write_text(tmp_path / "a.txt", "x")


def test_writers_of_one_file_do_not_meet(tmp_path):
    """Eight threads write one file, each many times: at any time it is a whole one of one of them."""
    path, texts = tmp_path / "a.txt", [str(number) * 50_000 for number in range(8)]
    files.write_text(path, texts[0])
    torn, done = [], threading.Event()

    def read():
        while not done.is_set():
            if path.read_text() not in texts:
                torn.append("torn")

    def write(text):
        for _ in range(15):
            files.write_text(path, text)

    reader, writers = threading.Thread(target=read), [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not torn and path.read_text() in texts and only(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path, name):
    left = files.written_whole(tmp_path / name, ".npz")
    left.__enter__()  # and never ended, as by a kill
    others = [tmp_path / f"{name[:60]}.{kind}" for kind in ("partial", "x")] + [tmp_path / "a"]
    kept = [files.written_whole(path) for path in others]
    names = sorted(opened.__enter__().name for opened in kept)
    files.write_text(tmp_path / f"{name[:60]}.partial", "someone's own file")
    files.remove_partial(tmp_path / name)
    assert only(tmp_path) == sorted([*names, f"{name[:60]}.partial"])


def test_versions_say_what_is_there_and_what_is_not(monkeypatch):
    found = versions.versions()
    assert found["jax"] == metadata.version("jax") and found["python"].startswith("3.") and "mmjax" in found
    monkeypatch.setattr(versions, "PACKAGES", ("mmjax", "no-such-package"))
    monkeypatch.setattr(metadata, "version", lambda name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name)))
    assert versions.versions() | {"python": ""} == {
        "python": "",
        "mmjax": "source checkout",
        "no-such-package": "not installed",
    }


def test_of_a_link_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").write_text("old")
    (tmp_path / "a.txt").symlink_to("disk/a.txt")
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "disk" / "a.txt").read_text() == "new"
    assert only(tmp_path) == ["a.txt", "disk"] and only(tmp_path / "disk") == ["a.txt"]
