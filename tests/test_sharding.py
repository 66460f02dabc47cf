"""Eight fake devices compute what one computes: loss and gradients, on every kind of mesh."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.collectives import collectives, table
from mmjax.errors import ConfigError
from mmjax.nn.attention import attention
from mmjax.precision import Policy
from tests.helpers import tiny

MESHES = {
    "data 8": c.Mesh(data=8),
    "fsdp 8": c.Mesh(data=1, fsdp=8),
    "tensor 2 x fsdp 4": c.Mesh(data=1, fsdp=4, tensor=2),
    "context 4 x data 2": c.Mesh(data=2, context=4),
}


def loss_and_gradients(mesh_config, devices):
    """Of the tiny model with a batch of eight, parameters and batch sharded by the rules."""
    module, params = tiny.make(), tiny.drawn()
    batch, (latents, timesteps) = tiny.batch(size=8), tiny.inputs(size=8)
    latents = latents[:, :, :6, :6]  # 27 video tokens, which no axis divides
    mesh = sharding.make_mesh(mesh_config, devices)
    with sharding.use_mesh(mesh):
        boxed = jax.eval_shape(module.init, jax.random.key(0), batch, latents, timesteps)["params"]
        params = jax.device_put(params, sharding.param_shardings(mesh, boxed))
        data = jax.device_put((batch, latents, timesteps), sharding.batch_sharding(mesh, 8))
        traced = jax.jit(jax.value_and_grad(lambda p, d: tiny.loss(module, p, *d))).lower(params, data)
        compiled = traced.compile()
        return compiled(params, data), params, collectives(compiled)


@pytest.fixture(scope="module")
def alone():
    return jax.device_get(loss_and_gradients(c.Mesh(), jax.devices()[:1])[0])


def worst_leaf(grads, expected):
    """The largest error of any leaf over that leaf's own largest value (at least a thousandth of the tree's)."""
    floor = 1e-3 * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))

    def error(one, other):
        return float(np.abs(one - other).max()) / max(float(np.abs(one).max()), floor)

    return max(jax.tree.leaves(jax.tree.map(error, expected, grads)))


@pytest.mark.parametrize("name", ["context 4 x data 2", "tensor 2 x fsdp 4"])
@pytest.mark.parametrize("tokens,keys", [(37, 37), (37, 4)])
def test_a_fused_kernel_is_mapped_over_the_mesh(name, tokens, keys):
    """Splash, in interpret mode: queries are padded to the context axis, keys are gathered, nothing is lost."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((8, n, 4, 64)).astype(np.float32) for n in (tokens, keys, keys))
    mesh = sharding.make_mesh(MESHES[name], jax.devices())
    with sharding.use_mesh(mesh):
        found = jax.jit(lambda *a: attention(*a, Policy(attention="splash")))(q, k, v)
    np.testing.assert_allclose(np.asarray(found), np.asarray(attention(q, k, v, Policy(attention="xla"))), atol=5e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "tensor 2 x fsdp 4" else pytest.mark.slow) for name in MESHES]
)
def test_eight_devices_equal_one(name, alone):
    found, params, sent = loss_and_gradients(MESHES[name], jax.devices())
    loss, grads = jax.device_get(found)
    worst = worst_leaf(grads, alone[1])
    print(f"{name}: loss off by {abs(float(loss - alone[0])):.1e}, gradients by {worst:.1e} of each leaf's largest")
    assert abs(float(loss - alone[0])) <= 1e-5
    assert worst <= 1e-5
    shares = {leaf.sharding.shard_shape(leaf.shape) == leaf.shape for leaf in jax.tree.leaves(params)}
    assert shares == ({True} if "fsdp" not in name else {True, False})
    within_samples = "tensor" in name or "context" in name  # else each stays where it is
    assert within_samples or not sent["all-to-all"].count + sent["collective-permute"].count, table(sent)
    if "context" in name:  # the sequence is cut off where shares do not end: video at the end, faces in adapted blocks
        assert not sent["all-to-all"].count and sent["collective-permute"].count <= 7, table(sent)


def test_large_kernels_are_spread_over_fsdp_and_tensor():
    mesh = sharding.make_mesh(MESHES["tensor 2 x fsdp 4"], jax.devices())
    boxed = jax.eval_shape(tiny.make().init, jax.random.key(0), tiny.batch(), *tiny.inputs())["params"]
    specs = trees.flatten(jax.tree.map(lambda s: s.spec, sharding.param_shardings(mesh, boxed)))
    assert specs["transformer/blocks/even/attn/query/kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["transformer/blocks/odd/attn/out/kernel"] == PartitionSpec(None, "tensor", "fsdp")
    assert specs["transformer/blocks/even/ffn/in/kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["transformer/blocks/adapter/cross/value/kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["transformer/blocks/adapter/can/out/kernel"] == PartitionSpec(None, None, ("fsdp", "tensor"))


def test_every_parameter_declares_axes_that_the_rules_know():
    boxed = jax.eval_shape(tiny.make().init, jax.random.key(0), tiny.batch(), *tiny.inputs())["params"]
    leaves = jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))
    assert all(isinstance(leaf, nn.LogicallyPartitioned) for leaf in leaves)
    assert {name for leaf in leaves for name in leaf.names} <= set(sharding.RULES)


def test_an_axis_that_is_taken_or_does_not_divide_is_left_out():
    mesh = sharding.make_mesh(MESHES["tensor 2 x fsdp 4"], jax.devices())
    assert sharding.spec(("embed", "face_width"), (8, 8), mesh) == PartitionSpec("fsdp", None)
    assert sharding.spec(("embed", "heads"), (6, 6), mesh) == PartitionSpec(None, "tensor")


@pytest.mark.parametrize("mesh", [c.Mesh(data=3), c.Mesh(fsdp=16), c.Mesh(data=4, tensor=4)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(mesh):
    with pytest.raises(ConfigError, match="product is the 8 devices"):
        sharding.make_mesh(mesh, jax.devices())
