"""CLIP with both towers against transformers' `CLIPModel`: random weights through the converter, float32."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import CLIPConfig, CLIPModel  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding, trees  # noqa: E402
from mmjax.conversion import clip as table  # noqa: E402
from mmjax.conversion import engine, registry  # noqa: E402
from mmjax.errors import CheckpointError, ConversionError  # noqa: E402
from mmjax.models.clip_text import ContrastiveCLIP  # noqa: E402
from mmjax.models.sizes import CLIP, CLIPText, CLIPVision  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from tests.helpers import clip_folders as folders  # noqa: E402

SIZES = {
    "tiny": {},
    "one block, exact gelu": dict(
        text=dict(hidden_act="gelu", num_hidden_layers=1), vision=dict(hidden_act="gelu", patch_size=14)
    ),
    "wide and long": dict(text=dict(hidden_size=96, num_attention_heads=2), vision=dict(patch_size=4), length=77),
}
KIND = registry.component("clip")


def ours(model) -> tuple[CLIP, dict]:
    """(record, parameters) of a torch model, through the converter's table."""
    record = table.read_config(model.config.to_dict(), "the reference")
    state = KIND.used({key: value.detach().numpy() for key, value in model.state_dict().items()})
    leaves = KIND.leaves(record)
    engine.check(leaves, {key: value.shape for key, value in state.items()}, "the reference")
    return record, trees.unflatten(
        {leaf.path: engine.assemble(leaf, state.__getitem__, np.dtype(np.float32)) for leaf in leaves}
    )


def inputs(record, seed=1):
    """Two pictures, and three rows of tokens that end early, late and at the very end; noise behind the end token."""
    rng = np.random.default_rng(seed)
    pixels = rng.standard_normal((2, record.vision.side, record.vision.side, 3)).astype(np.float32)
    tokens = rng.integers(0, record.text.vocabulary - 2, (3, record.text.length)).astype(np.int32)
    for row, end in zip(tokens, (2, record.text.length // 2, record.text.length - 1), strict=True):
        row[end] = record.text.end_token
    return pixels, tokens


def reference(model, pixels, tokens):
    """(logits [pictures, texts], directions of the texts, of the pictures)."""
    with torch.no_grad():
        channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        found = model(pixel_values=channels_first, input_ids=torch.from_numpy(tokens).long())
    return found.logits_per_image.numpy(), found.text_embeds.numpy(), found.image_embeds.numpy()


def off(found, expected) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_both_towers_equal_transformers(size, record_property):
    model = folders.torch_clip(**SIZES[size])
    record, params = ours(model)
    pixels, tokens = inputs(record)
    network = ContrastiveCLIP(record, Policy())
    texts, pictures, scale = jax.jit(
        lambda params: network.apply(
            {"params": params}, method=lambda both: (both.texts(tokens), both.pictures(pixels), both.scale())
        )
    )(params)
    found = [pictures @ texts.T * scale, texts, pictures]
    errors = [off(mine, theirs) for mine, theirs in zip(found, reference(model, pixels, tokens), strict=True)]
    record_property("max_abs_error_over_max_abs", max(errors))
    print(f"CLIP {size}: max abs error / max abs: " + ", ".join(f"{error:.1e}" for error in errors))
    assert max(errors) <= 1e-5
    assert float(scale) == pytest.approx(np.exp(4), rel=1e-6)


def test_what_stands_behind_the_end_token_does_not_matter():
    record, params = ours(folders.torch_clip())
    _, tokens = inputs(record)
    others = tokens.copy()
    others[0, 3:] = record.text.end_token
    run = jax.jit(ContrastiveCLIP(record, Policy()).apply, static_argnames="method")
    texts = [np.asarray(run({"params": params}, each, method="texts")) for each in (tokens, others)]
    np.testing.assert_allclose(texts[0], texts[1], atol=1e-6)
    others[0, 1] += 1
    changed = run({"params": params}, others, method="texts")
    assert off(changed[0], texts[0][0]) > 1e-3, "what stands before it does"


def test_older_files_call_the_highest_token_the_end():
    """transformers then reads the text out at the highest token."""
    model = folders.torch_clip(text=dict(eos_token_id=2))
    record, params = ours(model)
    pixels, tokens = inputs(record)
    assert record.text.end_token == 199
    found = jax.jit(ContrastiveCLIP(record, Policy()).apply)({"params": params}, pixels, tokens)
    assert off(found, reference(model, pixels, tokens)[0]) <= 1e-5


def test_sharded_towers_give_the_same():
    model = folders.torch_clip()
    record, params = ours(model)
    mesh = sharding.make_mesh(c.Mesh(data=2, fsdp=2, tensor=2))
    placed = jax.device_put(params, sharding.param_shardings(mesh, table.abstract_clip(record)))
    assert placed["text"]["blocks"]["in"]["kernel"].addressable_shards[0].data.shape == (3, 24, 48)
    pixels, tokens = inputs(record)
    with sharding.use_mesh(mesh):
        found = jax.jit(ContrastiveCLIP(record, Policy()).apply)({"params": placed}, pixels, tokens[:2])
    assert off(found, reference(model, pixels, tokens[:2])[0]) <= 1e-5


VIT_B = dict(hidden_size=512, intermediate_size=2048, num_attention_heads=8)
FULL = {  # text and vision settings, projection, parameters
    "ViT-B/32": (VIT_B, dict(patch_size=32), 512, 151_277_313),
    "ViT-B/16": (VIT_B, dict(patch_size=16), 512, 149_620_737),
    "ViT-L/14": (
        dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12),
        dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14),
        768,
        427_616_513,
    ),
}


@pytest.mark.parametrize("name", FULL)
def test_full_size_is_transformers(name):
    """Every key and shape of transformers' model on the meta device, and the count."""
    text, vision, projection, count = FULL[name]
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    with torch.device("meta"):
        model = CLIPModel(config)
    record = table.read_config(model.config.to_dict(), name)
    found = KIND.used({key: tuple(value.shape) for key, value in model.state_dict().items()})
    engine.check(KIND.leaves(record), found, name)
    assert trees.count(KIND.shapes(record)) == sum(weight.numel() for weight in model.parameters()) == count
    assert table.read_config(table.write_config(record), "again") == record
    assert (record == CLIP()) == (name == "ViT-L/14")


# Conversion


def tensors(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


@pytest.mark.parametrize("fast", [False, True], ids=["vocab and merges", "tokenizer.json"])
def test_round_trip_is_bit_for_bit_and_transformers_loads_it(tmp_path, fast):
    model = folders.write_clip(tmp_path / "source", fast=fast)
    report = conversion.convert("clip", tmp_path / "source", tmp_path / "ours")
    conversion.convert_back("clip", tmp_path / "ours", tmp_path / "back")
    expected, found = tensors(tmp_path / "source"), tensors(tmp_path / "back")
    assert expected.keys() == found.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    assert report.parameters == sum(weight.numel() for weight in model.parameters()) and not report.notes
    again = CLIPModel.from_pretrained(tmp_path / "back").eval()
    record, _ = ours(model)
    pixels, tokens = inputs(record)
    np.testing.assert_array_equal(reference(again, pixels, tokens)[0], reference(model, pixels, tokens)[0])
    kept = {file.name: file.read_bytes() for file in (tmp_path / "ours" / "tokenizer").iterdir()}
    assert all((tmp_path / "source" / name).read_bytes() == content for name, content in kept.items())
    assert ("tokenizer.json" in kept) == fast and ("merges.txt" in kept) != fast


def edited_config(folder, change):
    file = folder / "config.json"
    published = json.loads(file.read_text())
    change(published)
    file.write_text(json.dumps(published))


def test_older_folders_are_read(tmp_path):
    """With position numbers among the tensors, and settings under a second name, which counts."""
    model = folders.write_clip(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    numbers = {f"{part}.embeddings.position_ids": torch.arange(16)[None] for part in ("text_model", "vision_model")}
    save_file(load_file(file) | numbers, file, metadata={"format": "pt"})

    def change(published):
        published["text_config_dict"] = {"hidden_size": published["text_config"].pop("hidden_size")}
        published["vision_config_dict"] = None

    edited_config(tmp_path / "source", change)
    report = conversion.convert("clip", tmp_path / "source", tmp_path / "ours")
    assert "position_ids" in report.notes[0] and "0, 1, 2" in report.notes[0]
    assert conversion.read_record(tmp_path / "ours", "clip") == ours(model)[0]


REFUSED = {
    "text alone": (lambda p: p.update(model_type="clip_text_model"), "whole clip model.*'clip_text_model'"),
    "no vision": (lambda p: p.pop("vision_config"), "expected the config.json of a whole clip model"),
    "activation": (lambda p: p["text_config"].update(hidden_act="silu"), "text_config.activation = 'silu'"),
    "heads": (lambda p: p["vision_config"].update(num_attention_heads=5), "vision_config.width = 64: .*heads = 5"),
    "layers": (lambda p: p["text_config"].update(num_hidden_layers=4), "missing: text_model.encoder.layers.3"),
    "projection": (lambda p: p.update(projection_dim=48), r"misshapen: .*expected \[48, .*found \[32"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_models_are_refused_with_the_reason(tmp_path, kind):
    change, complaint = REFUSED[kind]
    folders.write_clip(tmp_path / "source")
    edited_config(tmp_path / "source", change)
    with pytest.raises(ConversionError, match=f"(?s){complaint}"):
        conversion.convert("clip", tmp_path / "source", tmp_path / "ours")


def test_a_tokenizer_that_is_not_its_own_is_refused(tmp_path):
    folders.write_clip(tmp_path / "source")
    file = tmp_path / "source" / "vocab.json"
    tokens = json.loads(file.read_text())
    file.write_text(json.dumps({token: (place + 1) % len(tokens) for token, place in tokens.items()}))
    with pytest.raises(ConversionError, match=r"expected the end token \d+, found 0: it is another model's"):
        conversion.convert("clip", tmp_path / "source", tmp_path / "ours")
    file.write_text("{}"[:1])
    with pytest.raises((ConversionError, CheckpointError), match="the tokenizer cannot be read"):
        conversion.convert("clip", tmp_path / "source", tmp_path / "ours")


def test_default_sizes_are_vit_l_14():
    assert CLIP() == CLIP(CLIPVision(), CLIPText(), 768) and CLIP().vision.tokens == 257
