"""What a command writes: refused before anything slow where it cannot be written or would replace what is to stay."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmjax import files, locks, media, outputs
from mmjax.errors import OutputError
from mmjax.outputs import Output
from tests.test_config import ROOT


def tree(folder):
    """Every path below a folder with what stands there."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def lay_out(folder):
    """A photo, an own video and a foreign one, a folder, a file, links and a pipe."""
    (folder / "face.png").write_bytes(b"a photo")
    os.link(folder / "face.png", folder / "hard.png")
    (folder / "soft.png").symlink_to("face.png")
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    (folder / "own.mp4").write_bytes(b"... " + media.AI_NOTICE.encode() + b" ...")
    (folder / "foreign.mp4").write_bytes(b"holidays")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "folder.mp4").mkdir()
    (folder / "afile").write_text("")
    os.mkfifo(folder / "pipe.mp4")


REFUSED = {
    "an input": (["face.png"], "that is --reference"),
    "an input, through dots": (["folder.mp4/../face.png"], "that is --reference"),
    "an input, through a link": (["soft.png"], "that is --reference"),
    "an input, by a second name": (["hard.png"], "that is --reference"),
    "another output": (["a.mp4", "./a.mp4"], "would be written to the same file"),
    "below a file": (["afile/x.mp4"], "found the file afile"),
    "deep below a file": (["afile/b/c/x.mp4"], "found the file afile"),
    "a folder of that name": (["folder.mp4"], "found a folder of that name"),
    "a pipe of that name": (["pipe.mp4"], "found a device or a pipe"),
    "a link that leads nowhere": (["nowhere.mp4"], "found a link to gone.mp4"),
    "a long name": (["n" * 256], "the name is too long (256 letters)"),
    "a long name of few letters": (["ß" * 130], "too long"),
    "a folder with a long name": (["n" * 256 + "/x.mp4"], "too long"),
    "no file can be there": (["/proc/x.mp4"], "nothing can be written to /proc"),
    "no folder can be there": (["/proc/new/x.mp4"], "nothing can be written to /proc/new"),
    "a foreign file": (["foreign.mp4"], "mmjax did not make"),
    "an empty file": (["empty.mp4"], "mmjax did not make"),
    "an own file": (["own.mp4"], "add --overwrite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_or_may_not_be_written_is_refused_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    before, (paths, message) = tree(tmp_path), REFUSED[case]
    planned = [Output("--output", path) for path in ["new/folder/first.json", *paths]]
    with pytest.raises(OutputError) as refused:
        outputs.check(planned, [("--reference", "face.png"), ("--prompts", "not/there.txt")])
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"--output {paths[-1]}")
    assert tree(tmp_path) == before  # nothing made, nothing changed


def test_overwrite_replaces_own_files_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    outputs.check([Output("--output", "own.mp4")], overwrite=True)
    outputs.check([Output("--output", "own.mp4", renews=True)])
    for name in ("foreign.mp4", "empty.mp4", "afile"):
        for settings in ({"overwrite": True}, {}):
            with pytest.raises(OutputError, match="mmjax did not make"):
                outputs.check([Output("--output", name, renews=True)], **settings)


def test_new_folders_are_made_and_nothing_else_stays(tmp_path):
    outputs.check(
        [Output("--output", tmp_path / "a" / "ü b" / "x.mp4"), Output("records", tmp_path / "r", folder=True)]
    )
    assert sorted(tree(tmp_path)) == ["a", "a/ü b", "r"]
    outputs.check([Output("records", tmp_path / "r", folder=True)])


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "afile").write_text("")
    with pytest.raises(OutputError, match="expected a folder or nothing"):
        outputs.check([Output("--output", tmp_path / "afile", folder=True)])


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, error):
    monkeypatch.setattr(Path, "touch", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(OutputError, match=f"nothing can be written to .*{error.strerror}.*give another folder"):
        outputs.check([Output("--output", tmp_path / "new" / "x.mp4")])
    assert not tree(tmp_path)


def test_room_is_counted_for_all_that_goes_to_a_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 0, 5 * 2**20))
    planned = [Output("--output", tmp_path / "x.mp4", 3 * 2**20), Output("sheet", tmp_path / "x.png", 2 * 2**20)]
    outputs.check(planned)
    with pytest.raises(OutputError, match=r"expected 6.0 MiB of room .*, found 5.0 MiB"):
        outputs.check([*planned, Output("latents", tmp_path / "new" / "folder" / "l.npy", 2**20)])
    assert not tree(tmp_path), "neither the folder nor the one above it stays"


OTHER = """
import sys
from mmjax import outputs
from mmjax.errors import OutputError
try:
    with outputs.claim([outputs.Output("--output", sys.argv[1])]):
        print("free")
except OutputError as error:
    print(error)
"""


def other(path):
    """What a second process says that claims the same output."""
    command = [sys.executable, "-c", OTHER, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_a_second_command_is_refused_while_the_first_one_runs_and_names_it(tmp_path):
    path = tmp_path / "x.mp4"
    with outputs.claim([Output("--output", path)]):
        said = other(path)
        assert f"process {os.getpid()} on " in said and "is writing it now" in said
        with pytest.raises(OutputError, match="is writing it now"), outputs.claim([Output("--output", path)]):
            pytest.fail("claimed twice")
    assert not tree(tmp_path)
    assert other(path) == "free" and not tree(tmp_path)


def test_a_lock_file_that_a_killed_process_left_holds_nobody_up(tmp_path):
    files.beside(tmp_path / "x.mp4", "lock").write_text("process 1 on elsewhere")
    with outputs.claim([Output("--output", tmp_path / "x.mp4")]):
        pass
    assert not tree(tmp_path)


def test_what_was_finished_just_before_the_lock_was_free_stays(tmp_path, monkeypatch):
    """The first command ends between the second one's look and its lock."""
    held = locks.held

    def late(*given, **settings):
        (tmp_path / "x.mp4").write_text(outputs.MARK)
        return held(*given, **settings)

    monkeypatch.setattr(locks, "held", late)
    with (
        pytest.raises(OutputError, match="stands there already; add --overwrite"),
        outputs.claim([Output("--output", tmp_path / "x.mp4")]),
    ):
        pytest.fail("it would be replaced")


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_frees_the_lock(tmp_path, failure):
    with contextlib.suppress(failure), outputs.claim([Output("--output", tmp_path / "x.mp4")]):
        raise failure
    assert not tree(tmp_path)


def test_a_disk_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    with outputs.claim([Output("--output", tmp_path / "x.mp4")]) as claim:
        claim.recheck()
    assert not tree(tmp_path)


def in_place(path):
    """As an editor may: the file is the same, its size and its content are not."""
    with open(path, "a") as opened:
        opened.write("edited")


@pytest.mark.parametrize("edit", [lambda path: files.write_json(path, {"edited": True}), in_place])
def test_what_appears_in_the_meantime_is_not_replaced(tmp_path, edit):
    (tmp_path / "old.json").write_text(json.dumps({"notice": outputs.MARK}))
    planned = [Output("--output", tmp_path / "x.mp4"), Output("record", tmp_path / "old.json")]
    with outputs.claim(planned, overwrite=True) as claim:
        claim.recheck()
        (tmp_path / "x.mp4").write_text("mine")
        claim.recheck(tmp_path / "old.json")
        with pytest.raises(OutputError, match="x.mp4: another program wrote it"):
            claim.recheck()
        edit(tmp_path / "old.json")
        with pytest.raises(OutputError, match="old.json: another program wrote it"):
            claim.recheck(tmp_path / "old.json")


def test_what_is_written_says_that_mmjax_made_it(tmp_path):
    """The mark is found in each kind of file, and in none of a user's."""
    frames = media.np.zeros((9, 16, 16, 3), "uint8")
    assert outputs.is_own(media.write_video(tmp_path / "x.mp4", frames, 8))
    assert outputs.is_own(media.write_png(tmp_path / "x.png", frames[0]))
    assert outputs.is_own(files.write_json(tmp_path / "x.json", {"notice": media.AI_NOTICE}))
    (tmp_path / "long").write_bytes(b"0" * 3 * 2**20 + outputs.MARK.encode() + b"\n")
    assert outputs.is_own(tmp_path / "long")
    (tmp_path / "other").write_text("mmjax was here")
    assert not outputs.is_own(tmp_path / "other") and not outputs.is_own(tmp_path / "none")


@pytest.mark.parametrize("count, text", [(0, "0 bytes"), (1023, "1023 bytes"), (28672, "28.0 KiB"), (2**40, "1.0 TiB")])
def test_sizes_for_people(count, text):
    assert outputs.size_text(count) == text
