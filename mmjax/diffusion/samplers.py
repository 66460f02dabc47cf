"""DDIM and the CogVideoX DPM sampler as one linear recurrence under one `lax.scan` (METHOD 1).

Both samplers turn the model's velocity into an estimate of the clean latents and then move to the next noise level
by a weighted sum whose weights depend on the step alone:

    x0   = signal x + (-sigma) v
    x   <- keep x + clean x0 + clean_before x0_before + fresh noise

So a sampler is a table of weights (`Plan`), made in float64 before anything is traced, and the loop is the same for
both. There is no I/O here: guidance is inside `denoise` (see `guidance.guided`) and the noise of each step is a
function too, so that a caller may replay a recorded sequence.

`sample` runs the whole plan. To show progress, jit `advance` and call it with the pieces of `split`: the arithmetic
of a step is the same in every piece, bit for bit.

With keyed noise a sample depends on its own key alone: noise and sampler give the same bits whatever the mesh and the
batch's other members. What may still differ, in the last digits, is the model: a matrix product's rounding depends
on its sizes.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmjax import config
from mmjax.diffusion.guidance import Denoise, guidance_scales
from mmjax.diffusion.schedule import Schedule, trailing_timesteps

StepNoise = Callable[[jax.Array], jax.Array]  # step [] int32 -> standard normal noise of the latents' shape


@flax.struct.dataclass
class Plan:
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
    stochastic: bool = flax.struct.field(pytree_node=False)  # False: no noise is drawn at all


@flax.struct.dataclass
class State:
    """What one step hands to the next."""

    latents: Float[Array, "B *dims"]
    clean: Float[Array, "B *dims"]  # the last estimate of the clean latents; a preview of the result


def make_plan(schedule: Schedule, settings: config.Sampling) -> Plan:
    """The table of weights of `settings.sampler` for `settings.steps` steps, as numpy arrays.

    A step leads from timestep t to `t - N // S`, and below 0 to abar = 1, where the last estimate of the clean latents
    is the result. When S does not divide N that is a little off the next timestep; the reference implementation has
    it so, and the step counts in use (50, 25, 100, ...) divide 1000.

    Raises:
      ConfigError: more steps than the schedule has timesteps.
    """
    timesteps = trailing_timesteps(schedule.steps, settings.steps)
    targets = timesteps - schedule.steps // settings.steps
    here = schedule.alphas_cumprod[timesteps]
    there = np.where(targets >= 0, schedule.alphas_cumprod[np.maximum(targets, 0)], 1.0)
    weights = _ddim_weights(here, there) if settings.sampler == "ddim" else _dpm_weights(here, there, targets < 0)
    scale = guidance_scales(settings, timesteps)
    columns = (scale, np.sqrt(here), np.sqrt(1.0 - here), *weights)
    return Plan(
        np.arange(settings.steps, dtype=np.int32),
        timesteps,
        *(column.astype(np.float32) for column in columns),
        stochastic=settings.sampler == "dpm",
    )


def sample(
    denoise: Denoise,
    schedule: Schedule,
    noise: Float[Array, "B *dims"],
    *,
    settings: config.Sampling,
    step_noise: StepNoise,
) -> Float[Array, "B *dims"]:
    """Denoises pure noise to clean latents in `settings.steps` calls of the model.

    Args:
      denoise: `(latents [B, ...], timesteps [B] int32, scale []) -> v [B, ...]`, float32; see `guidance.guided`.
      schedule: the noise levels that the model was trained with.
      noise: standard normal starting latents, float32; see `starting_noise`.
      settings: sampler, steps and guidance.
      step_noise: fresh noise of a step; `keyed_noise(keys, shape)`, or `lambda step: recorded[step]` to replay a
        sequence. DDIM never calls it.

    Returns:
      Clean latents, float32, in the units of the training latents.
    """
    return advance(denoise, make_plan(schedule, settings), start(noise), step_noise).latents


def start(noise: Float[Array, "B *dims"]) -> State:
    """The state before the first step. Its clean estimate has weight 0 there."""
    latents = jnp.asarray(noise, jnp.float32)
    return State(latents=latents, clean=jnp.zeros_like(latents))


def advance(denoise: Denoise, plan: Plan, state: State, step_noise: StepNoise) -> State:
    """The state after the steps of `plan`, a whole plan or a piece of one, in one `lax.scan`.

    Args: as for `sample`; `plan` may be traced, so that one compilation serves all pieces of a length.
    """

    def body(state: State, step: Plan) -> tuple[State, None]:
        timesteps = jnp.full(state.latents.shape[:1], step.timestep)
        v = denoise(state.latents, timesteps, step.scale)
        clean = step.signal * state.latents - step.sigma * v
        latents = step.keep * state.latents + step.clean * clean
        if plan.stochastic:
            latents = latents + step.clean_before * state.clean + step.fresh * step_noise(step.step)
        return State(latents=latents, clean=clean), None

    return jax.lax.scan(body, state, plan)[0]


def split(plan: Plan, steps: int) -> list[Plan]:
    """The plan in pieces of `steps` steps, the last one shorter when they do not fit."""
    starts = range(0, len(plan.step), steps)
    return [jax.tree.map(lambda column, first=first: column[first : first + steps], plan) for first in starts]


def sample_keys(seed: int, numbers: Int[Array, " B"]) -> Key[Array, " B"]:
    """A random key for each sample, from the seed and the sample's own number alone.

    A sample keeps its noise whatever batch it falls into, at whatever place and on whatever mesh.

    Args:
      seed: of the whole request.
      numbers: of the samples in the request: 0, 1, 2, ...
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), jnp.asarray(numbers))


def starting_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B *dims"]:
    """Standard normal latents to start from, float32; `shape` is one sample's, (T, H, W, C)."""
    return _normal(keys, 0, shape)


def keyed_noise(keys: Key[Array, " B"], shape: tuple[int, ...]) -> StepNoise:
    """The noise of step s from `fold_in(key of the sample, s + 1)`; 0 is the starting noise's."""
    return lambda step: _normal(keys, step + 1, shape)


def _normal(keys, number, shape: tuple[int, ...]) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape))(keys)


def _ddim_weights(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, ...]:
    """keep, clean, clean_before, fresh of DDIM with eta 0 (Song et al., arXiv 2010.02502, eq. 12).

    `here` and `there` are abar before and after the step. In terms of x and x0 the implied noise drops out.
    """
    keep = np.sqrt((1.0 - there) / (1.0 - here))
    zero = np.zeros_like(here)
    return keep, np.sqrt(there) - np.sqrt(here) * keep, zero, zero


def _dpm_weights(here: np.ndarray, there: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, ...]:
    """keep, clean, clean_before, fresh of CogVideoX's SDE-DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, section 5).

    With `lambda = log(signal / sigma)`, a step of length h and the step before of length r h, the clean estimate
    is extrapolated to `(1 + 1 / 2r) x0 - (1 / 2r) x0_before`. The first step has no step before and the last one (to
    abar = 1) must land on x0 itself: both are first order.

    The first timestep has lambda = -inf and the end +inf. numpy's infinities give the right limits there: keep 0, clean
    sqrt(there), and 1 / 2r = 0 in the second step. Where that is the last one as well, they would give none.
    """
    with np.errstate(divide="ignore"):
        lamb, lamb_there = (np.log(np.sqrt(abar / (1.0 - abar))) for abar in (here, there))
    h = lamb_there - lamb
    extrapolate = np.zeros_like(h)  # 1 / 2r
    np.divide(h[1:], 2.0 * np.diff(lamb), out=extrapolate[1:], where=~last[1:])
    keep = np.sqrt((1.0 - there) / (1.0 - here)) * np.exp(-h)
    clean = -np.expm1(-2.0 * h) * np.sqrt(there)
    fresh = np.sqrt(1.0 - there) * np.sqrt(1.0 - np.exp(-2.0 * h))
    return keep, clean * (1.0 + extrapolate), -clean * extrapolate, fresh
