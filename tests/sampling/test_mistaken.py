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
CONVERT = "python -m mmjax.convert"
MODELS = {
    "zai-org/CogVideoX-5b": f"converted first: {CONVERT} cogvideox --source zai-org/CogVideoX-5b",
    "https://huggingface.co/zai-org/CogVideoX-5b/tree/main": f"{CONVERT} cogvideox --source zai-org/CogVideoX-5b",
    "theirs": f"a published CogVideoXPipeline, not converted yet: {CONVERT} cogvideox --source theirs --output DIR",
    "theirs/transformer": f"a part of a pipeline; it is a published CogVideoXPipeline, not converted yet: {CONVERT}",
    "t5": f"a published T5EncoderModel, not converted yet: {CONVERT} text-encoder --source t5",
    "hub": "found the hub's cache; give one of its repositories by id: a/b",
    "hub/models--a--b": "give the snapshot in it: hub/models--a--b/snapshots/0a1b",
    "lora": "This looks like a LoRA adapter",
    "lora/pytorch_lora_weights.safetensors": "This looks like a LoRA adapter",
    "empty/notes.txt": "a file; name its folder",
    "run/checkpoints": "a part of a workdir; give run",
    "run/checkpoints/7": "a part of a workdir; give run",
    "weights": "but in weights/5b; give that",
    "empty": "no config.json in it",
    "nowhere": "there is no such folder",
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
        ("theirs", "a published CogVideoXPipeline"),
        ("lora", "a LoRA adapter"),
        ("nowhere", "there is no such folder"),
    ],
)
def test_an_adapter_that_is_none(folder, given, message):
    Path("weights/5b/mmjax.json").write_text("{}")
    with pytest.raises(CheckpointError) as refused:
        load_sampler("run", adapter=given)
    assert str(refused.value).startswith(
        f"--adapter {given}: expected the workdir of a training run, or an adapter that was exported; "
    )
    assert message in str(refused.value)
