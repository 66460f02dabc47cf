"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) and its scale at every step.

A sampler calls `denoise(latents, timesteps, scale) -> v`. The functions here make one out of a model and conditions;
the sampler itself knows neither.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmjax import config

Conditions = TypeVar("Conditions")  # any pytree of arrays with a leading batch axis
Predict = Callable[[jax.Array, jax.Array, Conditions], jax.Array]  # (latents [B ...], timesteps [B], conditions) -> v
Denoise = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (latents [B ...], timesteps [B], scale []) -> v


def guided(predict: Predict, negative: Conditions, positive: Conditions, settings: config.Sampling) -> Denoise:
    """The model's prediction pushed away from the negative conditions: `v = v_neg + scale (v_pos - v_neg)`.

    Both predictions come from one call with a batch of 2B, negative half first. With `settings.guidance` 1 the
    formula is v_pos itself, so a single forward of B is made, `negative` is not looked at (it may be None), and the
    dynamic option has no effect.

    Args:
      predict: the model, `(latents [B, T, H, W, C], timesteps [B], conditions) -> v [B, T, H, W, C]` in float32.
      negative: conditions to move away from, such as an empty prompt without identity.
      positive: conditions to move towards; same structure and shapes as `negative`.
      settings: of these, `guidance` decides whether there is a pair at all.

    Returns:
      A function for `mmjax.diffusion.samplers`, which hands it the scale of each step.
    """
    if settings.guidance == 1:
        return lambda latents, timesteps, scale: predict(latents, timesteps, positive)
    pair = jax.tree.map(lambda *halves: jnp.concatenate(halves), negative, positive)

    def denoise(
        latents: Float[Array, " B *dims"], timesteps: Int[Array, " B"], scale: Float[Array, ""]
    ) -> Float[Array, " B *dims"]:
        both = predict(jnp.concatenate([latents, latents]), jnp.concatenate([timesteps, timesteps]), pair)
        v_negative, v_positive = jnp.split(both, 2)
        return v_negative + scale * (v_positive - v_negative)

    return denoise


def guidance_scales(settings: config.Sampling, timesteps: Int[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    """The guidance scale at every step, float64.

    Constant, or with `dynamic_guidance`, for step count S and timestep t,

        1 + guidance (1 - cos(pi ((S - t) / S)^5)) / 2

    as `CogVideoXPipeline.__call__` of diffusers has it. A cosine ramp from 1 to 1 + guidance was meant, over the
    *step*; t is the *timestep*, so for t > S the fifth power is huge and the cosine swings wildly between the ends.
    The published 5B samples were made this way, therefore it is kept to the digit: Python floats, in that order.

    Args:
      settings: `guidance`, `dynamic_guidance` and `steps`.
      timesteps: of the steps, from `schedule.trailing_timesteps`.
    """
    if not settings.dynamic_guidance:
        return np.full(len(timesteps), settings.guidance, np.float64)
    count = settings.steps
    waves = [math.cos(math.pi * ((count - t) / count) ** 5.0) for t in timesteps.tolist()]
    return np.array([1 + settings.guidance * ((1 - wave) / 2) for wave in waves], np.float64)
