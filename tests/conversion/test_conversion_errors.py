"""What conversion refuses, and whether it says all of it, with the likely cause, in one error."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import save_file  # noqa: E402

from mmjax import conversion  # noqa: E402
from mmjax.conversion import engine, store, transformer  # noqa: E402
from mmjax.errors import CheckpointError, ConversionError  # noqa: E402
from tests.helpers import reference  # noqa: E402
from tests.helpers.diffusers_folders import WEIGHTS, edited, saved  # noqa: E402

# What does not fit


def lora(state):
    keys = [key for key in state if "to_q.weight" in key]
    state.clear()
    for key in keys:
        state[f"transformer.{key.replace('weight', 'lora_A.weight')}"] = torch.zeros(4, 96)


def wrapped(state):
    for key in list(state):
        state[f"transformer.{key}"] = state.pop(key)


def many(state):
    """One of each kind: all of them have to be said."""
    for i in range(3):
        del state[f"transformer_blocks.{i}.attn1.to_q.bias"]
    state["stray.weight"] = torch.zeros(2)
    state["proj_out.weight"] = torch.zeros(3, 96)


def linear_patches(state):
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].reshape(96, 16)


def text_encoder(state):
    state.clear()
    state["encoder.block.0.layer.0.SelfAttention.q.weight"] = torch.zeros(1)


def autoencoder(state):
    state.clear()
    state["decoder.conv_in.conv.weight"] = torch.zeros(1)


def fewer_blocks(state):
    for key in [key for key in state if key.startswith("transformer_blocks.3.")]:
        del state[key]


MISFITS = [
    (many, r"missing: transformer_blocks.\{0-2\}.attn1.to_q.bias"),
    (many, r"surplus: stray.weight"),
    (many, r"misshapen: proj_out.weight: expected \[16, 96\], found \[3, 96\]"),
    (lora, "LoRA adapter"),
    (wrapped, "every key starts with `transformer.`"),
    (linear_patches, "likely cause: the weights are CogVideoX1.5's"),
    (text_encoder, "the T5 text encoder: it is another component"),
    (autoencoder, "the autoencoder: it is another component"),
    (fewer_blocks, "3 blocks of width 96, config.json says 4 of 96"),
    (lambda state: state.update({"patch_embed.pos_embedding": torch.zeros(1)}), "CogVideoX-5b-I2V"),
    (lambda state: state.update({"proj_out.SCB": torch.zeros(1)}), "quantised"),
    (lambda state: state.pop("proj_out.bias"), "a shard was not downloaded"),
    (lambda state: state.update({"proj_out.bias": torch.zeros(16, dtype=torch.int8)}), "proj_out.bias is I8"),
]


@pytest.mark.parametrize("change,message", MISFITS)
def test_misfit_is_said_with_its_likely_cause(tmp_path, change, message):
    edited(tmp_path / "source", change)
    with pytest.raises(ConversionError, match=message) as caught:
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    print(caught.value)
    assert not (tmp_path / "ours").exists()


OTHERS = {
    "transformer": "transformer_blocks.0.attn1.to_q.weight",
    "vae": "decoder.conv_in.conv.weight",
    "text-encoder": "encoder.block.0.layer.0.SelfAttention.q.weight",
    "photomaker": "id_encoder.visual_projection.weight",
    "clip": "visual_projection.weight",
}


@pytest.mark.parametrize("name,key", OTHERS.items())
def test_another_components_weights_are_recognised(name, key):
    """Whatever was asked for, when nothing fits and the file is one of ours."""
    leaf = engine.expand([engine.Row("a.weight", "a/kernel")], {"a/kernel": (1,)})
    with pytest.raises(ConversionError, match=f"another component: python -m mmjax.convert {name}$"):
        engine.check(leaf, {key: (2, 2)}, "the file")
    with pytest.raises(ConversionError) as caught:  # one that fits by half is the right one, broken
        engine.check(leaf, {key: (2, 2), "a.weight": (1,)}, "the file")
    assert "another component" not in str(caught.value)


def test_mixed_dtypes_in_a_leaf_need_a_decision(tmp_path):
    key = "transformer_blocks.2.norm1.norm.bias"
    edited(tmp_path / "source", lambda state: state.update({key: state[key].half()}))
    with pytest.raises(ConversionError, match="mixed dtypes .float16, float32."):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    report = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours", dtype="float32")
    assert report.dtypes == ("float32",)


def pointer(folder):
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 11137000000\n")


def truncated(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def no_header(folder):
    (folder / WEIGHTS).write_bytes(b"<!DOCTYPE html><html>502 Bad Gateway</html>")


def only_lora(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_lora_weights.safetensors")


def empty(folder):
    (folder / WEIGHTS).write_bytes(b"")


def cut_in_its_header(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])


def peft_adapter(folder):
    for path in folder.iterdir():
        path.unlink()
    (folder / "adapter_config.json").write_text("{}")


def lost_shard(folder):
    shards = {"proj_out.bias": "diffusion_pytorch_model-00002-of-00002.safetensors", "proj_out.weight": WEIGHTS}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": shards}))


def doubled(folder):
    (folder / "other.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    names = {"proj_out.bias": "other.safetensors", "proj_out.weight": WEIGHTS}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": names}))


def folder_of_that_name(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


DAMAGES = [
    (folder_of_that_name, "expected diffusion_pytorch_model.safetensors or its shards, found config.json, diffusion"),
    (pointer, "found a git-lfs pointer"),
    (truncated, "the file is truncated"),
    (no_header, "found no header"),
    (only_lora, "looks like a LoRA adapter"),
    (peft_adapter, "found adapter_config.json. This looks like a LoRA adapter"),
    (empty, "found 0: the file is truncated"),
    (cut_in_its_header, "found 100: the file is truncated"),
    (lost_shard, "2 shards, 1 of them are not there: diffusion_pytorch_model-00002-of-00002"),
    (doubled, "is both in diffusion_pytorch_model.safetensors and in other.safetensors"),
    (lambda folder: (folder / f"{WEIGHTS}.index.json").write_text("{"), "expected an index with a weight_map"),
    (
        lambda folder: (folder / f"{WEIGHTS}.index.json").write_text('{"weight_map": {}}'),
        "expected an index with a weight_map",
    ),
    (lambda folder: (folder / "config.json").unlink(), "expected config.json, or transformer/config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "expected JSON"),
    (lambda folder: (folder / "config.json").write_text("version https://git-lfs.github.com"), "git-lfs pointer"),
]


@pytest.mark.parametrize("damage,message", DAMAGES)
def test_damaged_source_is_one_clear_error(tmp_path, damage, message):
    saved(tmp_path / "source")
    damage(tmp_path / "source")
    with pytest.raises(ConversionError, match=message) as caught:
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    print(caught.value)
    assert not (tmp_path / "ours").exists()


SETTINGS = [
    ({"ofs_embed_dim": 512}, "CogVideoX1.5-5B-I2V"),
    ({"use_learned_positional_embeddings": True}, "CogVideoX-5b-I2V"),
    ({"in_channels": 32}, "image-to-video"),
    ({"norm_eps": 1e-6}, "norm_eps = 1e-06: expected 1e-05"),
    ({"activation_fn": "gelu"}, "activation_fn = 'gelu'"),
    ({"patch_bias": False}, "patch_bias = False: expected True"),
    ({"patch_size_t": 2, "use_rotary_positional_embeddings": False}, "expected rotary positions"),
    ({"num_layers": 41}, "layers = 41: expected even"),
    ({"num_layers": "42"}, "num_layers = '42': expected a number"),
    ({"window": 9}, "window = 9: expected it absent"),
    ({"_class_name": "AutoencoderKLCogVideoX"}, "found one of a AutoencoderKLCogVideoX"),
]


@pytest.mark.parametrize("change,message", SETTINGS)
def test_settings_that_are_not_built_are_refused(change, message):
    with pytest.raises(ConversionError, match=message):
        transformer.read_config(reference.PUBLISHED["5b"] | change, "config.json")


# Converted folders that are broken


def cut_short(folder):
    largest = max((folder / store.PARAMS).rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])


def other_shape(folder):
    text = (folder / store.MANIFEST).read_text()
    (folder / store.MANIFEST).write_text(text.replace('"text_dim": 20', '"text_dim": 24'))


BROKEN = [
    (lambda folder: (folder / store.MANIFEST).unlink(), "found no mmjax.json"),
    (lambda folder: (folder / store.MANIFEST).write_text("{"), "damaged"),
    (lambda folder: (folder / store.PARAMS / "manifest.ocdbt").unlink(), "manifest.ocdbt is missing"),
    (cut_short, "bytes of .* the folder is incomplete"),
    (other_shape, "misshapen: text_embed/kernel"),
]


@pytest.mark.parametrize("damage,message", BROKEN)
def test_broken_converted_folder_is_one_clear_error(tmp_path, damage, message):
    saved(tmp_path / "source")
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    damage(tmp_path / "ours")
    with pytest.raises(CheckpointError, match=message):
        conversion.load_component(tmp_path / "ours")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore, after an error
@pytest.mark.parametrize("files", ["*.ocdbt", "d/*", "_METADATA"])
def test_bytes_that_orbax_cannot_read_are_one_clear_error(tmp_path, files):
    """Damage that keeps every size, which the manifest cannot see."""
    saved(tmp_path / "source")
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    damaged = list((tmp_path / "ours" / store.PARAMS).glob(files))
    assert damaged
    for path in damaged:
        path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(CheckpointError, match="cannot be read"):
        conversion.load_component(tmp_path / "ours")


def test_values_that_end_early_are_one_clear_error(tmp_path):
    """A data file cut short behind the manifest's back: only reading the values can tell."""
    saved(tmp_path / "source")
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    for path in (tmp_path / "ours" / store.PARAMS / "ocdbt.process_0" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    kernel = jax.ShapeDtypeStruct((96, 16), np.float32, sharding=device)
    with pytest.raises(CheckpointError, match="cannot be read .* copy or convert it again") as caught:
        store.read_params(tmp_path / "ours", {"proj_out": {"kernel": kernel}})
    print(caught.value)


# Variants beside each other, and other content than was asked for


def variant(folder, name, kind="fp16"):
    """Other weights under a variant's name."""
    file = folder / name.format(kind)
    file.write_bytes((folder / WEIGHTS).read_bytes())
    return file


def test_of_plain_weights_and_variants_the_plain_are_taken_and_it_is_said(tmp_path):
    model = saved(tmp_path / "source")
    state = {key: value.half() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "source" / "diffusion_pytorch_model.fp16.safetensors")
    index = {"weight_map": {"proj_out.bias": "lost.fp16-00001-of-00001.safetensors"}}
    (tmp_path / "source" / f"{WEIGHTS}.index.fp16.json").write_text(json.dumps(index))
    report = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert report.dtypes == ("float32",)
    assert report.notes == ("took the plain weights and left out the variants beside them: fp16",)


def test_one_variant_alone_is_taken_and_it_is_said(tmp_path):
    saved(tmp_path / "source")
    (tmp_path / "source" / WEIGHTS).rename(tmp_path / "source" / "diffusion_pytorch_model.fp16.safetensors")
    report = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert report.notes == ("took the fp16 variant of the weights, the only one there is",)


def test_several_variants_without_plain_weights_are_a_choice(tmp_path):
    saved(tmp_path / "source")
    variant(tmp_path / "source", "diffusion_pytorch_model.{}.safetensors", "bf16")
    (tmp_path / "source" / WEIGHTS).rename(tmp_path / "source" / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(ConversionError, match="found the variants bf16, fp16 of the weights and no plain ones"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")


def test_sharded_variants_are_read_by_their_own_index(tmp_path):
    model = saved(tmp_path / "source", shard="20KB")
    folder = tmp_path / "source"
    index = json.loads((folder / f"{WEIGHTS}.index.json").read_text())
    renamed = {name: name.replace("model-", "model.fp16-") for name in set(index["weight_map"].values())}
    for name, new in renamed.items():
        (folder / name).rename(folder / new)
    index["weight_map"] = {key: renamed[name] for key, name in index["weight_map"].items()}
    (folder / f"{WEIGHTS}.index.json").unlink()
    (folder / f"{WEIGHTS}.index.fp16.json").write_text(json.dumps(index))
    report = conversion.convert("transformer", folder, tmp_path / "ours")
    assert report.parameters == sum(p.numel() for p in model.parameters()) and "fp16 variant" in report.notes[0]


@pytest.mark.parametrize("wrapping", ["state_dict", "model_state_dict", "module"])
def test_a_pickle_with_its_weights_wrapped_is_read(tmp_path, wrapping):
    model = saved(tmp_path / "source")
    (tmp_path / "source" / WEIGHTS).unlink()
    wrapped_up = {wrapping: model.state_dict(), "epoch": 3, "optimizer": {"lr": 1e-3}}
    torch.save(wrapped_up, tmp_path / "source" / "diffusion_pytorch_model.bin")
    report = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert report.parameters == sum(p.numel() for p in model.parameters())


CONFIGS = [
    {"sample_frames": "49"},
    {"temporal_compression_ratio": 0},
    {"patch_size_t": [2]},
    {"_class_name": ["a", "b"]},
    {"num_layers": 10**12},
    {"num_attention_heads": -3},
    {"spatial_interpolation_scale": float("nan")},
    {"spatial_interpolation_scale": float("inf")},
    {"patch_size": 0},
    {"architectures": 3, "_class_name": None},
]


@pytest.mark.parametrize("change", CONFIGS, ids=str)
def test_a_config_of_other_values_is_one_error(tmp_path, change):
    saved(tmp_path / "source")
    path = tmp_path / "source" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConversionError):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")


HEADERS = [
    lambda header: header.update({"proj_out.bias": 3}),
    lambda header: header["proj_out.bias"].pop("dtype"),
    lambda header: header["proj_out.bias"].update({"shape": [-16]}),
    lambda header: header["proj_out.bias"].update({"shape": "x"}),
    lambda header: header["proj_out.bias"].update({"data_offsets": [1]}),
    lambda header: header["proj_out.bias"].update({"data_offsets": [-64, 0]}),
    lambda header: header["proj_out.bias"].update({"data_offsets": ["a", "b"]}),
    lambda header: header["proj_out.bias"].update({"data_offsets": [0, 64]}),  # another tensor's bytes
    lambda header: header["proj_out.bias"].update({"dtype": ["F32"]}),
]


@pytest.mark.parametrize("change", HEADERS, ids=range(len(HEADERS)))
def test_a_damaged_header_is_one_error(tmp_path, change):
    saved(tmp_path / "source")
    raw = (tmp_path / "source" / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (tmp_path / "source" / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(ConversionError, match="header"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
