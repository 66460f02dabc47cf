"""diffusers' schedulers with the settings of the published CogVideoX models, and a hold on the noise they draw.

Beside them stands our own loop over a whole step table, for what is compared with them.
"""

import contextlib
from unittest import mock

import jax
import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, DPMSolverMultistepScheduler

from mmjax import config
from mmjax.diffusion import samplers
from mmjax.diffusion.guidance import Denoise
from mmjax.diffusion.schedule import NoiseSchedule, make_schedule

SHIFTS = {"2b": 3.0, "5b": 1.0}  # snr_shift_scale
KINDS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
LEAST_ABAR = 2.0**-24  # what DPMSolverMultistepScheduler takes for abar = 0 at the last timestep
_RANDN = "diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor"


def scheduler(sampler: str, shift: float, steps: int | None = None):
    """diffusers' scheduler for one of our samplers, its timesteps set when `steps` is given."""
    if sampler == "dpmpp_2m":
        made = multistep_scheduler()
        made.alphas_cumprod = torch.tensor(comparable_schedule(sampler, shift).alphas_cumprod)
    else:
        made = KINDS[sampler](
            snr_shift_scale=shift,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=False,
        )
    if steps is not None:
        made.set_timesteps(steps)
    return made


def multistep_scheduler() -> DPMSolverMultistepScheduler:
    """diffusers' DPM-Solver++(2M) with CogVideoX's betas. It knows no SNR shift.

    With a final sigma of zero its last step is first order and ends at abar = 1, whatever `lower_order_final` says.
    """
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )


def comparable_schedule(sampler: str, shift: float) -> NoiseSchedule:
    """Our schedule as the reference of `sampler` can have it: DPM-Solver++(2M) of diffusers needs abar > 0.

    It divides by sqrt(abar), so it puts `LEAST_ABAR` in place of the zero at the last timestep; with the zero itself it
    would give NaN. For the comparison our schedule has the same last entry. All other entries stay as they are.
    """
    ours = make_schedule(config.Schedule(snr_shift=shift))
    if sampler != "dpmpp_2m":
        return ours
    abar = np.append(ours.alphas_cumprod[:-1], LEAST_ABAR)
    return NoiseSchedule(abar, np.sqrt(abar).astype(np.float32), np.sqrt(1.0 - abar).astype(np.float32))


def sample(
    denoise: Denoise, schedule: NoiseSchedule, noise, *, settings: config.Sampling, step_noise: samplers.StepNoise
) -> jax.Array:
    """Clean latents from pure noise, in one scan over all steps of the table."""
    table = samplers.make_step_table(schedule, settings)
    return samplers.advance(denoise, table, samplers.start(noise), step_noise).latents


def step(made, i: int, v, x, clean, noise):
    """(latents, clean estimate) after step i, with `noise` in place of whatever the scheduler draws."""
    t = made.timesteps[i]
    if isinstance(made, DPMSolverMultistepScheduler):
        return made.step(v, t, x, return_dict=False)[0], made.model_outputs[-1]
    if isinstance(made, CogVideoXDDIMScheduler):
        return made.step(v, t, x, return_dict=False)
    with mock.patch(_RANDN, lambda shape, **_: noise):
        return made.step(v, clean, t, made.timesteps[i - 1] if i else None, x, return_dict=False)


@contextlib.contextmanager
def recorded_draws():
    """A list that fills with every noise tensor that the DPM scheduler draws; it uses the last one of a step."""
    from diffusers.schedulers import scheduling_dpm_cogvideox

    draw, drawn = scheduling_dpm_cogvideox.randn_tensor, []

    def record(*args, **kwargs):
        drawn.append(draw(*args, **kwargs))
        return drawn[-1]

    with mock.patch(_RANDN, record):
        yield drawn
