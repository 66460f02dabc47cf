"""What `mmjax.evaluate` refuses before it looks at anything, in one line that says what to give."""

import shutil

import pytest

from mmjax.errors import CheckpointError, ConfigError
from mmjax.evaluation.plan import make_plan
from tests.helpers import face_pictures as fp

PLUGIN = "tests.helpers.plugins:mean_colour"


def plan(face_models="", embedders=(), protocol="mmjax"):
    return make_plan(protocol, False, face_models=str(face_models), embedders=embedders)


@fp.needs_pack
def test_face_models_that_are_no_pack(tmp_path):
    for name, kept in (("recogniser", fp.RECOGNISER.name), ("detector", "scrfd_500m_bnkps.onnx"), ("empty", "")):
        (tmp_path / name).mkdir()
        if kept:
            shutil.copy(fp.PACK / kept, tmp_path / name)
    (tmp_path / "face.jpg").touch()
    for given, message in (
        (tmp_path / "recogniser", "expected one face detector with landmarks, found none among w600k_mbf.onnx; down"),
        (tmp_path / "empty", "expected .*onnx files, found none; download a pack such as antelopev2"),
        (tmp_path / "face.jpg", "expected a folder with .*onnx files, found another kind of file; download"),
        (fp.RECOGNISER, "expected a face detector .* found a network with 1; give the folder of its pack"),
        ("deepinsight/antelopev2", "expected a folder .* .nothing is downloaded from a hub.; download a pack"),
    ):
        with pytest.raises(CheckpointError, match=f"^face models {given}: {message}") as caught:
            plan(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="^--face-models .*detector: expected one recogniser beside .*; give an --em"):
        plan(tmp_path / "detector")
    assert plan(tmp_path / "detector", [PLUGIN]).embedders == [PLUGIN]


@fp.needs_pack
def test_the_default_pack_is_taken_where_a_face_has_to_be_found(monkeypatch):
    monkeypatch.setattr("mmjax.evaluation.plan.default_pack", lambda: str(fp.PACK))
    assert plan().face_models == str(fp.PACK) and plan().embedders == [str(fp.PACK)]
    alone = plan(embedders=[str(fp.RECOGNISER)])
    assert (alone.face_models, alone.embedders) == (str(fp.PACK), [str(fp.RECOGNISER)])
    assert plan(embedders=[PLUGIN]).face_models == ""  # it detects
    monkeypatch.setattr("mmjax.evaluation.plan.default_pack", lambda: "")
    assert plan().face_models == "" and plan().embedders == []


@fp.needs_pack
def test_an_embedder_that_is_given_twice(tmp_path):
    pack = str(fp.PACK)
    for twice in ([pack, pack], [pack, f"{pack}/"], [PLUGIN, PLUGIN]):
        with pytest.raises(ConfigError, match=f"embedder {twice[1]}: expected each embedder once, found"):
            plan(pack, twice)
