"""Blocks whose weights stay in host memory compute what blocks on the device compute."""

import dataclasses

import jax
import numpy as np
import pytest

from mmjax import config as c
from mmjax import sharding, trees
from tests.helpers import tiny

STREAMED = dataclasses.replace(tiny.RUNTIME, stream=True)


@pytest.mark.slow
def test_streamed_blocks_equal_blocks_on_the_device():
    params, mesh = tiny.drawn(), sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    arguments = tiny.batch(), *tiny.inputs()
    expected = jax.jit(tiny.make().apply)({"params": params}, *arguments)
    shardings = jax.tree.map(lambda leaf: sharding.replicated(mesh), params)
    shardings = sharding.in_host_memory(shardings, (r"transformer/blocks/.*",))
    streamed = jax.device_put(params, shardings)
    kinds = {path: leaf.sharding.memory_kind for path, leaf in trees.flatten(streamed).items()}
    assert kinds["transformer/blocks/even/attn/query/kernel"] == "pinned_host"
    assert kinds["transformer/patch_embed/kernel"] != "pinned_host"
    with sharding.use_mesh(mesh):
        found = jax.jit(tiny.make(runtime=STREAMED).apply)({"params": streamed}, *arguments)
    assert float(np.abs(expected).max()) > 0.1
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_a_streamed_model_has_the_same_parameters():
    shapes = jax.eval_shape(tiny.make(runtime=STREAMED).init, jax.random.key(0), tiny.batch(), *tiny.inputs())["params"]
    plain = jax.eval_shape(tiny.make().init, jax.random.key(0), tiny.batch(), *tiny.inputs())["params"]
    assert jax.tree.structure(shapes) == jax.tree.structure(plain)
