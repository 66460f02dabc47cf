"""A MagicMirror of a few thousand weights, and a batch for it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import config as c
from mmjax import trees
from mmjax.models.magicmirror.model import MagicMirror
from mmjax.precision import Policy
from mmjax.sharding import unbox
from mmjax.trainable import split_adapter

TRANSFORMER = c.Transformer(
    layers=4,
    heads=4,
    head_dim=16,
    latent_channels=4,
    text_dim=24,
    text_length=8,
    time_dim=16,
    base_frames=3,
    base_height=8,
    base_width=8,
)
ADAPTER = c.Adapter(
    id_dim=8,
    clip_dim=12,
    clip_tokens=5,
    perceiver_width=32,
    perceiver_depth=2,
    perceiver_head_dim=16,
    queries=4,
    can_condition_dim=16,
    can_hidden=16,
)
MODEL = c.Model(TRANSFORMER, ADAPTER)
RUNTIME = c.Runtime(remat="none")


def with_adapter(**switches) -> c.Model:
    """The tiny model with some settings of its adapter changed."""
    return dataclasses.replace(MODEL, adapter=dataclasses.replace(ADAPTER, **switches))


def make(model: c.Model = MODEL, policy: Policy = Policy(), runtime: c.Runtime = RUNTIME) -> MagicMirror:  # noqa: B008
    return MagicMirror(model, policy, runtime)


def batch(model: c.Model = MODEL, size: int = 2, references: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """Random features with the class word at positions 2, 3, ..., as the data pipeline gives them."""
    rng, t, a = np.random.default_rng(seed), model.transformer, model.adapter
    normal = lambda *shape: rng.standard_normal((size, *shape)).astype(np.float32)  # noqa: E731
    mask = np.zeros((size, t.text_length), bool)
    mask[:, 2 : 2 + a.id_tokens * references] = True
    return {
        "text": normal(t.text_length, t.text_dim),
        "class_mask": mask,
        "id_embedding": normal(references, a.id_dim),
        "clip_last": normal(references, a.clip_tokens, a.clip_dim),
        "clip_penultimate": normal(references, a.clip_tokens, a.clip_dim),
    }


def inputs(model: c.Model = MODEL, size: int = 2, frames: int = 3, seed: int = 1):
    """(latents, timesteps)."""
    rng, t = np.random.default_rng(seed), model.transformer
    frames = t.whole_frames(frames)
    latents = rng.standard_normal((size, frames, 8, 8, t.latent_channels)).astype(np.float32)
    return latents, rng.integers(0, 1000, size).astype(np.int32)


@functools.cache
def fresh(model: c.Model = MODEL, references: int = 1):
    """Parameters with a drawn base, as a trained one has no zero gates, and an adapter as it is initialized."""
    module = make(model)
    params = unbox(jax.jit(module.init)(jax.random.key(0), batch(model, references=references), *inputs(model)))[
        "params"
    ]
    if not model.adapter.enabled:
        return redrawn(params)
    adapter, base = split_adapter(params)
    return trees.merge(redrawn(base), adapter)


@functools.cache
def drawn(model: c.Model = MODEL, references: int = 1):
    """Parameters all drawn anew, adapter included: nothing is zero."""
    return redrawn(fresh(model, references), seed=1)


def redrawn(params, seed: int = 0, scale: float = 0.2):
    """The tree with every leaf drawn anew, norm scales round 1. A fresh model's zero gates hide all its blocks."""
    rng = np.random.default_rng(seed)
    leaves = trees.flatten(params)
    return trees.unflatten(
        {
            path: (path.endswith("/scale") + scale * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
            for path, leaf in leaves.items()
        }
    )


def loss(module: MagicMirror, params, batch, latents, timesteps):
    """A plain squared error against a fixed target, for gradients."""
    found = module.apply({"params": params}, batch, latents, timesteps)
    return jnp.mean(jnp.square(found - jnp.sin(3 * latents)))
