"""The CogVideoX noise schedule and the v-prediction algebra on it (METHOD 1).

A noisy latent is `x_t = signal(t) x_0 + sigma(t) noise` with `signal = sqrt(abar)` and `sigma = sqrt(1 - abar)`. The
model predicts the velocity `v = signal noise - sigma x_0` (Salimans and Ho, arXiv 2202.00512, appendix D). Since
`signal^2 + sigma^2 = 1`, going from (x_0, noise) to (x_t, v) is a rotation, so each of the four follows from a pair of
the others without a division. That is what lets the schedule end in pure noise: nothing below breaks at abar = 0.

Tables are made once in float64 with numpy and used in float32: `1 - abar` loses half of its digits near t = 0 when it
is computed in float32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmjax import config
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Noise levels of the training timesteps 0 .. N - 1, as read-only numpy tables.

    Compared and hashed by identity, so that it may be a static argument or be closed over under `jit`.
    """

    alphas_cumprod: Float[np.ndarray, " N"]  # abar, float64: 1 - beta_start at t = 0 before the shift, 0 at t = N - 1
    signal: Float[np.ndarray, " N"]  # sqrt(abar), float32
    sigma: Float[np.ndarray, " N"]  # sqrt(1 - abar), float32

    @property
    def steps(self) -> int:
        """Number N of training timesteps."""
        return len(self.alphas_cumprod)


def make_schedule(settings: config.Schedule) -> NoiseSchedule:
    """The schedule of CogVideoX: scaled-linear betas, shifted SNR, zero terminal SNR.

    Args:
      settings: `snr_shift` is 3.0 for 2B and 1.0 (no shift) for 5B and 1.5-5B.

    Returns:
      Tables with N = `settings.steps` entries.

    The order matters: the shift `abar / (s + (1 - s) abar)`, which divides the SNR by s, comes first (Esser et al.,
    arXiv 2403.03206, section 5.3), the rescaling to zero terminal SNR second (Lin et al., arXiv 2305.08891,
    algorithm 1). abar of the first timestep is therefore the shifted one.
    """
    betas = np.linspace(settings.beta_start**0.5, settings.beta_end**0.5, settings.steps, dtype=np.float64) ** 2
    abar = np.cumprod(1.0 - betas)
    abar = abar / (settings.snr_shift + (1.0 - settings.snr_shift) * abar)
    abar = _rescale_to_zero_terminal_snr(abar)
    tables = abar, np.sqrt(abar).astype(np.float32), np.sqrt(1.0 - abar).astype(np.float32)
    for table in tables:
        table.setflags(write=False)
    return NoiseSchedule(*tables)


def trailing_timesteps(train_steps: int, steps: int) -> Int[np.ndarray, " S"]:
    """The timesteps at which a sampler calls the model: S = `steps` of them, from `train_steps - 1` downwards.

    Trailing spacing (Lin et al., arXiv 2305.08891, table 2) always begins at the last timestep, the only one whose
    input is pure noise, as a sampler's is.

    Args:
      train_steps: timesteps N of the schedule.
      steps: denoising steps S, 1 .. N.

    Raises:
      ConfigError: `steps` is outside 1 .. N.
    """
    if not 1 <= steps <= train_steps:
        raise ConfigError(f"sampling.steps = {steps}: expected 1 to schedule.steps = {train_steps}")
    # For 62 step counts (61, 103, ...) rounding gives `arange` a last entry of about 0, hence timestep -1; it is cut.
    timesteps = np.round(np.arange(train_steps, 0, -train_steps / steps))[:steps] - 1
    return timesteps.astype(np.int32)


def add_noise(
    schedule: NoiseSchedule, x0: Float[Array, " B *dims"], noise: Float[Array, " B *dims"], t: Int[Array, " B"]
) -> Float[Array, " B *dims"]:
    """The noisy latents `x_t = signal x_0 + sigma noise`, float32.

    Args:
      schedule: noise levels.
      x0: clean latents, in units of the autoencoder's scaled latents (about unit variance).
      noise: standard normal noise.
      t: timestep of each sample, 0 .. N - 1 (out of range clamps to the nearest end, as JAX's gather does).
    """
    signal, sigma = _levels(schedule, t, x0.ndim)
    return signal * x0 + sigma * noise


def velocity(
    schedule: NoiseSchedule, x0: Float[Array, " B *dims"], noise: Float[Array, " B *dims"], t: Int[Array, " B"]
) -> Float[Array, " B *dims"]:
    """The model's target `v = signal noise - sigma x_0`, float32. Arguments as for `add_noise`."""
    signal, sigma = _levels(schedule, t, x0.ndim)
    return signal * noise - sigma * x0


def predict_x0(
    schedule: NoiseSchedule, v: Float[Array, " B *dims"], x_t: Float[Array, " B *dims"], t: Int[Array, " B"]
) -> Float[Array, " B *dims"]:
    """The clean latents that a predicted velocity stands for, `x_0 = signal x_t - sigma v`, float32."""
    signal, sigma = _levels(schedule, t, x_t.ndim)
    return signal * x_t - sigma * v


def _rescale_to_zero_terminal_snr(abar: np.ndarray) -> np.ndarray:
    """Shifts sqrt(abar) so that its last entry is 0, then scales so that its first entry is what it was."""
    root = np.sqrt(abar)
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2


def _levels(schedule: NoiseSchedule, t: jax.Array, ndim: int) -> tuple[jax.Array, jax.Array]:
    """Signal and sigma of each sample, shaped to broadcast over latents of `ndim` axes."""
    shape = t.shape + (1,) * (ndim - 1)
    return jnp.asarray(schedule.signal)[t].reshape(shape), jnp.asarray(schedule.sigma)[t].reshape(shape)
