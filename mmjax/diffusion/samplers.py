"""The samplers, each a table of weights for one linear recurrence under one `lax.scan` (METHOD 1).

Every sampler turns the model's velocity into an estimate of the clean latents and then moves to the next noise level
by a weighted sum whose weights depend on the step alone:

    x0   = signal x + (-sigma) v
    x   <- keep x + clean x0 + clean_before x0_before + fresh noise

So a sampler is the rule that gives these weights, a row of `SAMPLERS` at the end of this file, and the loop is the
same for all. The rule's weights for all steps are a `StepTable`, made in float64 before anything is traced. A new
sampler is a function of weights, its row, and its name in `config.SAMPLER_NAMES`.

There is no I/O here: guidance is inside `denoise` (see `guidance.guided`) and the noise of each step is a function too,
so that a caller may replay a recorded sequence. To show progress, jit `advance` and call it with the pieces of
`split_table`: the arithmetic of a step is the same in every piece, bit for bit.

With keyed noise a sample depends on its own key alone: noise and sampler give the same bits whatever the mesh and the
batch's other members. What may still differ, in the last digits, is the model: a matrix product's rounding depends
on its sizes.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmjax import config
from mmjax.diffusion.guidance import Denoise, guidance_scales
from mmjax.diffusion.schedule import NoiseSchedule, trailing_timesteps
from mmjax.errors import ConfigError
from mmjax.seeds import random_key

StepNoise = Callable[[jax.Array], jax.Array]  # step [] int32 -> standard normal noise of the latents' shape


class StepWeights(NamedTuple):
    """The four weights of the recurrence at every step, float64."""

    keep: Float[np.ndarray, " S"]  # of the present latents
    clean: Float[np.ndarray, " S"]  # of this step's estimate of the clean latents
    clean_before: Float[np.ndarray, " S"]  # of the estimate of the step before
    fresh: Float[np.ndarray, " S"]  # of new noise


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """What makes one sampler differ from another."""

    description: str  # one line, for the command line's help
    weights: Callable[[np.ndarray, np.ndarray], StepWeights]  # of abar before and after each step, [S] float64
    stochastic: bool  # adds `fresh` noise; False: no noise is drawn at all
    remembers: bool  # adds `clean_before`; False: the last estimate of the clean latents is not read
    fixed_stride: bool = False  # steps lead to t - N // S, as in diffusers' CogVideoX schedulers; else to the next t


@flax.struct.dataclass
class StepTable:
    """What every step does: arrays with a leading axis of S steps, float32 unless noted."""

    step: Int[Array, " S"]  # 0 .. S - 1, int32
    timestep: Int[Array, " S"]  # given to the model, int32
    scale: Float[Array, " S"]  # of guidance
    signal: Float[Array, " S"]  # sqrt(abar) at the timestep
    sigma: Float[Array, " S"]  # sqrt(1 - abar) at the timestep
    keep: Float[Array, " S"]  # weight of the present latents
    clean: Float[Array, " S"]  # weight of this step's estimate of the clean latents
    clean_before: Float[Array, " S"]  # weight of the estimate of the step before
    fresh: Float[Array, " S"]  # weight of new noise
    stochastic: bool = flax.struct.field(pytree_node=False)  # as in `UpdateRule`
    remembers: bool = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class SamplerState:
    """What one step hands to the next."""

    latents: Float[Array, " B *dims"]
    clean: Float[Array, " B *dims"]  # the last estimate of the clean latents; a preview of the result


def make_step_table(schedule: NoiseSchedule, settings: config.Sampling) -> StepTable:
    """The weights of `settings.sampler` for `settings.steps` steps, as numpy arrays.

    A step leads from its timestep to that of the next step, and the last one to abar = 1, where the estimate of the
    clean latents is the result. A rule with `fixed_stride` leads to `t - N // S` instead, and to abar = 1 below 0.
    That is the same when S divides N, as the step counts in use (50, 25, 100, ...) do; else it is a little off the
    next timestep, and the last step may end at the first timestep's abar: the reference implementation has it so.

    Args:
      schedule: the noise levels that the model was trained with.
      settings: sampler, steps and guidance.

    Raises:
      ConfigError: an unknown sampler, or more steps than the schedule has timesteps.
    """
    if settings.sampler not in SAMPLERS:
        raise ConfigError(f"sampling.sampler = {settings.sampler!r}: expected one of {', '.join(SAMPLERS)}")
    rule = SAMPLERS[settings.sampler]
    timesteps = trailing_timesteps(schedule.steps, settings.steps)
    stride = schedule.steps // settings.steps
    targets = timesteps - stride if rule.fixed_stride else np.append(timesteps[1:], -1)
    here = schedule.alphas_cumprod[timesteps]
    there = np.where(targets >= 0, schedule.alphas_cumprod[np.maximum(targets, 0)], 1.0)
    scale = guidance_scales(settings, timesteps)
    columns = (scale, np.sqrt(here), np.sqrt(1.0 - here), *rule.weights(here, there))
    return StepTable(
        np.arange(settings.steps, dtype=np.int32),
        timesteps,
        *(column.astype(np.float32) for column in columns),
        stochastic=rule.stochastic,
        remembers=rule.remembers,
    )


def start(noise: Float[Array, " B *dims"]) -> SamplerState:
    """The state before the first step, from standard normal latents. Its clean estimate has weight 0 there."""
    latents = jnp.asarray(noise, jnp.float32)
    return SamplerState(latents=latents, clean=jnp.zeros_like(latents))


def advance(denoise: Denoise, table: StepTable, state: SamplerState, step_noise: StepNoise) -> SamplerState:
    """The state after the steps of `table`, a whole table or a piece of one, in one `lax.scan`.

    Args:
      denoise: `(latents [B, ...], timesteps [B] int32, scale []) -> v [B, ...]`, float32; see `guidance.guided`.
      table: may be traced, so that one compilation serves all pieces of a length.
      state: from `start` or from the piece before.
      step_noise: fresh noise of a step; `keyed_noise(keys, shape)`, or `lambda step: recorded[step]` to replay a
        sequence. It is called by stochastic samplers alone.

    Returns:
      Latents, float32; after the last step they are clean, in the units of the training latents.
    """

    def body(state: SamplerState, step: StepTable) -> tuple[SamplerState, None]:
        timesteps = jnp.full(state.latents.shape[:1], step.timestep)
        v = denoise(state.latents, timesteps, step.scale)
        clean = step.signal * state.latents - step.sigma * v
        latents = step.keep * state.latents + step.clean * clean
        if table.remembers:
            latents = latents + step.clean_before * state.clean
        if table.stochastic:
            latents = latents + step.fresh * step_noise(step.step)
        return SamplerState(latents=latents, clean=clean), None

    return jax.lax.scan(body, state, table)[0]


def split_table(table: StepTable, steps: int) -> list[StepTable]:
    """The table in pieces of `steps` steps, the last one shorter when they do not fit."""
    starts = range(0, len(table.step), steps)
    return [jax.tree.map(lambda column, first=first: column[first : first + steps], table) for first in starts]


def sample_keys(seed: int, numbers: Int[Array, " B"]) -> Key[Array, " B"]:
    """A random key for each sample, from the seed and the sample's own number alone.

    A sample keeps its noise whatever batch it falls into, at whatever place and on whatever mesh.

    Args:
      seed: of the whole request, 0 to 2^64 - 1.
      numbers: of the samples in the request: 0, 1, 2, ...
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(random_key(seed), jnp.asarray(numbers))


def starting_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, " B *dims"]:
    """Standard normal latents to start from, float32; `shape` is one sample's, (T, H, W, C)."""
    return _normal(keys, 0, shape)


def keyed_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> StepNoise:
    """The noise of step s from `fold_in(key of the sample, s + 1)`; 0 is the starting noise's."""
    return lambda step: _normal(keys, step + 1, shape)


def _normal(keys, number, shape: tuple[int, ...]) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape))(keys)


def _ddim_weights(here: np.ndarray, there: np.ndarray) -> StepWeights:
    """DDIM with eta 0 (Song et al., arXiv 2010.02502, eq. 12).

    `here` and `there` are abar before and after the step. In terms of x and x0 the implied noise drops out.
    """
    keep = np.sqrt((1.0 - there) / (1.0 - here))
    zero = np.zeros_like(here)
    return StepWeights(keep, np.sqrt(there) - np.sqrt(here) * keep, zero, zero)


def _dpm_weights(here: np.ndarray, there: np.ndarray) -> StepWeights:
    """CogVideoX's SDE-DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, section 5); see `_lambda_steps`.

    The first timestep has lambda = -inf and the end +inf. numpy's infinities give the right limits there: keep 0, clean
    sqrt(there), and 1 / 2r = 0 in the second step.
    """
    h, extrapolate = _lambda_steps(here, there)
    keep = np.sqrt((1.0 - there) / (1.0 - here)) * np.exp(-h)
    clean = -np.expm1(-2.0 * h) * np.sqrt(there)
    fresh = np.sqrt(1.0 - there) * np.sqrt(1.0 - np.exp(-2.0 * h))
    return StepWeights(keep, clean * (1.0 + extrapolate), -clean * extrapolate, fresh)


def _dpmpp_2m_weights(here: np.ndarray, there: np.ndarray) -> StepWeights:
    """DPM-Solver++(2M), the deterministic one (Lu et al., arXiv 2211.01095, algorithm 2); see `_lambda_steps`.

    Without the extrapolation this is DDIM. The infinities have the same limits as in `_dpm_weights`, but that keep is
    sigma there / sigma here. diffusers' `DPMSolverMultistepScheduler` has no such limits: it starts at abar = 2^-24
    instead of 0, which changes the first two steps and nothing after them.
    """
    h, extrapolate = _lambda_steps(here, there)
    keep = np.sqrt((1.0 - there) / (1.0 - here))
    clean = -np.expm1(-h) * np.sqrt(there)
    return StepWeights(keep, clean * (1.0 + extrapolate), -clean * extrapolate, np.zeros_like(here))


def _lambda_steps(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, 1 / 2r) of each step of a two-step method, float64.

    With `lambda = log(signal / sigma)`, a step of length h and the step before of length r h, the clean estimate
    is extrapolated to `(1 + 1 / 2r) x0 - (1 / 2r) x0_before`. The first step has no step before and the last one (to
    abar = 1, lambda = inf) must land on x0 itself: both are first order, with 1 / 2r = 0. Where the second step is the
    last one as well, infinity over infinity is not computed.
    """
    with np.errstate(divide="ignore"):
        lamb, lamb_there = (np.log(np.sqrt(abar / (1.0 - abar))) for abar in (here, there))
    h = lamb_there - lamb
    extrapolate = np.zeros_like(h)
    np.divide(h[1:], 2.0 * np.diff(lamb), out=extrapolate[1:], where=there[1:] < 1.0)
    return h, extrapolate


SAMPLERS: dict[str, UpdateRule] = {  # the names are those of `config.SAMPLER_NAMES`
    "ddim": UpdateRule(
        "first order, deterministic (the 2B model's)",
        _ddim_weights,
        stochastic=False,
        remembers=False,
        fixed_stride=True,
    ),
    "dpm": UpdateRule(
        "CogVideoX's SDE-DPM-Solver++(2M), second order, new noise at every step (the 5B models')",
        _dpm_weights,
        stochastic=True,
        remembers=True,
        fixed_stride=True,
    ),
    "dpmpp_2m": UpdateRule(
        "DPM-Solver++(2M), second order, deterministic",
        _dpmpp_2m_weights,
        stochastic=False,
        remembers=True,
    ),
}
