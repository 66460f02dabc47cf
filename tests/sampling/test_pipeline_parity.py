"""The whole guided denoising loop against `CogVideoXPipeline`: our model with the pipeline's weights, same noise.

The transformer is tiny and random; embeddings, starting latents and, for the DPM sampler, the noise of every step are
the pipeline's own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers import CogVideoXPipeline  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax.diffusion import guidance  # noqa: E402
from mmjax.models.magicmirror.face_branch import Conditions  # noqa: E402
from mmjax.models.magicmirror.model import MagicMirror  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from tests.helpers import reference, scheduler_reference  # noqa: E402

BATCH, STEPS = 2, 50


def inputs(config, frames):
    """Starting latents [B, T, H, W, C], negative and positive embeddings [B, L, D]."""
    rng = np.random.default_rng(5)
    latents = rng.standard_normal((BATCH, frames, 8, 12, config.latent_channels), np.float32)
    return latents, *rng.standard_normal((2, BATCH, config.text_length, config.text_dim), np.float32)


def run_pipeline(transformer, settings, shift, latents, negative, positive):
    """(final latents [B, T, H, W, C], the noise used in each step) of diffusers' pipeline."""
    made = scheduler_reference.scheduler(settings.sampler, shift)
    pipeline = CogVideoXPipeline(None, None, None, transformer, made)
    pipeline.set_progress_bar_config(disable=True)
    used = []

    def after_step(pipeline, i, t, tensors):
        used.extend(drawn[-1:])
        return {}

    with scheduler_reference.recorded_draws() as drawn:
        final = pipeline(
            height=latents.shape[2] * 8,
            width=latents.shape[3] * 8,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            use_dynamic_cfg=settings.dynamic_guidance,
            generator=torch.Generator().manual_seed(9),
            latents=torch.from_numpy(np.ascontiguousarray(np.moveaxis(latents, -1, 2))),
            prompt_embeds=torch.from_numpy(positive),
            negative_prompt_embeds=torch.from_numpy(negative),
            output_type="latent",
            callback_on_step_end=after_step,
        ).frames
    return np.moveaxis(final.numpy(), 2, -1), [np.moveaxis(noise.numpy(), 2, -1) for noise in used]


def run_ours(config, params, settings, shift, latents, negative, positive, used):
    model = MagicMirror(c.Model(config, c.Adapter(enabled=False)), Policy())
    recorded = jnp.stack(used) if used else None

    @jax.jit
    def run(params, latents, negative, positive):
        def predict(latents, timesteps, conditions):
            return model.apply({"params": params}, latents, timesteps, conditions, method="denoise")

        denoise = guidance.guided(predict, Conditions(negative), Conditions(positive), settings)
        schedule = scheduler_reference.comparable_schedule(settings.sampler, shift)
        return scheduler_reference.sample(
            denoise, schedule, latents, settings=settings, step_noise=lambda step: recorded[step]
        )

    return np.asarray(run({"transformer": params}, latents, negative, positive))


@pytest.mark.parametrize(
    ("variant", "sampler", "frames", "scale", "dynamic"),
    [
        ("2b", "ddim", 3, 6.0, False),
        ("5b", "dpm", 3, 6.0, True),
        ("1.5-5b", "dpm", 4, 6.0, True),
        ("2b", "dpm", 1, 1.0, False),
        ("5b", "dpmpp_2m", 3, 6.0, True),
    ],
)
def test_the_guided_loop_equals_the_pipeline(variant, sampler, frames, scale, dynamic, record_property):
    transformer = reference.torch_transformer(variant)
    config, params = reference.ours(transformer)
    settings = c.Sampling(sampler=sampler, steps=STEPS, guidance=scale, dynamic_guidance=dynamic)
    shift = scheduler_reference.SHIFTS["2b" if variant == "2b" else "5b"]
    given = inputs(config, frames)
    expected, used = run_pipeline(transformer, settings, shift, *given)
    assert len(used) == (STEPS if sampler == "dpm" else 0)
    found = run_ours(config, params, settings, shift, *given, used)
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    record_property("difference", difference)
    print(f"{variant}, {sampler}, guidance {scale}, dynamic {dynamic}, {STEPS} steps: {difference:.1e}")
    assert np.abs(expected).max() > 0.1 and found.dtype == np.float32
    assert difference < 1e-5  # measured 3.6e-6; the acceptance is 1e-4
