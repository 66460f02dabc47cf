"""The likeliest mistakes about weights are named, with the command or the name to give instead."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmjax import conversion
from mmjax.conversion import recognise, safetensors_io
from mmjax.errors import CheckpointError, ConversionError, MMJaxError
from mmjax.sampling import load_sampler
from mmjax.weights import runs


def write(path: Path, content: str | dict = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def pipeline(folder):
    write(folder / "model_index.json", {"_class_name": "CogVideoXPipeline"})
    write(folder / "transformer/config.json", {"_class_name": "CogVideoXTransformer3DModel"})
    return folder


def snapshot(folder, blobs=True):
    """A repository in the hub's cache; its snapshot's files are links."""
    root = folder / "models--zai-org--CogVideoX-5b"
    place = root / "snapshots" / "abc123"
    for name in ("model_index.json", "transformer/config.json"):
        blob = write(root / "blobs" / name.replace("/", "-"), {"_class_name": "CogVideoXPipeline"})
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to(blob)
        if not blobs:
            blob.unlink()
    return root


def lora(folder):
    tensors = {"transformer.blocks.0.attn.to_q.lora_A.weight": ((4, 8), np.dtype(np.float32))}
    folder.mkdir()
    writer = safetensors_io.ShardedWriter(folder, "my_style", tensors, 10**9)
    writer.write(next(iter(tensors)), np.ones((4, 8), np.float32))
    return folder / "my_style.safetensors"


def dead_link(folder):
    folder.mkdir()
    (folder / "weights").symlink_to(folder / "gone")
    return folder / "weights"


SOURCES = {
    "web address": (
        lambda _: "https://huggingface.co/zai-org/CogVideoX-5b/tree/main",
        "its id is zai-org/CogVideoX-5b",
    ),
    "short web address": (lambda _: "hf.co/zai-org/CogVideoX-5b", "its id is zai-org/CogVideoX-5b"),
    "repository in the cache": (snapshot, "give the snapshot in it: .*snapshots/abc123"),
    "the cache": (lambda f: snapshot(f).parent, "the hub's cache; give one .* by id: zai-org/CogVideoX-5b"),
    "links without targets": (
        lambda f: snapshot(f, blobs=False) / "snapshots/abc123",
        "links without targets, such as model_index.json -> .*cp -rL",
    ),
    "a link without target": (dead_link, "links without targets, such as weights -> "),
    "SAT": (
        lambda f: write(f / "1000/mp_rank_00_model_states.pt").parents[1],
        "the original SAT checkpoint.*zai-org/CogVideoX-2b",
    ),
    "SAT's whole repository": (
        lambda f: write(f / "transformer/1/mp_rank_00_model_states.pt").parents[2],
        "the original SAT checkpoint",
    ),
    "SAT's file": (lambda f: write(f / "mp_rank_00_model_states.pt"), "the original SAT checkpoint"),
    "SAT's autoencoder": (lambda f: write(f / "vae/3d-vae.pt").parents[1], "the original SAT checkpoint"),
    "LoRA by its keys": (lora, "a LoRA's tensors. This looks like a LoRA adapter"),
    "LoRA's folder": (
        lambda f: write(f / "pytorch_lora_weights.safetensors").parent,
        "found pytorch_lora_weights.safetensors. This looks like a LoRA",
    ),
    "converted already": (
        lambda f: write(f / "mmjax.json", {"component": "vae"}).parent,
        "a folder that mmjax.convert wrote; --reverse",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
@pytest.mark.parametrize("component", ["cogvideox", "transformer", "photomaker", "arcface"])
def test_what_cannot_be_converted_is_named(tmp_path, case, component):
    make, message = SOURCES[case]
    source = make(tmp_path / "source")
    convert = conversion.convert_pipeline if component == "cogvideox" else lambda *a: conversion.convert(component, *a)
    with pytest.raises(ConversionError, match=message) as caught:
        convert(source, tmp_path / "ours")
    assert "\n" not in str(caught.value) and not (tmp_path / "ours").exists()


MODELS = {
    "diffusers folder": (pipeline, "convert cogvideox --source {} --output DIR"),
    "its transformer": (lambda f: pipeline(f) / "transformer", "a part of a pipeline; it is a published"),
    "T5": (
        lambda f: write(f / "config.json", {"architectures": ["T5EncoderModel"], "model_type": "t5"}).parent,
        "convert text-encoder --source {} --output DIR",
    ),
    "another model": (
        lambda f: write(f / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).parent,
        "another published model",
    ),
    "hub id": (lambda _: "zai-org/CogVideoX-5b", "convert cogvideox --source zai-org/CogVideoX-5b --output DIR"),
    "web address": (lambda _: "https://huggingface.co/zai-org/CogVideoX-5b", "--source zai-org/CogVideoX-5b"),
    "weights file": (lambda f: write(f / "x.safetensors", "{}"), "convert cogvideox --source {} --output DIR"),
    "cache": (snapshot, "give the snapshot in it"),
    "nothing": (lambda f: f / "nowhere", "there is no such folder"),
    "empty folder": (lambda f: f.mkdir() or f, "found no config.json in it"),
    "SAT": (lambda f: write(f / "1/mp_rank_00_model_states.pt").parents[1], "the original SAT checkpoint"),
    "a list": (lambda f: write(f / "config.json", "[1, 2]").parent, "config.json cannot be read"),
    "UTF-16": (
        lambda f: (write(f / "config.json"), (f / "config.json").write_bytes("{}".encode("utf-16")))[0].parent,
        "config.json cannot be read",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_is_not_converted_says_how_to(tmp_path, case):
    make, message = MODELS[case]
    model = make(tmp_path / "m")
    with pytest.raises(CheckpointError) as caught:
        load_sampler(model)
    assert message.format(model) in str(caught.value)
    with pytest.raises(MMJaxError):
        runs.read_config(model)


@pytest.mark.parametrize("name", ["photomaker", "text-encoder", "vae", "transformer"])
def test_the_hint_names_the_component_that_is_wanted(tmp_path, name):
    file = write(tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match=f"python -m mmjax.convert {name} --source {file} --output DIR"):
        conversion.read_record(file, name)
    with pytest.raises(CheckpointError, match=f"convert the weights first: python -m mmjax.convert {name} "):
        conversion.read_record(tmp_path, name)
    published = write(tmp_path / "photomaker-v2.bin")  # a name that says more than the wish
    with pytest.raises(CheckpointError, match="PhotoMaker's published file.*mmjax.convert photomaker --source"):
        conversion.read_record(published, name)


SOUND = {"schema": 1, "files": {}, "component": "vae", "config": {}, "leaves": {}}
MANIFESTS = [
    "[]",
    "3",
    "{}",
    "[" * 99999,
    *({"files": {"a": "b"}}, {"files": []}, {"component": 3}, {"component": "nothing"}, {"schema": "1"}),
    *({"leaves": {"a": 3}}, {"leaves": None}, {"config": {"latent_channels": float("nan")}}, {"config": 3}),
]


@pytest.mark.parametrize("content", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_damaged_manifest_is_one_error(tmp_path, content):
    write(tmp_path / "mmjax.json", content if isinstance(content, str) else SOUND | content)
    with pytest.raises(CheckpointError, match="convert"):
        conversion.read_record(tmp_path, "vae")


def test_a_sound_source_is_not_taken_for_another(tmp_path):
    recognise.check_source(str(snapshot(tmp_path) / "snapshots/abc123"))  # links, whose targets are there
    recognise.check_source("zai-org/CogVideoX-5b")
    assert recognise.hub_id("zai-org/CogVideoX-5b") and not recognise.hub_id("./a/b") and not recognise.hub_id("../b")
