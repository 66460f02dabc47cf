"""How devices share videos: which mesh is chosen, and that none of them does another's work."""

import jax
import numpy as np
import pytest

from mmjax import config as c
from mmjax import sharding
from mmjax.errors import ConfigError
from mmjax.models import build
from mmjax.sampling import devices
from mmjax.sampling.denoiser import Denoiser
from tests.helpers import tiny_run

CASES = [  # devices, guidance, videos -> data, context, at once
    (1, 6.0, 9, 1, 1, 1),
    (2, 6.0, 1, 2, 1, 1),
    (2, 1.0, 1, 1, 2, 1),
    (3, 6.0, 1, 1, 3, 1),
    (3, 6.0, 3, 3, 1, 3),
    (4, 6.0, 1, 2, 2, 1),
    (8, 6.0, 1, 2, 4, 1),
    (8, 6.0, 2, 4, 2, 2),
    (8, 6.0, 3, 2, 4, 1),  # two and then one would leave half of the devices to do the other half's work
    (8, 6.0, 4, 8, 1, 4),
    (8, 1.0, 8, 8, 1, 8),
    (8, 6.0, 100, 8, 1, 4),
]


@pytest.mark.parametrize("count, guidance, videos, data, context, at_once", CASES)
def test_videos_and_pairs_go_first_and_tokens_take_what_is_left(count, guidance, videos, data, context, at_once):
    assert devices.spread(count, guidance, videos) == c.Mesh(data=data, context=context)
    assert devices.at_once(data, guidance) == at_once


def test_a_mesh_by_name():
    assert devices.mesh_of_flag("data=2, context=4") == c.Mesh(data=2, context=4)
    for wrong in ("", "data", "data=0", "data=-1", "rows=2", "data=2;context=2", "data=2,"):
        with pytest.raises(ConfigError, match="expected AXIS=DEVICES"):
            devices.mesh_of_flag(wrong)


def test_the_mesh_is_said():
    mesh = sharding.make_mesh(c.Mesh(data=2, context=4))
    assert devices.described(mesh, 1) == "8 devices (data 2 x context 4), 1 video at a time"


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_each_device_does_its_part_and_the_video_is_that_of_one(count):
    """Of one video's guided step: a device's share of the operations, by the compiler; and its latents."""
    config = tiny_run.experiment(adapter=True)
    batch, size = tiny_run.batch(config, 1), (1, 16, 16)
    found, operations = [], []
    for number in (1, count):
        mesh = sharding.make_mesh(devices.spread(number, config.sampling.guidance), jax.devices()[:number])
        denoiser = Denoiser(config, mesh)
        params = sharding.unbox(jax.jit(lambda key: build.init(config, key))(jax.random.key(0)))
        params = jax.device_put(params, sharding.replicated(mesh))
        found.append(denoiser(params, batch, batch["text"][0], [0], size))
        operations.append(denoiser.program(params, size, 1).cost_analysis()["flops"])
    print(f"{count} devices: {operations[1] / operations[0]:.3f} of the operations on each")
    print(f"largest difference: {np.abs(found[1] - found[0]).max():.1e} of {np.abs(found[0]).max():.1f}")
    assert operations[1] < 1.1 * operations[0] / count
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
