"""Videos made first and then scored: of each person with each prompt and seed, in batches, resumable."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmjax import evaluate, media
from mmjax.synthetic import galleries
from mmjax.user_tables import read_table
from tests.sampling.test_sample_cli import experiment, run  # noqa: F401  a workdir of a tiny model

pytestmark = pytest.mark.slow
COLUMNS = ("path", "person", "role", "class_word", "prompt", "seed")
EMBEDDER = "mmjax.synthetic.embedder:fisherfaces"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return galleries.write_people(experiment(folder / "data"), folder, 3)


def command(run, people, output, **more):  # noqa: F811
    given = {"model": run, "people": people, "output": output, "steps": 2, "workers": 0, "batch": 1}
    given |= {"embedder": f"{EMBEDDER}:{run}"} | more
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def test_made_and_scored_and_gone_on_with(run, people, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(galleries, "FIT_PEOPLE", 20)
    evaluate.main(command(run, people, tmp_path))
    printed = capsys.readouterr().out
    assert "3 videos of 3 people" in printed and "rank1/fisherfaces" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert [each["seed"] for each in results["videos"]] == [0, 1, 2]
    assert all(each["problem"] == "" and each["prompt"].startswith("A ") for each in results["videos"])
    assert results["embedders"][0]["independent"] is True
    made = {path: path.read_bytes() for path in tmp_path.glob("videos/*/*")}
    assert len(made) == 9  # a video, a sheet and a record each

    victim = next(path for path in made if path.suffix == ".mp4")
    victim.unlink()
    evaluate.main(command(run, people, tmp_path))
    assert "2 of 3 videos are finished already" in capsys.readouterr().out
    assert {path for path in made if path.read_bytes() != made[path]} <= {victim.with_suffix(".json")}  # its timings
    assert json.loads((tmp_path / "results.json").read_text()) == results


@pytest.mark.parametrize("kind", ["lines", "manifest"])
def test_other_systems_are_held_against_the_prompts(run, people, tmp_path, monkeypatch, kind):  # noqa: F811
    monkeypatch.setattr(galleries, "FIT_PEOPLE", 20)
    (name,) = {row["person"] for _, row in read_table(people, COLUMNS)[:1]}
    words = next(row["class_word"] for _, row in read_table(people, COLUMNS) if row["person"] == name)
    portrait = people.parent / name / "portrait.png"
    (tmp_path / "people.csv").write_text(f"path,person,role,class_word\n{portrait},{name},,{words}\n")
    asked = [f"A {words} img walks", f"A {words} img smiles"]
    for clip in (f"{name}/p001.mp4", f"{name}/x.mp4", "other.mp4"):
        (tmp_path / "theirs" / clip).parent.mkdir(parents=True, exist_ok=True)
        media.write_video(tmp_path / "theirs" / clip, np.full((5, 16, 16, 3), 128, np.uint8), 8)
    if kind == "lines":
        prompts, expected = tmp_path / "prompts.txt", {"p001": asked[1], "x": "", "other": ""}
        prompts.write_text("A {class_word} img walks\nA {class_word} img smiles\n")
    else:
        prompts, expected = tmp_path / "prompts.csv", {"p001": asked[1], "x": asked[1], "other": asked[0]}
        prompts.write_text(f"path,prompt\nother,{asked[0]}\n{name}/x.mp4,{asked[1]}\n")
    more = {"videos": f"theirs={tmp_path / 'theirs'}", "prompts": prompts}
    evaluate.main(command(run, tmp_path / "people.csv", tmp_path / "out", **more))
    videos = json.loads((tmp_path / "out" / "results.json").read_text())["videos"]
    assert [each["prompt"] for each in videos if each["system"] == "mmjax"] == asked
    assert {Path(each["key"]).stem: each["prompt"] for each in videos if each["system"] == "theirs"} == expected


def test_what_cannot_work_is_refused_before_anything_is_made(run, people, tmp_path, capsys):  # noqa: F811
    usual = command(run, people, tmp_path / "out")
    for more, message in (
        (["--people", ""], "--model: expected --people beside it"),
        (["--protocol", "typo"], "typo"),
        (["--embedder", "nowhere.onnx"], "nowhere.onnx"),
        (["--fixed"], "--fixed: expected the --protocol of a publication"),
    ):
        with pytest.raises(SystemExit):
            evaluate.main([*usual, *more])
        assert message in capsys.readouterr().err and not list(tmp_path.glob("out/videos/*/*.mp4"))
    with pytest.raises(SystemExit):
        evaluate.main([*usual, "--seconds", "9"])
    assert "--seconds 9: expected --workers of 1 or more beside it" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/videos/*/*.mp4"))
    with pytest.raises(SystemExit):
        evaluate.main(["--videos", str(tmp_path), "--output", str(tmp_path / "out"), "--steps", "4"])
    assert "--steps: expected --model beside it" in capsys.readouterr().err
