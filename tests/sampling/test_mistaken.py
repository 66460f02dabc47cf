"""The likeliest mistake in place of a model or an adapter is named, with what to do."""

import json
from pathlib import Path

import pytest

from mmjax.errors import CheckpointError
from mmjax.sampling import load_sampler

FILES = {
    "theirs/model_index.json": {"_class_name": "CogVideoXPipeline"},
    "theirs/transformer/config.json": {"_class_name": "CogVideoXTransformer3DModel"},
    "t5/config.json": {"architectures": ["T5EncoderModel"]},
    "hub/models--a--b/snapshots/0a1b/model_index.json": {},
    "hub/models--a--b/refs/main": {},
    "lora/pytorch_lora_weights.safetensors": {},
    "run/config.json": {},
    "run/checkpoints/7/state/x": {},
    "weights/5b/mmjax.json": {},
    "empty/notes.txt": {},
}
CONVERT = "python -m mmjax.convert cogvideox --source"
MODELS = {
    "zai-org/CogVideoX-5b": f"if that is a hub id, convert it first: {CONVERT} zai-org/CogVideoX-5b",
    "https://huggingface.co/zai-org/CogVideoX-5b/tree/main": f"convert it first: {CONVERT} zai-org/CogVideoX-5b",
    "theirs": f"a diffusers folder; convert it first: {CONVERT} theirs --output weights/theirs, and give",
    "theirs/transformer": f"a part of a diffusers folder; convert it first: {CONVERT} theirs",
    "t5": f"a part of a diffusers folder; convert it first: {CONVERT} DIR",
    "hub": f"a cache of the hub; convert it first: {CONVERT} hub/models--a--b/snapshots/0a1b",
    "hub/models--a--b": f"a cache of the hub; convert it first: {CONVERT} hub/models--a--b/snapshots/0a1b",
    "lora": "files of weights; convert it first",
    "lora/pytorch_lora_weights.safetensors": "weights in a file; convert it first",
    "empty/notes.txt": "a file; name its folder",
    "run/checkpoints": "a part of a workdir; give run",
    "run/checkpoints/7": "a part of a workdir; give run",
    "weights": "but in weights/5b; give that",
    "empty": "no config.json in it",
    "nowhere": "nothing there; check the path",
    "run\\checkpoints": "a path has / here",
    "": "no config.json",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("given", MODELS)
def test_a_model_that_is_none(folder, given):
    with pytest.raises(CheckpointError) as refused:
        load_sampler(given)
    said = str(refused.value)
    assert said.startswith(f"--model {given}: expected the workdir of a training run, or a folder of converted weights")
    assert MODELS[given] in said and "\n" not in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("weights/5b", "converted weights; give them as --model, and a run as --adapter"),
        ("theirs", "which is no adapter of mmjax"),
        ("lora", "which is no adapter of mmjax"),
        ("nowhere", "nothing there"),
    ],
)
def test_an_adapter_that_is_none(folder, given, message):
    Path("weights/5b/mmjax.json").write_text("{}")
    with pytest.raises(CheckpointError) as refused:
        load_sampler("run", adapter=given)
    assert str(refused.value).startswith(f"--adapter {given}: expected the workdir of a training run, found")
    assert message in str(refused.value)
