"""Conversion of the transformer, both ways: tiny random models of diffusers, and the true sizes without memory."""

import json
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers import CogVideoXTransformer3DModel  # noqa: E402
from huggingface_hub.utils import filter_repo_objects  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding, trees  # noqa: E402
from mmjax.conversion import engine, output_folder, registry, safetensors_io, store, transformer  # noqa: E402
from mmjax.errors import ConversionError  # noqa: E402
from tests.helpers import reference  # noqa: E402
from tests.helpers.diffusers_folders import WEIGHTS, edited, saved  # noqa: E402

VARIANTS = list(reference.VARIANTS)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def weights(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The 5B variant in small: (torch model, converted folder)."""
    folder = tmp_path_factory.mktemp("converted")
    model = saved(folder / "source")
    conversion.convert("transformer", folder / "source", folder / "ours")
    return model, folder / "ours"


# Both ways


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_is_bit_for_bit(tmp_path, variant, dtype):
    model = saved(tmp_path / "source", variant, dtype, shard="100KB")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    there = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    back = conversion.convert_back("transformer", tmp_path / "ours", tmp_path / "back", max_shard_bytes=150_000)
    expected, found = weights(tmp_path / "source"), weights(tmp_path / "back")
    assert expected.keys() == found.keys()
    assert all(found[key].dtype == dtype and torch.equal(bits(expected[key]), bits(found[key])) for key in expected)
    assert there.parameters == back.parameters == sum(p.numel() for p in model.parameters())
    assert (tmp_path / "back" / f"{WEIGHTS}.index.json").is_file()


@pytest.mark.parametrize("variant", VARIANTS)
def test_diffusers_loads_what_comes_back(tmp_path, variant):
    """The reversed folder gives the same transformer: its settings, and the same output to the last bit."""
    model = saved(tmp_path / "source", variant)
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    conversion.convert_back("transformer", tmp_path / "ours", tmp_path / "back")
    again = CogVideoXTransformer3DModel.from_pretrained(tmp_path / "back").eval()
    settings = {key: value for key, value in model.config.items() if not key.startswith("_")}
    assert settings == {key: again.config[key] for key in settings}
    latents = torch.randn(1, 3 if variant != "1.5-5b" else 4, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 7, 20, generator=torch.Generator().manual_seed(2))
    tokens = latents.shape[1] // (model.config.patch_size_t or 1) * 4 * 6
    angles = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(3))
    rotary = (angles.cos(), angles.sin()) if model.config.use_rotary_positional_embeddings else None
    with torch.no_grad():
        outputs = [m(latents, text, torch.tensor([500]), image_rotary_emb=rotary).sample for m in (model, again)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tree_is_the_models(tmp_path, variant):
    """Loaded parameters have the paths, shapes and values of the model's own tree (parity is another file's)."""
    model = saved(tmp_path / "source", variant)
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    config, params = conversion.load_component(tmp_path / "ours")
    expected_config, expected = reference.ours(model)
    assert config == expected_config
    trees.check_same(reference.abstract_transformer(config), params, "the converted tree")
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    state = model.state_dict()
    query = params["blocks"]["odd"]["attn"]["query"]["kernel"]
    np.testing.assert_array_equal(query[1], state["transformer_blocks.3.attn1.to_q.weight"].numpy().T)
    scale = params["blocks"]["even"]["norm_ffn"]["scale"]
    np.testing.assert_array_equal(scale[1], state["transformer_blocks.2.norm2.norm.weight"].numpy())


@pytest.mark.parametrize("variant,parameters", [("2b", 1.69e9), ("5b", 5.57e9), ("1.5-5b", 5.57e9)])
def test_true_sizes_match_without_memory(variant, parameters):
    """Every key and shape of the published sizes, from diffusers on the meta device against the model's own tree."""
    with torch.device("meta"):
        model = CogVideoXTransformer3DModel(**reference.PUBLISHED[variant])
    config = transformer.read_config(dict(model.config), variant)
    leaves = registry.component("transformer").leaves(config)
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    engine.check(leaves, found, variant)
    count = sum(np.prod(leaf.shape, dtype=np.int64) for leaf in leaves)
    assert count == sum(p.numel() for p in model.parameters())
    assert abs(count - parameters) <= 5e6
    again = transformer.read_config(transformer.write_config(config), variant)
    assert again == config


def test_default_record_is_the_5b():
    assert transformer.read_config(reference.PUBLISHED["5b"], "5b") == c.Transformer()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize(
    "transform,shape",
    [(engine.identity, (7,)), (engine.transpose, (6, 10)), (engine.conv_patch(3, 2), (5, 3, 2, 2))],
)
def test_transforms_keep_every_bit(transform, shape, dtype):
    """NaN payloads and signed zeros included."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    x = np.random.default_rng(0).integers(0, 256, size, np.uint8).view(dtype).reshape(shape)
    y = transform.forward(x)
    assert transform.source_shape(y.shape) == shape
    assert transform.inverse(y).tobytes() == x.tobytes()


def test_patch_convolution_is_a_dense_layer_over_channel_row_column():
    kernel = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    patch = np.random.default_rng(0).standard_normal((3, 2, 2)).astype(np.float32)
    expected = np.einsum("dcpq,cpq->d", kernel, patch)
    found = patch.reshape(-1) @ engine.conv_patch(3, 2).forward(kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_dtype_casts_while_reading_and_while_loading(tmp_path, converted):
    model, ours = converted
    conversion.convert_back("transformer", ours, tmp_path / "half", dtype="bfloat16")
    conversion.convert("transformer", tmp_path / "half", tmp_path / "single", dtype="float32")
    expected = jax.tree.map(lambda x: np.asarray(x.astype(jax.numpy.bfloat16)), reference.ours(model)[1])
    half = conversion.load_component(ours, dtype="bfloat16")[1]
    single = conversion.load_component(tmp_path / "single")[1]
    jax.tree.map(np.testing.assert_array_equal, half, expected)
    jax.tree.map(lambda s, e: np.testing.assert_array_equal(s, e.astype(np.float32)), single, expected)
    assert {str(x.dtype) for x in jax.tree.leaves(single)} == {"float32"}


def test_leaves_land_sharded_on_a_mesh(converted):
    model, ours = converted
    mesh = sharding.make_mesh(c.Mesh(data=1, fsdp=4, tensor=2))
    boxed = conversion.abstract_transformer(conversion.read_record(ours))
    config, params = conversion.load_component(ours, sharding.param_shardings(mesh, boxed))
    kernel = params["blocks"]["even"]["ffn"]["in"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, 96 // 4, 384 // 2)
    jax.tree.map(np.testing.assert_array_equal, params, reference.ours(model)[1])


def test_manifest_says_what_it_was_made_from(converted):
    manifest = json.loads((converted[1] / store.MANIFEST).read_text())
    assert manifest["component"] == "transformer"
    assert manifest["source"]["name"] == "source"
    assert set(manifest["source"]["sha256"]) == {"config.json", WEIGHTS}
    assert "jax" in manifest["versions"]
    assert str(converted[1].parent) not in json.dumps(manifest)


# What a source may be


def test_pipeline_folder_and_single_file(tmp_path, converted):
    saved(tmp_path / "pipeline" / "transformer")
    conversion.convert("transformer", tmp_path / "pipeline", tmp_path / "one")
    conversion.convert("transformer", tmp_path / "pipeline" / "transformer" / WEIGHTS, tmp_path / "two")
    expected = conversion.load_component(converted[1])
    for folder in ("one", "two"):
        config, params = conversion.load_component(tmp_path / folder)
        assert config == expected[0]
        jax.tree.map(np.testing.assert_array_equal, params, expected[1])


def test_hub_id_downloads_the_component_alone(tmp_path, monkeypatch):
    saved(tmp_path / "snapshot" / "transformer")
    asked = {}

    def download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    conversion.convert("transformer", "zai-org/CogVideoX-5b", tmp_path / "ours")
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    wanted = [f"transformer/{name}" for name in ("config.json", *shards, f"{WEIGHTS}.index.json")]
    others = ["README.md", "model_index.json", "vae/config.json", f"vae/{WEIGHTS}", "tokenizer/spiece.model"]
    others += ["text_encoder/model-00001-of-00002.safetensors", "text_encoder/model.safetensors.index.json"]
    patterns = asked["zai-org/CogVideoX-5b"]
    assert sorted(filter_repo_objects(wanted + others, allow_patterns=patterns)) == sorted(wanted)


def test_hub_out_of_reach_is_one_clear_error(tmp_path, monkeypatch):
    def download(name, allow_patterns):
        raise OSError("Network is unreachable\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ConversionError, match="could not be downloaded from the hub .Network is unreachable."):
        conversion.convert("transformer", "zai-org/CogVideoX-5b", tmp_path / "ours")


# One tensor at a time


def test_one_leaf_is_in_memory_at_a_time(tmp_path, monkeypatch):
    saved(tmp_path / "source")
    monkeypatch.setattr(store, "_BATCH_BYTES", 0)
    alive, most, assemble = [], [], engine.assemble

    def watched(leaf, read, dtype):
        most.append(sum(ref() is not None for ref in alive))
        values = assemble(leaf, read, dtype)
        alive.append(weakref.ref(values))
        return values

    monkeypatch.setattr(engine, "assemble", watched)
    conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    print(f"leaves alive beside the one being read: at most {max(most)} of {len(most)}")
    assert len(most) == 64
    assert max(most) <= 1  # a writer's thread may let go a moment late
    assert sum(most) < len(most) / 2


def test_one_leaf_is_in_memory_at_a_time_on_the_way_back(tmp_path, monkeypatch, converted):
    """No view of a leaf that was taken apart may outlive it."""
    monkeypatch.setattr(store, "_BATCH_BYTES", 0)
    alive, most, read_params = [], [], store.read_params

    def watched(folder, abstract):
        most.append(sum(ref() is not None for ref in alive))
        params = read_params(folder, abstract)
        alive.extend(weakref.ref(leaf) for leaf in jax.tree.leaves(params))
        return params

    monkeypatch.setattr(store, "read_params", watched)
    conversion.convert_back("transformer", converted[1], tmp_path / "back")
    print(f"leaves alive when the next one is read: at most {max(most)}, {sum(most)} times of {len(most)}")
    assert len(alive) == len(most) == 64
    assert max(most) <= 1 and sum(most) < len(most) / 2  # a reader's thread may let go a moment late


def test_nothing_is_read_before_all_is_known_to_fit(tmp_path, monkeypatch):
    edited(tmp_path / "source", lambda state: state.pop("proj_out.bias"))
    monkeypatch.setattr(safetensors_io, "read_tensor", lambda tensor: pytest.fail("a tensor was read"))
    with pytest.raises(ConversionError, match="proj_out.bias"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device")])
def test_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, error):
    saved(tmp_path / "source")
    seen, assemble = [], engine.assemble

    def interrupted(leaf, read, dtype):
        seen.append([path.name for path in tmp_path.rglob(store.MANIFEST)])
        if len(seen) == 30:
            raise error
        return assemble(leaf, read, dtype)

    monkeypatch.setattr(engine, "assemble", interrupted)
    with pytest.raises((KeyboardInterrupt, ConversionError)):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert len(seen) == 30 and not any(seen)  # the manifest is not there before the last leaf
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


# Outputs, and what was converted


def test_existing_output_is_kept_unless_told(tmp_path):
    saved(tmp_path / "source")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "thesis.txt").write_text("precious")
    with pytest.raises(ConversionError, match="is there already"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    with pytest.raises(ConversionError, match="mmjax did not write it"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours", overwrite=True)
    assert (tmp_path / "ours" / "thesis.txt").read_text() == "precious"
    conversion.convert("transformer", tmp_path / "source", tmp_path / "other")
    conversion.convert("transformer", tmp_path / "source", tmp_path / "other", dtype="bfloat16", overwrite=True)
    assert conversion.load_component(tmp_path / "other")[1]["proj_out"]["bias"].dtype == jax.numpy.bfloat16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "ours", "source"]
    with pytest.raises(ConversionError, match="holds the source"):
        conversion.convert("transformer", tmp_path / "source", tmp_path, overwrite=True)


def test_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    saved(tmp_path / "source")
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ConversionError, match="needs .* GB"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_table_that_misses_a_leaf_is_refused():
    """The table is held against the model's tree: a parameter that the model gains must gain a row."""
    rows = transformer.table(c.Transformer(layers=2))
    shapes = {"patch_embed/kernel": (64, 3072)}
    with pytest.raises(ConversionError, match="the tree does not have"):
        engine.expand(rows, shapes)
    with pytest.raises(ConversionError, match="unfilled: ..extra/kernel"):
        engine.expand([], {"extra/kernel": (1,)})
    row = engine.Row("a.weight", "a/kernel")
    with pytest.raises(ConversionError, match="twice"):
        engine.expand([row, row], {"a/kernel": (1,)})


def test_keys_of_many_blocks_are_one_line():
    keys = [f"blocks.{i}.ff.net.2.bias" for i in (0, 1, 2, 5)] + ["norm.weight", "blocks.7.other"]
    assert engine.grouped(keys) == ["blocks.{0-2,5}.ff.net.2.bias", "norm.weight", "blocks.7.other"]


def test_float16_is_kept_and_said(tmp_path):
    saved(tmp_path / "source", "2b", torch.float16)
    report = conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert "float16 is kept as published" in str(report)
    with pytest.raises(ConversionError, match="black videos"):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "other", dtype="float16")
