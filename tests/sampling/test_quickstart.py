"""The report of `make quickstart`: a clip beside its photograph and beside other people's clips.

A sampler that makes no clips of its own: it shows the reference itself, still, and draws real faces.
"""

import json
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmjax import outputs, quickstart
from mmjax.errors import CheckpointError, DataError
from mmjax.faces.detection import align
from mmjax.sampling import Clip
from tests.helpers import face_pictures as fp
from tests.helpers import tiny_mini

pytestmark = fp.needs_pack
WALL = np.full((128, 128, 3), 90, np.uint8)


def portraits():
    """A wall, and three people of the six who stand in a row."""
    six = fp.read(fp.SIX)
    found = [WALL]
    for face in fp.tools().detect(six)[:3]:
        left, top, right, bottom = np.round(face.box + face.side * np.array([-0.5, -0.5, 0.5, 0.5])).astype(int)
        crop = Image.fromarray(six[max(top, 0) : bottom, max(left, 0) : right])
        found.append(np.asarray(crop.resize((160, 160))))
    return found


class Still:
    """Its clips are their references; without one it draws the next portrait."""

    def __init__(self, blank=()):
        self.config = tiny_mini.experiment("still", "nowhere")
        self.source, self._portraits, self._blank = {"model": "mini", "step": 7}, portraits(), blank

    def check(self, references):
        picture = np.asarray(Image.open(references[0]) if isinstance(references[0], str) else references[0])
        if not fp.tools().detect(picture):
            raise DataError("expected a face, found none")
        return picture

    def encode(self, requests):
        picture = self.check(requests[0].references)
        embedding = fp.embed(align(picture, fp.main_face(picture).landmarks)[None])
        return [types.SimpleNamespace(features={"id_embedding": embedding})]

    def sample(self, requests, size=None):
        (request,) = requests
        if not request.references:
            assert "img" not in request.prompt and size[0] == 1
            return [Clip(self._portraits[request.seed % len(self._portraits)][None], [], request)]
        picture = self.check(request.references)
        frames = np.stack([WALL if request.seed in self._blank else picture] * 3)
        return [Clip(frames, [picture], request)]


@pytest.fixture
def still(monkeypatch, tmp_path):
    def run(*given, blank=()):
        monkeypatch.setattr(quickstart, "load_sampler", lambda *_, **__: Still(blank))
        make = lambda sampler, requests, paths, overwrite: sampler.sample(requests)  # noqa: E731
        monkeypatch.setattr(quickstart.sample, "sample", make)
        monkeypatch.setattr(quickstart.cli, "keep_compiled_programs", lambda folder: None)
        quickstart.main(["--output", str(tmp_path / "out"), *given])
        return json.loads((tmp_path / "out/report.json").read_text())

    return run


@pytest.mark.slow
def test_the_own_clip_is_alike_and_others_are_not(still, capsys):
    found = still("--people", "3")
    said = capsys.readouterr().out
    assert found["own"] > 0.95 and len(found["others"]) == 3 and max(found["others"]) < 0.3
    assert (found["nearest"]["correct"], found["nearest"]["count"]) == (4, 4)
    assert set(found["seconds"]) == {"first_clip", "everything"} and outputs.MARK in found["notice"]
    assert f"own clip        {found['own']:.3f}" in said and "4/4" in said and "missing" not in said
    sheet = Path(said.splitlines()[-1])
    with Image.open(sheet) as picture:
        assert picture.width > 3 * 144 and picture.height > 3 * 144


@pytest.mark.slow
def test_who_cannot_be_seen_is_counted(still, capsys):
    found = still("--people", "4", "--model", "x", blank=(0, 1))
    said = capsys.readouterr().out
    assert found["own"] is None and found["others"].count(None) == 2
    assert "own clip        no face found" in said and "2 clips of others show no face" in said
    assert "missing" not in said and len(found["others"]) == 4
    with pytest.raises(SystemExit):
        still("--people", "4")
    assert "stands there already; add --overwrite" in capsys.readouterr().err


def test_a_model_that_draws_no_faces_says_so():
    likeness = quickstart.compare(
        quickstart.Person(WALL, WALL[None], np.ones(4), None),
        [],
    )
    said = quickstart.describe(likeness, 20)
    assert "no face found" in said and "20 of 20 others are missing: the model drew no face" in said
    assert quickstart.report_sheet(quickstart.Person(WALL, WALL[None], np.ones(4), None), [], likeness, "A woman").ndim


def test_the_portrait_is_found_without_an_import(monkeypatch):
    assert Image.open(quickstart.astronaut()).size == (512, 512)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="scikit-image's portrait of an astronaut, found it not installed"):
        quickstart.astronaut()
