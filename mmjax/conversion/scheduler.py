"""diffusers' `scheduler_config.json` as our records, and back. It has no weights, but must be what we build."""

from typing import Any

from mmjax.config import Sampling, Schedule
from mmjax.errors import ConversionError

_SAMPLERS = {"CogVideoXDDIMScheduler": "ddim", "CogVideoXDPMScheduler": "dpm"}
_SAME = {  # diffusers' setting -> (ours, diffusers' default)
    "num_train_timesteps": ("steps", 1000),
    "beta_start": ("beta_start", 0.00085),
    "beta_end": ("beta_end", 0.012),
    "snr_shift_scale": ("snr_shift", 3.0),
}
_FIXED = {  # diffusers' setting -> (what mmjax builds, diffusers' default)
    "beta_schedule": ("scaled_linear", "scaled_linear"),
    "trained_betas": (None, None),
    "prediction_type": ("v_prediction", "epsilon"),
    "rescale_betas_zero_snr": (True, False),
    "clip_sample": (False, True),
    "set_alpha_to_one": (True, True),
}
_WITHOUT_EFFECT = {"clip_sample_range": 1.0, "sample_max_value": 1.0, "steps_offset": 0}  # beside the fixed ones
_SPACING, _DEFAULT_SPACING = "trailing", "leading"


def read_scheduler(published: dict[str, Any], what: str) -> tuple[Schedule, Sampling, list[str]]:
    """(noise schedule, how its videos are denoised, notes for the user).

    `what` names the file in messages. The spacing of timesteps belongs to sampling and not to the weights: mmjax
    always takes trailing ones, as the authors' own script does, and a file that says otherwise gets a note.

    Raises:
      ConversionError: every setting that mmjax does not build.
    """
    name = published.get("_class_name", "")
    if name not in _SAMPLERS:
        raise ConversionError(f"{what}: expected a {' or a '.join(_SAMPLERS)}, found {name or 'no _class_name'}")
    settings = {key: value for key, value in published.items() if not key.startswith("_")}
    values = {key: default for key, (_, default) in (_SAME | _FIXED).items()} | settings
    wrong = [
        f"{key} = {values[key]!r}: expected {expected!r}"
        for key, (expected, _) in _FIXED.items()
        if values[key] != expected
    ]
    known = {*_SAME, *_FIXED, *_WITHOUT_EFFECT, "timestep_spacing"}
    wrong += [f"{key} = {value!r}: expected it absent" for key, value in settings.items() if key not in known]
    numbers = {ours: values[key] for key, (ours, _) in _SAME.items()}
    strange = [key for key, (ours, _) in _SAME.items() if type(numbers[ours]) not in (int, float)]
    wrong += [f"{key} = {values[key]!r}: expected a number" for key in strange]
    if not strange:
        wrong += [f"{key} = {value}: expected {allowed}" for key, value, allowed in Schedule(**numbers).problems()]
    if wrong:
        raise ConversionError(f"{what}: mmjax does not build this scheduler:\n" + "\n".join(f"  {w}" for w in wrong))
    sampler = _SAMPLERS[name]
    notes = []
    if (spacing := settings.get("timestep_spacing", _DEFAULT_SPACING)) != _SPACING:
        notes.append(
            f"{what} spaces timesteps {spacing!r}; mmjax samples with {_SPACING!r} ones, as CogVideoX's authors do, so "
            "diffusers gives other frames from the same folder unless its scheduler is set to them too"
        )
    return Schedule(**numbers), Sampling(sampler=sampler, dynamic_guidance=sampler == "dpm"), notes


def write_scheduler(schedule: Schedule, sampling: Sampling) -> dict[str, Any]:
    """The inverse of `read_scheduler`: a `scheduler_config.json` that diffusers reads.

    Raises:
      ConversionError: a sampler for which diffusers has no scheduler with CogVideoX's noise schedule.
    """
    names = {sampler: name for name, sampler in _SAMPLERS.items()}
    if sampling.sampler not in names:
        raise ConversionError(
            f"sampling.sampler = {sampling.sampler!r}: expected {' or '.join(names)}; diffusers has no scheduler "
            "for it with CogVideoX's noise schedule"
        )
    settings = {key: getattr(schedule, ours) for key, (ours, _) in _SAME.items()}
    settings |= {key: expected for key, (expected, _) in _FIXED.items()} | _WITHOUT_EFFECT
    settings["timestep_spacing"] = _SPACING
    return {"_class_name": names[sampling.sampler]} | dict(sorted(settings.items()))
