"""What the denoising loop is given and what it gives back; its arithmetic is tested against diffusers elsewhere."""

import jax
import numpy as np
import pytest

from mmjax import sharding
from mmjax.models import build
from mmjax.sampling.denoiser import Denoiser
from tests.helpers import tiny_run


@pytest.fixture(scope="module")
def denoiser():
    """Of a model whose temporal patches are two frames long."""
    config = tiny_run.experiment(adapter=True, model={"transformer": tiny_run.transformer(patch_t=2)})
    return Denoiser(config, tiny_run.mesh_of(config))


def test_a_sample_without_identity_stays_without(denoiser):
    batch = tiny_run.batch(denoiser.config, 2) | {"keep_identity": np.array([True, False])}
    positive, nothing = denoiser._conditions(batch, batch["text"][0])
    np.testing.assert_array_equal(positive["keep_identity"], [True, False])
    assert not nothing["keep_identity"].any()
    positive, _ = denoiser._conditions(tiny_run.batch(denoiser.config, 2), batch["text"][0])
    assert positive["keep_identity"].all()


@pytest.mark.slow
def test_the_frame_that_fills_a_patch_is_the_first_and_is_cut_off(denoiser, monkeypatch):
    """Three latent frames are denoised as four; steps that do nothing give the last three back."""
    monkeypatch.setattr(denoiser, "_compiled", lambda *_: lambda params, step, state, *rest: state)
    batch = tiny_run.batch(denoiser.config, 1)
    params = jax.jit(lambda key: build.init(denoiser.config, key))(jax.random.key(0))
    noise = np.random.default_rng(0).standard_normal((1, 4, 16, 16, 3)).astype(np.float32)
    found = denoiser(sharding.unbox(params), batch, batch["text"][0], [0], (3, 16, 16), noise=noise)
    np.testing.assert_array_equal(found, noise[:, 1:])
