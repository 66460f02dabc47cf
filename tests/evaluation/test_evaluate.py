"""`mmjax.evaluate` from videos to results: real faces on any machine, odd files among them, runs that were ended."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmjax
from mmjax import media
from mmjax.errors import ConfigError, OutputError
from mmjax.evaluate import main
from mmjax.evaluation import tools as tools_of
from tests.fuzz.damage import damaged_copy
from tests.helpers import face_pictures as fp
from tests.helpers import hostile_files

pytestmark = fp.needs_pack
ROOT = Path(__file__).resolve().parents[2]
FRAMES = 5


def pan(picture, count=FRAMES, size=160):
    """A camera that moves over the middle of a picture."""
    start = [(each - size) // 2 for each in picture.shape[:2]]
    return np.stack([picture[start[0] : start[0] + size, start[1] + n : start[1] + n + size] for n in range(count)])


def people():
    """Two real women's faces that packages ship, about 120 pixels tall: whole pictures round the face."""
    one = np.asarray(Image.fromarray(fp.astronaut()[:256, 96:352]).resize((240, 240)))
    six = fp.read(fp.SIX)
    face = fp.tools().detect(six)[0]
    x, y = face.landmarks.mean(0).astype(int)
    side = int(face.side)
    other = Image.fromarray(six).crop((x - side, y - side, x + side, y + side)).resize((240, 240))
    return {"ann": one, "bea": np.asarray(other)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """References of two people, a video of each, a swapped one, and some that are no good."""
    root = tmp_path_factory.mktemp("evaluate")
    shown = people()
    for name, picture in shown.items():
        (root / "references" / name).mkdir(parents=True)
        Image.fromarray(picture).save(root / "references" / name / "0.png")
        Image.fromarray(picture[:, ::-1]).save(root / "references" / name / "1.png")
        (root / "videos" / name).mkdir(parents=True)
        media.write_video(root / "videos" / name / "own.mp4", pan(picture), 8)
    media.write_video(root / "videos" / "ann" / "somebody_else.mp4", pan(shown["bea"]), 8)
    media.write_video(root / "videos" / "nobody.mp4", np.full((FRAMES, 64, 64, 3), 128, np.uint8), 8)
    (root / "videos" / "broken.mp4").write_bytes(hostile_files.movie(frames=12)[:-700])
    return root


def evaluate(folder, output, **more):
    given = dict(face_models=str(fp.PACK), workers=0) | more
    return mmjax.evaluate(output, {"ours": folder / "videos"}, folder / "references", **given)


@pytest.fixture(scope="module")
def results(folder, tmp_path_factory):
    return evaluate(folder, tmp_path_factory.mktemp("out"))


def scores(results, key):
    video = next(each for each in results["videos"] if each["key"] == f"ours/{key}")
    return {name.partition("/")[0]: score for name, score in video["scores"].items()}


@pytest.mark.slow
def test_own_and_other_people_and_nobody(results):
    own, other = scores(results, "ann/own.mp4"), scores(results, "ann/somebody_else.mp4")
    assert own["identity"]["value"] > 0.7 and other["identity"]["value"] < 0.3
    assert own["rank1"]["value"] == 1 and other["rank1"]["value"] == 0
    assert len(own["identity"]["series"]) == FRAMES and own["no_face"]["value"] == 0
    nobody = scores(results, "nobody.mp4")
    assert nobody["no_face"]["value"] == 1 and "no person is known" in nobody["identity"]["why"]
    broken = next(each for each in results["videos"] if each["key"] == "ours/broken.mp4")
    assert broken["problem"].startswith("expected a video, found")
    assert all(score["value"] is None and score["why"] for score in broken["scores"].values())
    assert {each["name"]: each["faces"] for each in results["people"]} == {"ann": 2, "bea": 2}
    json.dumps(results, allow_nan=False)


@pytest.mark.slow
def test_the_files_say_what_was_returned_and_a_second_run_looks_at_nothing(folder, tmp_path, results, monkeypatch):
    evaluate(folder, tmp_path)
    written = {
        name: (tmp_path / name).read_bytes() for name in ("results.json", "table.md", "table.csv", "report.html")
    }
    assert json.loads(written["results.json"]) == results

    def look(tools, task):
        assert task.path.name == "broken.mp4", "it was looked at before"
        return tools_of.look(tools, task)

    monkeypatch.setattr("mmjax.evaluation.run.tools", types.SimpleNamespace(**vars(tools_of) | {"look": look}))
    evaluate(folder, tmp_path)
    assert written == {name: (tmp_path / name).read_bytes() for name in written}


@pytest.mark.slow
def test_what_is_missing_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("mmjax.evaluation.plan.default_pack", lambda: "")
    found = mmjax.evaluate(tmp_path / "a", {"ours": folder / "videos"}, workers=0)
    why = {name: score["why"] for name, score in scores(found, "ann/own.mp4").items()}
    assert why["no_face"] == "it needs a face pack (--face-models)" and found["embedders"] == []
    assert scores(found, "ann/own.mp4")["mean_speed"]["value"] > 0
    with pytest.raises(ConfigError, match="w600k_mbf.onnx: expected --face-models beside it"):
        evaluate(folder, tmp_path / "b", face_models="", embedders=[str(fp.RECOGNISER)])
    with pytest.raises(ConfigError, match="expected --videos, or --model"):
        mmjax.evaluate(tmp_path / "c")
    with pytest.raises(ConfigError, match="--seconds 9: expected --workers of 1 or more"):
        evaluate(folder, tmp_path / "c", seconds=9)
    with pytest.raises(ConfigError, match="expected one of mmjax, magicmirror"):
        evaluate(folder, tmp_path / "d", protocol="nothing")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "table.md").write_text("mine")
    with pytest.raises(OutputError, match="table.md: a file stands there that mmjax did not make"):
        evaluate(folder, tmp_path / "e")


@pytest.mark.slow
def test_one_video_and_one_picture(folder, tmp_path, capsys):
    own = folder / "videos" / "ann" / "own.mp4"
    line = ["--videos", str(own), "--references", str(folder / "references" / "ann" / "0.png")]
    main([*line, "--face-models", str(fp.PACK), "--output", str(tmp_path), "--workers", "0"])
    assert "identity/w600k_mbf" in capsys.readouterr().out
    (video,) = json.loads((tmp_path / "results.json").read_text())["videos"]
    assert (video["key"], video["person"]) == ("own/own.mp4", "0")
    assert video["scores"]["identity/w600k_mbf"]["value"] > 0.7


def command(folder, output):
    line = ["--videos", f"ours={folder / 'videos'}", "--references", str(folder / "references")]
    line += ["--face-models", str(fp.PACK), "--output", str(output), "--workers", "1"]
    return [sys.executable, "-m", "mmjax.evaluate", *line]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_results(folder, tmp_path, results):
    """Kills in the middle of scoring; the end is that of a run that nobody ended, bit for bit."""
    output, kills = tmp_path / "out", 0
    for seconds in (1.5, 0.5, 0.5):
        process = subprocess.Popen(
            command(folder, output), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before, deadline = len(list(output.glob("seen/*"))), time.monotonic() + 60
        while len(list(output.glob("seen/*"))) < before + 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(seconds / 10)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command(folder, output), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
    found = json.loads((output / "results.json").read_text())
    assert kills and {**found, "command": ""} == {**results, "command": ""}


@pytest.mark.slow
def test_hostile_files_have_a_row_each_and_stop_nobody(folder, tmp_path):
    files = tmp_path / "hostile"
    files.mkdir()
    hostile_files.make_hostile(files)
    own = folder / "videos" / "ann" / "own.mp4"
    shutil.copy(own, files / "zzz.mp4")
    others = [Image.fromarray(each) for each in pan(fp.astronaut())]
    others[0].save(tmp_path / "a.webp", save_all=True, append_images=others[1:])
    draw = random.Random(0)
    for number in range(160):
        path = draw.choice((own, tmp_path / "a.webp"))
        damaged_copy(path, files / f"damaged{number:03d}{path.suffix}", draw)
    found = mmjax.evaluate(tmp_path / "out", {"odd": files}, workers=0)
    rows = {each["key"]: each for each in found["videos"]}
    assert rows["odd/zzz.mp4"]["problem"] == "" and len(rows) > 200
    assert all(row["problem"] or row["looked"] for row in rows.values())
    print(f"measured: {len(rows)} videos, {sum(bool(row['problem']) for row in rows.values())} with a problem")
    assert os.path.getsize(tmp_path / "out" / "report.html") > 1000
