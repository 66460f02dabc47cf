"""`convert --overwrite` replaces the component that it writes and nothing else; what fails leaves what stood there."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest

from mmjax.conversion import output_folder
from mmjax.conversion.output_folder import MANIFEST, NOTICE, new_folder
from mmjax.errors import ConversionError


def fill(folder: Path, text: str, component="transformer", names=("params/a", "params/d/b")):
    """Writes what a conversion writes, the manifest last."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    manifest = {"component": component, "files": {name: len(text) for name in names}}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def fill_pipeline(folder: Path, text: str):
    for part in ("transformer", "vae", "text_encoder"):
        (folder / part).mkdir()
        fill(folder / part, text, part)
    parts = {"component": "cogvideox", "parts": ["transformer", "vae", "text_encoder"], "files": {}}
    (folder / MANIFEST).write_text(json.dumps(parts))


def fill_published(folder: Path, text: str, notice=NOTICE, shards=1):
    for number in range(shards):
        (folder / f"model-{number}.safetensors").write_text(f"{notice} {text}")
    (folder / "config.json").write_text(text)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def write(output, text, component="transformer", filler=fill, overwrite=True, **kwargs):
    with new_folder(output, 10, overwrite, component, **kwargs) as folder:
        filler(folder, text)


FOREIGN = {"notes.txt": "mine", "photomaker/params/a": "faces", "vae/mine.txt": "mine", "params/mine.txt": "mine"}


def add_foreign(folder: Path):
    for name, text in FOREIGN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("filler,component", [(fill, "transformer"), (fill_pipeline, "cogvideox")])
def test_only_what_was_converted_is_replaced(tmp_path, filler, component):
    output = tmp_path / "w"
    write(output, "old", component, filler)
    if filler is fill:
        (output / "params" / "d" / "old only").write_text("old")  # of a conversion that was killed: Orbax's, not listed
    (output / "photomaker").mkdir()
    fill(output / "photomaker", "faces", "photomaker", names=("params/a",))
    add_foreign(output)
    write(output, "new!", component, filler)
    found = contents(output)
    assert {name: found.get(name) for name in FOREIGN} == FOREIGN
    ours = {name: text for name, text in found.items() if name not in FOREIGN and "photomaker" not in name}
    assert {text for name, text in ours.items() if not name.endswith(MANIFEST)} == {"new!"}
    assert "params/d/old only" not in found and found["photomaker/params/a"] == "faces"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w"]


def test_what_the_new_one_has_no_more_is_gone(tmp_path):
    output = tmp_path / "w"
    write(output, "old", filler=lambda folder, text: fill(folder, text, names=("params/a", "tokenizer/spiece.model")))
    write(output, "new", filler=lambda folder, text: fill(folder, text, names=("params/a",)))
    assert sorted(contents(output)) == [MANIFEST, "params/a"] and not (output / "tokenizer").exists()


def test_a_file_of_the_users_is_never_replaced(tmp_path):
    output = tmp_path / "w"
    write(output, "old")
    (output / "tokenizer").mkdir()
    (output / "tokenizer" / "spiece.model").write_text("mine")
    before = contents(output)
    with pytest.raises(ConversionError, match="spiece.model is there already, and mmjax did not write it"):
        write(output, "new", filler=lambda folder, text: fill(folder, text, names=("tokenizer/spiece.model",)))
    assert contents(output) == before and sorted(path.name for path in tmp_path.iterdir()) == ["w"]


REFUSED = {
    "there already": (lambda output: fill(output, "old"), {"overwrite": False}, "is there already"),
    "another component": (lambda output: fill(output, "old", "vae"), {}, "holds a converted vae"),
    "a whole pipeline": (lambda output: fill_pipeline(output, "old"), {}, "holds a converted cogvideox.*w/transformer"),
    "not ours": (lambda output: (output / "thesis.txt").write_text("mine"), {}, "mmjax did not write it"),
    "not ours, published": (
        lambda output: fill_published(output, "mine", notice=""),
        {"published": True},
        "mmjax did not write it",
    ),
    "some not ours": (
        lambda output: (fill_published(output, "old"), (output / "other.safetensors").write_text("mine")),
        {"published": True},
        "mmjax did not write it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(tmp_path, case):
    prepare, kwargs, message = REFUSED[case]
    output = tmp_path / "w"
    output.mkdir()
    prepare(output)
    before = contents(output)
    with pytest.raises(ConversionError, match=message):
        write(output, "new", filler=lambda *_: pytest.fail("it began"), **kwargs)
    assert contents(output) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_component_may_join_others(tmp_path, overwrite):
    """PhotoMaker was converted to w/photomaker first; the pipeline then goes to w."""
    output = tmp_path / "w"
    (output / "photomaker").mkdir(parents=True)
    fill(output / "photomaker", "faces", "photomaker")
    write(output, "new", "cogvideox", fill_pipeline, overwrite=overwrite)
    assert contents(output)["photomaker/params/a"] == "faces" and (output / "vae" / MANIFEST).is_file()


def test_published_weights_that_we_wrote_are_replaced_with_fewer_shards(tmp_path):
    output = tmp_path / "w"
    write(output, "old", filler=lambda folder, text: fill_published(folder, text, shards=3), published=True)
    (output / "README.md").write_text("mine")
    write(output, "new", filler=fill_published, published=True)
    assert contents(output) == {"README.md": "mine", "config.json": "new", "model-0.safetensors": f"{NOTICE} new"}


def test_a_failure_in_the_middle_leaves_the_old_one(tmp_path, monkeypatch):
    output = tmp_path / "w"
    write(output, "old")
    add_foreign(output)
    before, rename, done = contents(output), Path.rename, []

    def stops(self, target):
        done.append(self)
        if len(done) == 4:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(ConversionError, match="No space left on device; what stood there is as it was"):
        write(output, "new")
    assert contents(output) == before and sorted(path.name for path in tmp_path.iterdir()) == ["w"]


def test_a_kill_in_the_middle_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    """As it stands after each move: the new manifest is there when all else is."""
    output = tmp_path / "w"
    write(output, "old")
    rename, seen = Path.rename, []

    def watched(self, target):
        moved = rename(self, target)
        there = contents(output)
        if "params/c" in there.get(MANIFEST, ""):
            seen.append(sorted(there.items())[1:])
        return moved

    monkeypatch.setattr(Path, "rename", watched)
    names = ("params/a", "params/c", "params/d/b")
    write(output, "new", filler=lambda folder, text: fill(folder, text, names=names))
    assert seen == [[(name, "new") for name in names]]


def test_paths_that_cannot_be_are_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    for output, message in [
        (tmp_path / "file" / "below", "could not be written"),
        (tmp_path / "file", "is a file"),
        (tmp_path / ("x" * 300), "could not be written"),
    ]:
        with pytest.raises(ConversionError, match=message):
            write(output, "new")
    assert contents(tmp_path) == {"file": "mine"}


@contextlib.contextmanager
def nobody():
    """Root may write everywhere, so for a while it is somebody else; whoever is not root stays who they are."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder_is_one_line():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        for name, mode in {"open": 0o777, "locked": 0o555}.items():
            Path(folder, name).mkdir()
            os.chmod(Path(folder, name), mode)
        with nobody():
            write(Path(folder, "open", "w"), "new")
            with pytest.raises(ConversionError, match="could not be written"):
                write(Path(folder, "locked", "w"), "new")
        assert (Path(folder) / "open" / "w" / MANIFEST).is_file()
        assert not list(Path(folder, "locked").iterdir())


def test_two_conversions_at_once_do_not_meet(tmp_path):
    output = tmp_path / "w"
    (tmp_path / f"w.partial-{os.getpid()}").mkdir()  # somebody's folder of the name that was guessed once
    with new_folder(output, 10, False, "transformer") as first:
        with new_folder(output, 10, False, "transformer") as second:
            assert first != second
            fill(second, "second")
        fill(first, "first")
        with pytest.raises(ConversionError, match="is there already"):
            write(output, "third", overwrite=False)
    assert (output / MANIFEST).is_file()


def test_paths_of_a_manifest_do_not_leave_the_folder(tmp_path):
    fill(tmp_path, "old", names=("params/a",))
    manifest = {"component": "vae", "files": {"../precious": 1, "/etc/passwd": 2, "params/a": 3}, "parts": ["..", 5]}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert {path.as_posix() for path in output_folder.own_files(tmp_path)} == {MANIFEST, "params/a"}
