"""The T5 encoder against transformers' `T5EncoderModel`: random weights through the converter, float32."""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration  # noqa: E402
from transformers.models.t5.modeling_t5 import T5Attention  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding, trees  # noqa: E402
from mmjax.conversion import engine, registry, t5  # noqa: E402
from mmjax.errors import ConversionError  # noqa: E402
from mmjax.models.sizes import T5  # noqa: E402
from mmjax.models.t5 import T5Encoder, relative_buckets  # noqa: E402
from mmjax.precision import Policy  # noqa: E402

TINY = dict(
    vocab_size=100, d_model=48, d_kv=16, d_ff=96, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu"
)  # inner width 64 is not the model's: a swapped axis shows
SIZES = {
    "tiny": ({}, 226),
    "heads narrower than the model": (dict(num_heads=2, d_kv=8), 11),
    "one block": (dict(num_layers=1), 40),
    "few buckets": (dict(relative_attention_num_buckets=8, relative_attention_max_distance=20), 60),
    "longer than the largest distance": (dict(num_layers=2), 300),
}
XXL = dict(
    vocab_size=32128,
    d_model=4096,
    d_kv=64,
    d_ff=10240,
    num_layers=24,
    num_heads=64,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,  # as published: it says nothing of the encoder
)


def torch_t5(seed=0, kind=T5EncoderModel, **overrides):
    """A tiny model whose every weight is drawn anew, norms' and biases' included."""
    model = kind(T5Config(**(TINY | overrides))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            large = "shared" in name or "relative" in name
            weight.copy_(drawn * (1.0 if large else 0.2) + ("layer_norm" in name))
    return model


def ours(model) -> tuple[T5, dict]:
    """(record, parameters) of a torch encoder, through the converter's table."""
    record = t5.read_config(model.config.to_dict(), "the reference")
    kind = registry.component("text-encoder")
    state = kind.used({key: value.detach().numpy() for key, value in model.state_dict().items()})
    leaves = kind.leaves(record)
    engine.check(leaves, {key: value.shape for key, value in state.items()}, "the reference")
    return record, trees.unflatten(
        {leaf.path: engine.assemble(leaf, state.__getitem__, np.dtype(np.float32)) for leaf in leaves}
    )


def padded_tokens(length, vocabulary=100, batch=2, seed=1):
    """Token ids that end in 1 (end of text) and zeros (padding), as a tokenizer gives them."""
    tokens = np.random.default_rng(seed).integers(2, vocabulary, (batch, length)).astype(np.int32)
    for row, end in zip(tokens, (length // 3, length - 1), strict=False):
        row[end] = 1
        row[end + 1 :] = 0
    return tokens


def reference(model, tokens):
    with torch.no_grad():
        return model(torch.from_numpy(tokens).long())[0].float().numpy()


@pytest.mark.parametrize("size", SIZES)
def test_output_equals_transformers(size, record_property):
    overrides, length = SIZES[size]
    model = torch_t5(**overrides)
    record, params = ours(model)
    tokens = padded_tokens(length)
    expected = reference(model, tokens)
    found = jax.jit(T5Encoder(record, Policy()).apply)({"params": params}, tokens)
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    record_property("max_abs_error_over_max_abs", error)
    print(f"T5 {size}, {length} tokens: max abs error / max abs output = {error:.1e}")
    assert found.dtype == np.float32
    assert error <= 5e-5  # unscaled scores sharpen the softmax: torch itself is 8e-6 off float64 here


def test_padding_is_attended_to():
    """What CogVideoX was trained on: with a mask over the padding the words' embeddings would be others."""
    model = torch_t5()
    record, params = ours(model)
    tokens = padded_tokens(30)
    found = np.asarray(T5Encoder(record, Policy()).apply({"params": params}, tokens))
    with torch.no_grad():
        ids = torch.from_numpy(tokens).long()
        masked = model(ids, attention_mask=(ids != 0).long())[0].numpy()
    words = slice(0, 10)
    assert np.abs(found[0, words] - masked[0, words]).max() > 0.05 * np.abs(masked).max()


def test_bfloat16_is_nearer_to_float32_than_transformers_in_bfloat16():
    """On weights drawn as T5 draws them: the residual stream is float32 here and bfloat16 there."""
    torch.manual_seed(0)
    config = T5Config(**(TINY | dict(num_layers=12, d_model=128, num_heads=8, d_ff=256)))
    model = T5EncoderModel(config).eval().to(torch.bfloat16)
    tokens = padded_tokens(40)
    theirs = reference(model, tokens)
    exact = reference(model.float(), tokens)
    record, params = ours(model)
    found = np.asarray(jax.jit(T5Encoder(record, Policy("bfloat16")).apply)({"params": params}, tokens))
    mine, yours = (np.sqrt(np.mean((x - exact) ** 2) / np.mean(exact**2)) for x in (found, theirs))
    print(f"bfloat16 against float32, relative RMS error: {mine:.1e}; transformers' own: {yours:.1e}")
    assert found.dtype == np.float32
    assert 1e-3 < mine < 0.8 * yours


@pytest.mark.parametrize("buckets,max_distance", [(32, 128), (8, 20), (16, 64), (32, 100), (64, 256)])
def test_buckets_of_every_distance_equal_transformers(buckets, max_distance):
    """Distances at the borders between buckets included, where rounding decides."""
    length = 700
    found = relative_buckets(length, buckets, max_distance)
    place = torch.arange(length)
    expected = T5Attention._relative_position_bucket(
        place[None, :] - place[:, None], True, num_buckets=buckets, max_distance=max_distance
    )
    np.testing.assert_array_equal(found, expected.numpy())
    assert found.min() == 0 and found.max() == buckets - 1


def test_sharded_encoder_gives_the_same(tmp_path):
    """Over fsdp and tensor: every large leaf is spread, and the embeddings stay."""
    model = torch_t5()
    model.save_pretrained(tmp_path / "source")
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    mesh = sharding.make_mesh(c.Mesh(data=2, fsdp=2, tensor=2))
    record = conversion.read_record(tmp_path / "ours")
    shardings = sharding.param_shardings(mesh, t5.abstract_t5(record))
    record, params = conversion.load_component(tmp_path / "ours", shardings)
    assert params["blocks"]["ffn"]["gate"]["kernel"].addressable_shards[0].data.shape == (3, 24, 48)
    assert params["blocks"]["attn"]["out"]["kernel"].addressable_shards[0].data.shape == (3, 32, 24)
    tokens = padded_tokens(17)
    with sharding.use_mesh(mesh):
        found = jax.jit(T5Encoder(record, Policy()).apply)({"params": params}, tokens)
    expected = reference(model, tokens)
    assert np.abs(np.asarray(found) - expected).max() <= 5e-5 * np.abs(expected).max()


def test_full_size_is_transformers():
    """XXL: every key and shape of transformers' encoder on the meta device, and the count."""
    with torch.device("meta"):
        model = T5EncoderModel(T5Config(**XXL))
    record = t5.read_config(model.config.to_dict(), "XXL")
    assert record == T5()
    kind = registry.component("text-encoder")
    found = kind.used({key: tuple(value.shape) for key, value in model.state_dict().items()})
    engine.check(kind.leaves(record), found, "XXL")
    expected = sum(weight.numel() for weight in model.parameters())
    count = trees.count(kind.shapes(record))
    print(f"T5 XXL: {count:,} parameters")
    assert count == expected == 4_762_310_656
    assert t5.read_config(t5.write_config(record), "again") == record


# Conversion


def tensors(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_round_trip_is_bit_for_bit(tmp_path, dtype):
    model = torch_t5().to(dtype)
    model.save_pretrained(tmp_path / "source", max_shard_size="60KB")
    there = conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    conversion.convert_back("text-encoder", tmp_path / "ours", tmp_path / "back", max_shard_bytes=80_000)
    expected, found = tensors(tmp_path / "source"), tensors(tmp_path / "back")
    assert expected.keys() == found.keys()
    assert all(
        found[key].dtype == dtype and torch.equal(found[key].view(torch.uint8), expected[key].view(torch.uint8))
        for key in expected
    )
    assert there.parameters == sum(weight.numel() for weight in model.parameters())
    assert (tmp_path / "back" / "model.safetensors.index.json").is_file()


def test_transformers_loads_what_comes_back(tmp_path):
    model = torch_t5(relative_attention_num_buckets=8, relative_attention_max_distance=20)
    model.save_pretrained(tmp_path / "source")
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    conversion.convert_back("text-encoder", tmp_path / "ours", tmp_path / "back")
    again = T5EncoderModel.from_pretrained(tmp_path / "back").eval()
    tokens = padded_tokens(40)
    assert np.array_equal(reference(again, tokens), reference(model, tokens))


def test_folder_of_a_pipeline_and_a_whole_model(tmp_path):
    """`text_encoder` inside a pipeline; and a model with its decoder, whose tensors are told as unused."""
    model = torch_t5(kind=T5ForConditionalGeneration, tie_word_embeddings=False)
    model.save_pretrained(tmp_path / "whole")
    encoder = T5EncoderModel.from_pretrained(tmp_path / "whole")
    encoder.save_pretrained(tmp_path / "pipeline" / "text_encoder")
    assert any(key.startswith("decoder.") for key in tensors(tmp_path / "whole"))
    conversion.convert("text-encoder", tmp_path / "whole", tmp_path / "one")
    conversion.convert("text-encoder", tmp_path / "pipeline", tmp_path / "two")
    (record, one), (other, two) = (conversion.load_component(tmp_path / name) for name in ("one", "two"))
    assert record == other
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_tied_second_name_of_the_embedding_is_left_out(tmp_path):
    model = torch_t5()
    model.save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    state = load_file(file)
    save_file(state | {"encoder.embed_tokens.weight": state["shared.weight"].clone()}, file)
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    assert "tied" in t5.unused("encoder.embed_tokens.weight")
    assert t5.unused("encoder.block.0.layer.0.layer_norm.weight") is None
    assert conversion.load_component(tmp_path / "ours")[1]["embed"].shape == (100, 48)


@pytest.mark.parametrize(
    "change,complaint",
    [
        ({"feed_forward_proj": "relu"}, "feed_forward_proj = 'relu': expected 'gated-gelu'.*v1.0"),
        ({"model_type": "umt5"}, "found one of 'umt5' .UMT5, whose blocks"),
        ({"num_layers": 3.5}, "num_layers = 3.5: expected a number such as 6"),
        ({"d_kv": 0}, "head_dim = 0: expected a whole number of 1"),
    ],
)
def test_other_encoders_are_refused_with_the_reason(tmp_path, change, complaint):
    torch_t5().save_pretrained(tmp_path / "source")
    config = tmp_path / "source" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ConversionError, match=complaint):
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")


@pytest.mark.parametrize(
    "change,complaint",
    [
        ({"num_layers": 4}, "missing: encoder.block.3.*3 blocks of width 48, config.json says 4 of 48"),
        ({"d_model": 32}, "misshapen: shared.weight.*config.json says 3 of 32"),
    ],
)
def test_config_of_another_size_is_guessed(tmp_path, change, complaint):
    torch_t5().save_pretrained(tmp_path / "source")
    config = tmp_path / "source" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ConversionError, match=f"(?s){complaint}"):
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")


def test_older_weights_are_guessed(tmp_path):
    """T5 v1.0's tensors beside a v1.1 config.json."""
    torch_t5(feed_forward_proj="relu").save_pretrained(tmp_path / "source")
    config = tmp_path / "source" / "config.json"
    changed = json.loads(config.read_text()) | {"feed_forward_proj": "gated-gelu"}
    config.write_text(json.dumps(changed))
    with pytest.raises(ConversionError, match="T5 v1.0's"):
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
