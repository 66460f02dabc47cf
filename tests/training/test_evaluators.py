"""What an evaluator reports, and where it goes."""

import dataclasses
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from mmjax import config as c
from mmjax import media
from mmjax import train as entry
from mmjax.encoders.recogniser import load_recogniser
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation.identity import SimilarityToPeople
from mmjax.evaluation.samples import Samples
from mmjax.records import pipeline
from mmjax.records.sources import Sources
from mmjax.training.evaluators import Evaluation, SampleSheets, figures_to_choose_by, write_evaluation
from mmjax.training.telemetry import Telemetry
from tests.helpers import face_pictures as fp
from tests.helpers import tiny_run
from tests.test_media import decode, smooth_frames


def board_images(workdir):
    """{tag: encoded picture} of the one file of events."""
    (path,) = (workdir / "tensorboard").glob("events.*")
    content, found = path.read_bytes(), {}
    while content:
        length = int.from_bytes(content[:8], "little")
        event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
        found |= {value.tag: value.image.encoded_image_string for value in event.summary.value if value.image.width}
    return found


def test_figures_lines_pictures_and_clips_go_where_the_run_keeps_them(tmp_path, capsys):
    telemetry = Telemetry(tmp_path, 0, 10)
    picture, clip = np.full((6, 8, 3), 200, np.uint8), smooth_frames()
    report = Evaluation({"identity/cosine": 0.5}, "cosine 0.5", picture, clip, fps=4)
    write_evaluation(telemetry, 4, "identity", report)
    write_evaluation(telemetry, 6, "nothing", Evaluation())
    telemetry.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 4, "identity/cosine": 0.5}
    assert Image.open(tmp_path / "identity" / "4.png").size == (8, 6)
    frames, tags, rate, _ = decode(tmp_path / "identity" / "4.mp4")
    assert frames.shape == clip.shape and rate == 4 and tags["comment"] == media.AI_NOTICE
    assert capsys.readouterr().out == "step 4: cosine 0.5\n"
    assert not (tmp_path / "nothing").exists()
    shown = board_images(tmp_path)
    assert shown.keys() == {"identity", "identity/clip"}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shown["identity"]))), picture)
    with Image.open(io.BytesIO(shown["identity/clip"])) as moving:
        assert (moving.format, moving.n_frames, moving.size) == ("GIF", 9, (48, 32))
        assert moving.info["duration"] == 250 and moving.info["loop"] == 0
        assert moving.info["comment"].decode() == media.AI_NOTICE


def samples(frames=2, people=("anna", "ben")):
    videos = np.stack([np.full((frames, 4, 6, 3), 60 * number + 9, np.uint8) for number in range(len(people))])
    return Samples(people, videos, 8.0, np.zeros((5, 5, 3), np.uint8))


class State:
    def params(self):
        return "averaged"


def test_sample_sheets_draw_once_with_the_averaged_parameters():
    drawn = []
    sheets = SampleSheets(5, lambda params, step: drawn.append((params, step)) or samples())
    report = sheets(State(), 10)
    assert (sheets.name, sheets.every, drawn) == ("samples", 5, [("averaged", 10)])
    assert report.picture.shape == (5, 5, 3) and not report.figures and not report.line
    assert report.clip.shape == (2, 4, 12, 3) and report.fps == 8
    assert SampleSheets(5, lambda *_: samples(frames=1))(State(), 10).clip is None, "a picture is no clip"


class Brightness:
    """Embeds a frame by its brightness alone: people are told by nothing else."""

    def embed(self, frames):
        return [np.array([1.0, frame.mean()]) for frame in frames]


@pytest.mark.parametrize("independent, tag", [(True, "identity"), (False, "identity_not_independent")])
def test_similarity_is_that_of_the_clips_on_the_sheet(independent, tag):
    made = samples()
    references = {"anna": made.videos[0], "ben": made.videos[1], "cara": np.full((1, 4, 6, 3), 255, np.uint8)}
    drawn = []
    sheets = SampleSheets(
        5,
        lambda params, step: drawn.append(step) or made,
        SimilarityToPeople(Brightness(), references, independent),
    )
    report = sheets(State(), 10)
    assert drawn == [10] and report.picture is made.sheet and report.clip is not None
    assert report.figures[f"{tag}/own"] == pytest.approx(1) and report.figures[f"{tag}/retrieval"] == 1
    assert report.figures.keys() == sheets.higher_is_better.keys()
    assert ("NOT independent" in report.line) != independent and "own person nearest in 100% of clips" in report.line


def test_figures_to_choose_by_are_those_that_are_switched_on():
    config = tiny_run.experiment()
    off = dataclasses.replace(config, train=dataclasses.replace(config.train, validate_every=0))
    sheets = SampleSheets(5, lambda *_: None, SimilarityToPeople(Brightness(), {"anna": samples().videos[0]}))
    validation = {"validation/loss": False, "validation/drawn_images/loss": False}
    assert figures_to_choose_by(config, []) == validation and figures_to_choose_by(off, []) == {}
    assert figures_to_choose_by(config, [sheets]) == validation | sheets.higher_is_better
    assert figures_to_choose_by(off, [SampleSheets(0, sheets._draw, sheets._similarity)]) == {}


def test_an_embedder_without_samples_is_refused():
    with pytest.raises(ConfigError, match="train.identity_embedder = x: expected empty, or samples to look at"):
        tiny_run.experiment(train={"identity_embedder": "x", "sample_every": 0})


# Who embeds, as `mmjax.train` puts it together


def faces_experiment(source, **loss):
    train = {"identity_embedder": str(fp.PACK), "sample_every": 6}
    return tiny_run.experiment(data={"sources": (source,)}, train=train, **loss)


def preview_of(source, *references):
    names = ("anna", "ben", "cara")
    records = [{"person": name, "reference": each[None]} for name, each in zip(names, references, strict=False)]
    return SimpleNamespace(source=source, records=records)


@fp.needs_pack
@pytest.mark.parametrize("conditioned", [False, True])
def test_a_recogniser_that_conditions_is_said_to_be_no_independent_similarity(monkeypatch, caplog, conditioned):
    """Two people with faces, one whose reference shows none."""
    monkeypatch.setattr(pipeline, "validation_records", lambda *_: [])
    picture = fp.astronaut()
    preview = preview_of("photos", picture, np.ascontiguousarray(picture[:, ::-1]), np.zeros_like(picture))
    same = load_recogniser(fp.PACK).fingerprint.replace(" ", ":")
    face = f"arcface_patches/1 id_dim=512 arcface={same if conditioned else 'arcface/1:weights=ab12'} detector=d:ef56"
    similarity = entry._similarity(faces_experiment("photos"), Sources((), {"face": face}, None), preview)
    assert (
        similarity.independent != conditioned
        and set(similarity.gallery) == {"anna", "ben"}
        and similarity.unseen == ("cara",)
    )
    assert ("is the recogniser whose embeddings condition the model: its figures" in caplog.text) == conditioned
    assert "no face on the references of 1 of 3 people, such as cara: they are left out" in caplog.text


@fp.needs_pack
def test_the_judge_of_the_identity_loss_is_no_independent_one():
    made = load_recogniser(fp.PACK)
    config = faces_experiment("photos", loss={"identity": c.IdentityLoss(weight=0.1, judge=str(fp.PACK))})
    sources = Sources((), {"face": "drawn/1 id_dim=24"}, None)
    assert entry._part_in_training(config, sources, made.fingerprint) == "the judge of the identity loss"
    assert entry._part_in_training(config, sources, "arcface/1 weights=ab12") == ""
    assert entry._part_in_training(faces_experiment("photos"), sources, made.fingerprint) == ""


@fp.needs_pack
def test_an_embedder_that_sees_nobody_is_refused(monkeypatch):
    monkeypatch.setattr(pipeline, "validation_records", lambda *_: [])
    preview = preview_of("photos", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DataError, match="found none on those of 1 people; give another train.identity_embedder"):
        entry._similarity(faces_experiment("photos"), Sources((), {"face": "drawn/1"}, None), preview)


def test_fisherfaces_know_drawn_people_alone():
    config = tiny_run.experiment(train={"identity_embedder": "fisherfaces", "sample_every": 6})
    with pytest.raises(ConfigError, match="fisherfaces: expected samples of drawn people.*found photos; give a model"):
        entry._similarity(config, Sources((), {}, None), preview_of("photos"))
