"""The mini's whole way, tiny: photos and a clip to records, base, stage 1, stage 2, files, a video, figures.

The autoencoder's weights are drawn. What is learned in two steps is nothing; what is shown is that each command takes
what the one before it wrote.
"""

import dataclasses
import json
from pathlib import Path

import pytest

import mmjax
from mmjax import config as c
from mmjax import convert, sample
from mmjax.preparation.run import prepare
from mmjax.records.making import description
from mmjax.weights import runs
from tests.helpers import converted, onnx_models, tiny_mini
from tests.helpers import face_pictures as fp
from tests.helpers import prepared_input as pi
from tests.helpers.configurations import load

pytestmark = [fp.needs_pack, pytest.mark.slow]


def stage(file, source=None, judged=True) -> c.Experiment:
    """An experiment of `configs/`, made small: 2 steps, a sample for each fake device.

    Args:
      source: number of the one of its sources that is left: each is a program to compile, and a judged one takes long.
      judged: keep the identity loss, by a recogniser of the real one's kind that is small.
    """
    made = load(file)
    kept = slice(None) if source is None else slice(source, source + 1)
    frames = tuple(tiny_mini.FRAMES if each > 1 else 1 for each in made.data.frames[kept])
    data = dict(sources=made.data.sources[kept], weights=(1.0,) * len(frames), batches=(8,) * len(frames))
    judge = {"judge": "judge.onnx", "target": "frame", "at_once": 1} if judged else {"weight": 0.0}
    loss = {"identity": dataclasses.replace(made.loss.identity, **judge)}
    quick = {"steps": 2, "validate_every": 0, "sample_every": 0, "log_every": 1}
    data |= {"frames": frames}
    return tiny_mini.shrunk(made, "weights/mini/vae", data=data, train=quick, loss=loss)


def test_from_photographs_to_a_video_by_each_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths are those of the configurations
    converted.component(tmp_path / "weights/mini/vae", "vae", converted.SMALL_VAE)
    onnx_models.mobilefacenet(tmp_path / "judge.onnx", 8, 512)  # of the real one's kind, and small
    pi.write(tmp_path / "people")
    settings = dataclasses.replace(pi.SETTINGS, validation_share=0.3)
    found = prepare(stage("mini_stage2.py"), "records/mini", ["people"], settings=settings, workers=1)
    assert found["counts"]["records"] > 8
    face = description(stage("mini_stage2.py"), 1)["encoders"]["face"]
    assert face.startswith("latent_patches/1 id_dim=512 tokens=5 width=64 side=32")

    mmjax.train(stage("mini_base.py", 0, judged=False), "runs/mini_base")
    convert.convert("transformer", "runs/mini_base", "weights/mini/transformer")
    mmjax.train(stage("mini_stage1.py", 0), "runs/mini_stage1")
    mmjax.train(stage("mini_stage2.py", 1, judged=False), "runs/mini_stage2")
    logged = [json.loads(line) for line in Path("runs/mini_stage1/metrics.jsonl").read_text().splitlines()]
    assert any("identity" in name for line in logged for name in line)
    assert "vae_weights=" in runs.read_encoders("runs/mini_stage2")["face"]

    (tmp_path / "about.json").write_text(json.dumps(tiny_mini.ABOUT))
    convert.convert("pretrained", "runs/mini_stage2", "mini", about="about.json")
    line = ["--model", "mini", "--face-models", str(fp.PACK), "--reference", "people/astronaut/1.png"]
    sample.main([*line, "--prompt", "A woman img looks at the camera", "--output", "out/astronaut.mp4"])
    scored = mmjax.evaluate(
        "report",
        {"mini": "out/astronaut.mp4"},
        "people/astronaut/1.png",
        face_models=str(fp.PACK),
        workers=0,
    )
    (video,) = scored["videos"]
    assert video["key"] == "mini/astronaut.mp4" and "no_face" in video["scores"]
