"""diffusers' schedulers with the settings of the published CogVideoX models, and a hold on the noise they draw."""

import contextlib
from unittest import mock

from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

SHIFTS = {"2b": 3.0, "5b": 1.0}  # snr_shift_scale
KINDS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
_RANDN = "diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor"


def scheduler(sampler: str, shift: float, steps: int | None = None):
    """`CogVideoXDDIMScheduler` or `CogVideoXDPMScheduler`, its timesteps set when `steps` is given."""
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


def step(made, i: int, v, x, clean, noise):
    """(latents, clean estimate) after step i, with `noise` in place of whatever the scheduler draws."""
    t = made.timesteps[i]
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
