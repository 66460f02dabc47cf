"""Faults of the noise schedule, the samplers, guidance and the loss."""

from tests.planted_faults.fault import Fault

SCHEDULE, SAMPLERS = "mmjax/diffusion/schedule.py", "mmjax/diffusion/samplers.py"
GUIDANCE, LOSS = "mmjax/diffusion/guidance.py", "mmjax/diffusion/loss.py"
CONDITIONING = "mmjax/diffusion/conditioning_dropout.py"

_SCHEDULE = ("tests/diffusion/test_schedule.py",)
_LOSS = "tests/diffusion/test_loss.py"
_STEPS = ("tests/diffusion/test_samplers.py::test_each_step_equals_diffusers",)
_GUIDANCE = (
    "tests/diffusion/test_samplers.py::test_guidance_pairs_conditions_and_one_means_a_single_forward",
    "tests/diffusion/test_samplers.py::test_guidance_scales_equal_the_pipeline_formula",
)
_KEYS = (
    "tests/diffusion/test_samplers.py::test_no_noise_is_drawn_twice",
    "tests/diffusion/test_samplers.py::test_a_sample_does_not_depend_on_its_neighbours",
)
_DROPOUT = (
    f"{_LOSS}::test_a_certain_drop_always_happens",
    f"{_LOSS}::test_no_drop_keeps_all",
    f"{_LOSS}::test_dropout_frequencies_and_exclusion",
)
_DRAWS = (f"{_LOSS}::test_draws_are_uniform_and_independent",)
_FIXED = (f"{_LOSS}::test_fixed_draws_cover_the_schedule_and_do_not_depend_on_the_batch",)
_ERROR = (f"{_LOSS}::test_face_region_by_hand", f"{_LOSS}::test_no_gradient_outside_the_face")
_BUCKETS = (f"{_LOSS}::test_bucket_sums_and_counts",)

_SCHEDULES = (
    Fault(
        "betas are linear, not scaled-linear",
        SCHEDULE,
        "np.linspace(settings.beta_start**0.5, settings.beta_end**0.5, settings.steps, dtype=np.float64) ** 2",
        "np.linspace(settings.beta_start, settings.beta_end, settings.steps, dtype=np.float64)",
        _SCHEDULE,
    ),
    Fault(
        "the SNR shift is left out",
        SCHEDULE,
        "    abar = abar / (settings.snr_shift + (1.0 - settings.snr_shift) * abar)\n",
        "",
        _SCHEDULE,
    ),
    Fault(
        "the SNR is shifted the other way",
        SCHEDULE,
        "abar / (settings.snr_shift + (1.0 - settings.snr_shift) * abar)",
        "settings.snr_shift * abar / (1.0 + (settings.snr_shift - 1.0) * abar)",
        _SCHEDULE,
    ),
    Fault(
        "the rescaling to zero terminal SNR comes before the shift",
        SCHEDULE,
        "    abar = np.cumprod(1.0 - betas)\n",
        "    abar = _rescale_to_zero_terminal_snr(np.cumprod(1.0 - betas))\n",
        _SCHEDULE,
    ),
    Fault(
        "no rescaling to zero terminal SNR",
        SCHEDULE,
        "    abar = _rescale_to_zero_terminal_snr(abar)\n",
        "",
        _SCHEDULE,
    ),
    Fault(
        "the rescaling does not restore the first entry",
        SCHEDULE,
        "(root - root[-1]) * (root[0] / (root[0] - root[-1]))",
        "(root - root[-1])",
        _SCHEDULE,
    ),
    Fault(
        "the velocity has the other sign",
        SCHEDULE,
        "return signal * noise - sigma * x0",
        "return sigma * x0 - signal * noise",
        _SCHEDULE,
    ),
    Fault(
        "noisy latents with signal and sigma exchanged",
        SCHEDULE,
        "return signal * x0 + sigma * noise",
        "return sigma * x0 + signal * noise",
        _SCHEDULE,
    ),
    Fault(
        "the clean latents of a velocity add what they should take away",
        SCHEDULE,
        "return signal * x_t - sigma * v",
        "return signal * x_t + sigma * v",
        _SCHEDULE,
    ),
    Fault(
        "timesteps are spaced from the other end (leading)",
        SCHEDULE,
        "np.round(np.arange(train_steps, 0, -train_steps / steps))[:steps] - 1",
        "np.round(np.arange(0, train_steps, train_steps / steps))[:steps][::-1]",
        _SCHEDULE,
    ),
    Fault(
        "timesteps are cut off instead of rounded",
        SCHEDULE,
        "np.round(np.arange(train_steps, 0, -train_steps / steps))",
        "np.floor(np.arange(train_steps, 0, -train_steps / steps))",
        _SCHEDULE,
    ),
    Fault(
        "the extra timestep -1 of some step counts is not cut",
        SCHEDULE,
        "-train_steps / steps))[:steps] - 1",
        "-train_steps / steps)) - 1",
        _SCHEDULE,
    ),
)

_SAMPLERS = (
    Fault(
        "DPM's extrapolation has twice its weight",
        SAMPLERS,
        "2.0 * np.diff(lamb)",
        "np.diff(lamb)",
        _STEPS,
    ),
    Fault(
        "DPM keeps exp(-2h) of the latents",
        SAMPLERS,
        "np.exp(-h)\n",
        "np.exp(-2.0 * h)\n",
        _STEPS,
    ),
    Fault(
        "DPM's fresh noise is not scaled to the level that it goes to",
        SAMPLERS,
        "fresh = np.sqrt(1.0 - there) * np.sqrt(",
        "fresh = np.sqrt(1.0 - here) * np.sqrt(",
        _STEPS,
    ),
    Fault(
        "DDIM's weight of the clean latents forgets what the latents hold of it",
        SAMPLERS,
        "np.sqrt(there) - np.sqrt(here) * keep",
        "np.sqrt(there)",
        _STEPS,
    ),
    Fault(
        "the estimate before is handed on one step late",
        SAMPLERS,
        "(latents=latents, clean=clean), None",
        "(latents=latents, clean=state.clean), None",
        _STEPS,
    ),
    Fault(
        "the clean estimate is made of the velocity with the other sign",
        SAMPLERS,
        "step.signal * state.latents - step.sigma * v",
        "step.signal * state.latents + step.sigma * v",
        _STEPS,
    ),
    Fault(
        "a step beyond the first timestep ends at its noise level and not at none",
        SAMPLERS,
        "schedule.alphas_cumprod[np.maximum(targets, 0)], 1.0)",
        "schedule.alphas_cumprod[np.maximum(targets, 0)], schedule.alphas_cumprod[0])",
        _STEPS,
    ),
    Fault(
        "the first step's noise is the starting noise once more",
        SAMPLERS,
        "_normal(keys, step + 1, shape)",
        "_normal(keys, step, shape)",
        _KEYS,
    ),
    Fault(
        "every step has the same fresh noise",
        SAMPLERS,
        "_normal(keys, step + 1, shape)",
        "_normal(keys, 1, shape)",
        _KEYS,
    ),
    Fault(
        "the seed does not reach a sample's key",
        SAMPLERS,
        "(random_key(seed), jnp.asarray(numbers))",
        "(random_key(0), jnp.asarray(numbers))",
        _KEYS,
    ),
    Fault(
        "samples draw their noise from one key",
        SAMPLERS,
        "jax.random.normal(jax.random.fold_in(key, number), shape))(keys)",
        "jax.random.normal(jax.random.fold_in(keys[0], number), shape))(keys)",
        _KEYS,
    ),
    Fault(
        "guidance pairs the halves the wrong way round",
        GUIDANCE,
        "jnp.concatenate(halves), negative, positive)",
        "jnp.concatenate(halves), positive, negative)",
        _GUIDANCE,
    ),
    Fault(
        "guidance counts from the positive prediction",
        GUIDANCE,
        "return v_negative + scale * (v_positive - v_negative)",
        "return v_positive + scale * (v_positive - v_negative)",
        _GUIDANCE,
    ),
    Fault(
        "the dynamic guidance runs over the step and not over the timestep",
        GUIDANCE,
        "for t in timesteps.tolist()]",
        "for t in range(count, 0, -1)]",
        _GUIDANCE,
    ),
    Fault(
        "the dynamic guidance has the fourth power",
        GUIDANCE,
        "** 5.0)",
        "** 4.0)",
        _GUIDANCE,
    ),
    Fault(
        "without guidance the negative conditions are used",
        GUIDANCE,
        "predict(latents, timesteps, positive)",
        "predict(latents, timesteps, negative)",
        _GUIDANCE,
    ),
)

_LOSSES = (
    Fault(
        "timesteps and noise come from one key",
        LOSS,
        "noise=jax.random.normal(for_noise, shape),\n",
        "noise=jax.random.normal(for_time, shape),\n",
        _DRAWS,
        "`randint` splits its key before it draws, so that the two are independent all the same",
    ),
    Fault(
        "noise and face region come from one key",
        LOSS,
        "noise=jax.random.normal(for_noise, shape),\n",
        "noise=jax.random.normal(for_face, shape),\n",
        _DRAWS,
    ),
    Fault(
        "the face region and the dropout come from one key",
        LOSS,
        "jax.random.bernoulli(for_face,",
        "jax.random.bernoulli(for_drop,",
        _DRAWS,
    ),
    Fault(
        "the last timestep is never drawn",
        LOSS,
        "(batch,), 0, train_steps)",
        "(batch,), 0, train_steps - 1)",
        _DRAWS,
    ),
    Fault(
        "the first timestep is never drawn",
        LOSS,
        "(batch,), 0, train_steps)",
        "(batch,), 1, train_steps)",
        _DRAWS,
    ),
    Fault(
        "text and identity are dropped in each other's place",
        CONDITIONING,
        "    return keep_text, keep_identity\n",
        "    return keep_identity, keep_text\n",
        _DROPOUT,
    ),
    Fault(
        "both are dropped beside one of them, not instead",
        CONDITIONING,
        "both = (identity <= uniform) & (uniform < identity + settings.drop_both)",
        "both = uniform < settings.drop_both",
        _DROPOUT,
    ),
    Fault(
        "a dropped text drops the identity as well",
        CONDITIONING,
        "keep_identity = ((uniform < text) | (identity <= uniform)) & ~both",
        "keep_identity = (identity <= uniform) & ~both",
        _DROPOUT,
    ),
    Fault(
        "the strata of the validation's timesteps begin at their edges",
        LOSS,
        "(2 * numbers + 1) * train_steps",
        "(2 * numbers) * train_steps",
        _FIXED,
    ),
    Fault(
        "validation noise is the same for every sample",
        LOSS,
        "keys = jax.vmap(lambda number: jax.random.fold_in(key, number))",
        "keys = jax.vmap(lambda number: jax.random.fold_in(key, 0))",
        _FIXED,
    ),
    Fault(
        "validation counts the face alone",
        LOSS,
        "face_region=~always",
        "face_region=always",
        _FIXED,
    ),
    Fault(
        "the masked loss is divided by all pixels",
        LOSS,
        "/ jnp.sum(weight, axis=(1, 2, 3))",
        "/ face_mask[0].size",
        _ERROR,
    ),
    Fault(
        "an empty mask is not seen, and gives 0 / 0",
        LOSS,
        "return face_region & jnp.any(face_mask > 0, axis=(1, 2, 3))",
        "return face_region",
        _ERROR,
    ),
    Fault(
        "the face region is taken of those samples that should count whole",
        LOSS,
        "jnp.where(masked[:, None, None, None], face_mask, 1.0)",
        "jnp.where(masked[:, None, None, None], 1.0, face_mask)",
        _ERROR,
    ),
    Fault(
        "the error is summed over channels",
        LOSS,
        "error = jnp.mean(jnp.square(v - target), axis=-1)",
        "error = jnp.sum(jnp.square(v - target), axis=-1)",
        _ERROR,
    ),
    Fault(
        "buckets are one too narrow",
        LOSS,
        "timesteps * buckets // train_steps",
        "timesteps * buckets // (train_steps - 1)",
        _BUCKETS,
    ),
    Fault(
        "the judged frame follows the noise",
        LOSS,
        "frame=jax.random.uniform(jax.random.fold_in(key, _FRAME), (batch,))",
        "frame=jax.random.uniform(for_drop, (batch,))",
        _DRAWS,
    ),
)

DIFFUSION = _SCHEDULES + _SAMPLERS + _LOSSES
