"""Tiny torch references with random weights, and the same weights in our tree."""

import jax
import numpy as np

from mmjax import config as c
from mmjax import trees
from mmjax.conversion import engine, transformer
from mmjax.models.cogvideox.transformer import CogVideoXTransformer
from mmjax.precision import Policy
from mmjax.sharding import unbox
from mmjax.training.tasks.diffusion import DiffusionTask

_SHARED = dict(
    num_attention_heads=3,
    attention_head_dim=32,
    in_channels=4,
    out_channels=4,
    time_embed_dim=24,
    text_embed_dim=20,
    num_layers=4,
    max_text_seq_length=7,
)

VARIANTS = {
    "2b": dict(sample_height=8, sample_width=12, sample_frames=9, use_rotary_positional_embeddings=False),
    "5b": dict(sample_height=8, sample_width=12, sample_frames=9, use_rotary_positional_embeddings=True),
    "1.5-5b": dict(
        sample_height=40,
        sample_width=40,
        sample_frames=9,
        use_rotary_positional_embeddings=True,
        patch_size_t=2,
        patch_bias=False,
    ),
}

PUBLISHED = {  # the settings of the published config.json files that set sizes
    "2b": dict(num_attention_heads=30, num_layers=30, use_rotary_positional_embeddings=False),
    "5b": dict(num_attention_heads=48, num_layers=42, use_rotary_positional_embeddings=True),
    "1.5-5b": dict(
        num_attention_heads=48,
        num_layers=42,
        use_rotary_positional_embeddings=True,
        patch_size_t=2,
        patch_bias=False,
        sample_height=300,
        sample_width=300,
        sample_frames=81,
    ),
}


def torch_transformer(variant: str, seed: int = 0, **overrides):
    """A tiny `CogVideoXTransformer3DModel` whose every weight is drawn anew, norms' and modulations' included."""
    import torch
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(**(_SHARED | VARIANTS[variant] | overrides)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * 0.2 + (name.endswith("weight") and "norm" in name and weight.ndim == 1))
    return model


def ours(model) -> tuple[c.Transformer, dict]:
    """(config record, parameters) of a torch transformer, through the converter's table."""
    config = transformer.read_config(dict(model.config), "the reference")
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    state.pop("patch_embed.pos_embedding", None)
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(abstract_transformer(config)).items()}
    leaves = engine.expand(transformer.table(config), shapes)
    engine.check(leaves, {key: value.shape for key, value in state.items()}, "the reference")
    return config, trees.unflatten({leaf.path: engine.assemble(leaf, state.__getitem__, np.float32) for leaf in leaves})


def abstract_transformer(config: c.Transformer):
    """The transformer's parameters as shapes."""
    model = CogVideoXTransformer(config, Policy())
    return unbox(jax.eval_shape(model.init, jax.random.key(0), *example(config))["params"])


def example(config: c.Transformer, batch: int = 1):
    """Shapes of a small input: latents, timesteps, text."""
    latents = (batch, config.patch_t, 2 * config.patch, 2 * config.patch, config.latent_channels)
    return (
        jax.ShapeDtypeStruct(latents, np.float32),
        jax.ShapeDtypeStruct((batch,), np.int32),
        jax.ShapeDtypeStruct((batch, config.text_length, config.text_dim), np.float32),
    )


def records(config: c.Experiment, frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of records with `frames` pixel frames, the fields that a training step reads."""
    fields = DiffusionTask(config).fields(frames)
    return {name: jax.ShapeDtypeStruct((size, *field.shape), field.dtype) for name, field in fields.items()}


def null_text(config: c.Experiment) -> np.ndarray:
    """An embedding of the empty prompt, all zeros."""
    return np.zeros((config.model.transformer.text_length, config.model.transformer.text_dim), np.float32)
