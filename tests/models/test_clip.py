"""The CLIP vision tower against transformers': random weights through PhotoMaker's table, float32; and its pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import sharding, trees  # noqa: E402
from mmjax.conversion import engine, photomaker  # noqa: E402
from mmjax.models import clip  # noqa: E402
from mmjax.models.clip import CLIPVisionTower  # noqa: E402
from mmjax.models.sizes import CLIPVision  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from mmjax.sharding import unbox  # noqa: E402

TINY = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=28)
SIZES = {
    "tiny": dict(patch_size=14),
    "one block": dict(patch_size=7, num_hidden_layers=1),
    "exact gelu": dict(patch_size=7, hidden_act="gelu"),
    "many patches": dict(patch_size=4, image_size=64, hidden_size=32, num_attention_heads=2),
}


def torch_clip(seed=0, **overrides):
    """A tiny tower whose every weight is drawn anew, norms' and biases' included."""
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**(TINY | overrides))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * 0.2 + (name.endswith("weight") and "norm" in name))
    return model


def record_of(model) -> CLIPVision:
    s = model.config
    sizes = s.num_hidden_layers, s.hidden_size, s.num_attention_heads, s.intermediate_size, s.image_size, s.patch_size
    return CLIPVision(*sizes, s.hidden_act, s.layer_norm_eps)


def ours(model) -> tuple[CLIPVision, dict]:
    """(record, parameters) of a torch tower, through the rows of PhotoMaker's table."""
    record = record_of(model)
    state = {f"id_encoder.{key}": value.detach().numpy() for key, value in model.state_dict().items()}
    state = {key: value for key, value in state.items() if photomaker.unused(key) is None}
    abstract = {"clip": unbox(abstract_tower(record))}
    rows = [row for row in photomaker.table(photomaker.PhotoMaker(record)) if row.target.startswith("clip/")]
    leaves = engine.expand(rows, {path: leaf.shape for path, leaf in trees.flatten(abstract).items()})
    engine.check(leaves, {key: value.shape for key, value in state.items()}, "the reference")
    params = {leaf.path: engine.assemble(leaf, state.__getitem__, np.dtype(np.float32)) for leaf in leaves}
    return record, trees.unflatten(params)["clip"]


def abstract_tower(record):
    pixels = jax.ShapeDtypeStruct((1, record.side, record.side, 3), np.float32)
    return jax.eval_shape(CLIPVisionTower(record, Policy()).init, jax.random.key(0), pixels)["params"]


def reference(model, pixels):
    """(last, penultimate) of pixels [n, h, w, 3]."""
    with torch.no_grad():
        channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        found = model(channels_first, output_hidden_states=True)
    return found.last_hidden_state.numpy(), found.hidden_states[-2].numpy()


def off(found, expected) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def noise(side, count=2):
    return np.random.default_rng(1).standard_normal((count, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_both_layers_equal_transformers(size, record_property):
    model = torch_clip(**SIZES[size])
    record, params = ours(model)
    pixels = noise(record.side)
    found = jax.jit(CLIPVisionTower(record, Policy()).apply)({"params": params}, pixels)
    errors = [off(mine, theirs) for mine, theirs in zip(found, reference(model, pixels), strict=True)]
    record_property("max_abs_error_over_max_abs", max(errors))
    print(f"CLIP {size}: max abs error / max abs: last {errors[0]:.1e}, penultimate {errors[1]:.1e}")
    assert found[0].shape == (2, record.tokens, record.width)
    assert max(errors) <= 1e-5
    assert off(found[0], np.asarray(found[1])) > 0.1, "two different layers"


def test_activations_are_not_the_same():
    """Else a wrong one could pass for right."""
    model = torch_clip(patch_size=7)
    record, params = ours(model)
    pixels = noise(record.side)
    wrong = CLIPVision(**{**record.__dict__, "activation": "gelu"})
    found, _ = CLIPVisionTower(wrong, Policy()).apply({"params": params}, pixels)
    assert off(found, reference(model, pixels)[0]) > 1e-4


def test_sharded_tower_gives_the_same():
    model = torch_clip(patch_size=7)
    record, params = ours(model)
    mesh = sharding.make_mesh(c.Mesh(data=2, fsdp=2, tensor=2))
    placed = jax.device_put(params, sharding.param_shardings(mesh, abstract_tower(record)))
    assert placed["blocks"]["in"]["kernel"].addressable_shards[0].data.shape == (3, 32, 48)
    pixels = noise(record.side)
    with sharding.use_mesh(mesh):
        found = jax.jit(CLIPVisionTower(record, Policy()).apply)({"params": placed}, pixels)
    assert max(off(f, e) for f, e in zip(found, reference(model, pixels), strict=True)) <= 1e-5


def test_bfloat16_stays_near():
    model = torch_clip(patch_size=7)
    record, params = ours(model)
    pixels = noise(record.side)
    found = CLIPVisionTower(record, Policy("bfloat16")).apply({"params": params}, pixels)
    errors = [off(f.astype(jnp.float32), e) for f, e in zip(found, reference(model, pixels), strict=True)]
    print(f"CLIP in bfloat16: max abs error / max abs: last {errors[0]:.1e}, penultimate {errors[1]:.1e}")
    assert all(f.dtype == jnp.bfloat16 for f in found)
    assert 1e-4 < max(errors) < 0.05


def test_full_size_is_transformers():
    """ViT-L/14 at 224 pixels, on the meta device, without what we leave out."""
    sizes = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14)
    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes))
    assert record_of(model) == CLIPVision() and CLIPVision().tokens == 257
    used = {
        key: weight.numel()
        for key, weight in model.named_parameters()
        if photomaker.unused(f"id_encoder.{key}") is None
    }
    left = sum(weight.numel() for weight in model.parameters()) - sum(used.values())
    count = trees.count(unbox(abstract_tower(CLIPVision())))
    print(f"CLIP ViT-L/14: {count:,} parameters")
    assert count == sum(used.values()) == 303_177_728
    assert left == 2 * 1024 + 1024 * model.config.projection_dim  # post_layernorm and visual_projection


# Pictures


def picture(height, width, seed=0):
    """Smooth shapes with sharp edges, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(9 * x + k) * np.cos(7 * y * k + 1) for k in (1, 2, 3)], -1)
    boxes = ((x * 6).astype(int) + (y * 6).astype(int))[..., None] % 2
    return np.clip(100 * waves + 60 * boxes + 90 + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("height,width", [(224, 224), (300, 300), (480, 640), (641, 333), (100, 150), (112, 112)])
def test_pictures_are_prepared_as_photomaker_does(height, width):
    processor = CLIPImageProcessorPil()
    taken = picture(height, width)
    expected = processor(taken, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
    cropped = clip.crop_picture(taken, 224)
    found = np.asarray(clip.normalize_pictures(cropped[None]))[0]
    assert cropped.dtype == np.uint8 and cropped.shape == (224, 224, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_preparing_is_the_models_normalization():
    white = np.asarray(clip.normalize_pictures(np.full((1, 2, 2, 3), 255, np.uint8)))
    expected = (1 - np.array([0.48145466, 0.4578275, 0.40821073])) / np.array([0.26862954, 0.26130258, 0.27577711])
    np.testing.assert_allclose(white[0, 0, 0], expected, rtol=1e-6)
