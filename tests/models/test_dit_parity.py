"""The transformer against diffusers' `CogVideoXTransformer3DModel`: random weights through the converter, float32."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import trees  # noqa: E402
from mmjax.models.cogvideox.transformer import CogVideoXTransformer  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from tests.helpers import reference  # noqa: E402

# (latent frames, height, width) off the default of 3 x 8 x 12, which is the first
SIZES = {
    "2b": [(3, 8, 12), (2, 8, 12), (5, 6, 10), (1, 12, 8)],
    "5b": [(3, 8, 12), (2, 8, 12), (5, 6, 10), (1, 12, 8)],
    "1.5-5b": [(4, 8, 12), (2, 8, 12), (6, 6, 10), (2, 12, 8)],
}


def rotary(model, latents):
    """What the pipeline hands the transformer for these latents [B, T, C, H, W]; a stand-in carries its sizes."""
    if not model.config.use_rotary_positional_embeddings:
        return None
    pipeline = type("Sizes", (), {"vae_scale_factor_spatial": 8, "transformer": model})()
    height, width = latents.shape[-2] * 8, latents.shape[-1] * 8
    return CogVideoXPipeline._prepare_rotary_positional_embeddings(pipeline, height, width, latents.shape[1], "cpu")


def compare(variant, size, scan_remat="none", small=1.0):
    """`small` scales what is normalised: the embeddings, queries and keys."""
    model = reference.torch_transformer(variant)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("patch_embed", "to_q", "to_k")):
                weight.mul_(small)
    config, params = reference.ours(model)
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((2, *size, config.latent_channels)).astype(np.float32)
    text = rng.standard_normal((2, config.text_length, config.text_dim)).astype(np.float32)
    timesteps = np.array([7, 931], np.int32)
    theirs = torch.from_numpy(np.ascontiguousarray(latents.transpose(0, 1, 4, 2, 3)))
    with torch.no_grad():
        args = theirs, torch.from_numpy(text), torch.from_numpy(timesteps).long()
        expected = model(*args, image_rotary_emb=rotary(model, theirs)).sample.numpy().transpose(0, 1, 3, 4, 2)
    ours = CogVideoXTransformer(config, Policy(), c.Runtime(remat=scan_remat))
    found = jax.jit(ours.apply)({"params": params}, latents, timesteps, text)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("variant,size", [(v, s) for v, sizes in SIZES.items() for s in sizes])
def test_output_equals_diffusers(variant, size, record_property):
    error = compare(variant, size)
    record_property("max_abs_error_over_max_abs", error)
    print(f"{variant} {size}: max abs error / max abs output = {error:.1e}")
    assert error <= 1e-5


def test_epsilons_of_the_norms_where_values_are_as_small():
    """Blocks' norms have 1e-5 and those of queries and keys 1e-6, under the root of a variance."""
    assert compare("5b", (2, 4, 4), small=3e-3) <= 1e-5


def test_remat_changes_nothing():
    assert compare("5b", (2, 4, 4), "full") <= 1e-5


@pytest.mark.parametrize("variant,billions", [("2b", 1.69), ("5b", 5.57), ("1.5-5b", 5.57)])
def test_full_size_parameter_counts_equal_diffusers(variant, billions):
    with torch.device("meta"):
        model = CogVideoXTransformer3DModel(**reference.PUBLISHED[variant])
    config = reference.transformer.read_config(dict(model.config), variant)
    expected = sum(weight.numel() for weight in model.parameters())
    found = trees.count(reference.abstract_transformer(config))
    print(f"{variant}: {found:,} parameters")
    assert found == expected
    assert round(found / 1e9, 2) == billions
