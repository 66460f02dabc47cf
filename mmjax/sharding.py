"""Mesh, logical-axis rules and shardings: the only file that names mesh axes.

Parameters and activations declare logical axes where they are made; the one table below says which mesh axes
each of them is spread over. `data` and `fsdp` share the batch, `fsdp` also shards parameters (and so optimizer
state), `tensor` shards attention heads and the feed-forward width, `context` shards the token axis: every device
keeps its own queries and gathers keys and values.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from mmjax import config as c
from mmjax import trees
from mmjax.errors import ConfigError

AXES = ("data", "fsdp", "tensor", "context")
_HOST = "pinned_host"  # memory of the host that devices reach by themselves

RULES: dict[str, tuple[str, ...]] = {
    # activations
    "batch": ("data", "fsdp"),
    "tokens": ("context",),
    "act_heads": ("tensor",),
    "height": ("data", "fsdp", "tensor", "context"),  # of pictures in the VAE: every device that the batch leaves
    # parameters
    "layers": (),  # the stacked axis of scanned blocks
    "embed": ("fsdp",),  # model width d, and other widths that meet it
    "heads": ("tensor",),  # heads * head_dim
    "mlp": ("tensor",),
    "modulation": ("fsdp", "tensor"),  # the 6d, 3d, 2d outputs of modulation layers
    "condition": (),  # time embedding, CAN's hidden width
    "face_width": ("fsdp",),  # width of the perceivers
    "face_heads": ("tensor",),
    "text": ("fsdp",),  # width of text embeddings
    "vocabulary": (),  # rows of an embedding table
    "patch": (),  # values of a patch
    "small": (),  # anything too small to shard
}


def make_mesh(mesh: c.Mesh, devices: list | None = None) -> jax.sharding.Mesh:
    """The device mesh with axes `AXES`. Raises `ConfigError` when the sizes do not make up the devices."""
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(mesh, axis) for axis in AXES]
    known = int(np.prod([size for size in sizes if size != -1]))
    if -1 in sizes and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if int(np.prod(sizes)) != len(devices) or -1 in sizes:
        asked = ", ".join(f"mesh.{axis} = {getattr(mesh, axis)}" for axis in AXES)
        raise ConfigError(f"{asked}: expected sizes whose product is the {len(devices)} devices found")
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


@contextlib.contextmanager
def use_mesh(mesh: jax.sharding.Mesh) -> Iterator[jax.sharding.Mesh]:
    """Makes `mesh` the one that `constrain` and the attention back-ends see inside jitted functions."""
    with jax.set_mesh(mesh):
        yield mesh


def platform() -> str:
    """cpu, gpu or tpu: of the mesh in use, whose devices need not be here, or of JAX's default where none is."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() if mesh.empty else mesh.abstract_device.platform


def spec(
    names: tuple[str | None, ...], shape: tuple[int, ...], mesh, uneven: bool = False, without: tuple[str, ...] = ()
) -> PartitionSpec:
    """Mesh axes for an array of logical axes `names`.

    A mesh axis that already shards an earlier dimension, or does not divide this one, is left out: the array is
    then replicated along it, which is always correct. With `uneven` shares may differ in size, as the compiler allows
    inside a jitted function: 17,550 video tokens over four devices. Mesh axes in `without` are not used.
    """
    used: set[str] = set(without)
    entries = []
    for name, size in zip(names, shape, strict=True):
        axes, total = [], 1
        for axis in RULES[name] if name else ():
            shares = total * mesh.shape[axis]
            fits = size >= shares if uneven else size % shares == 0
            if axis not in used and mesh.shape[axis] > 1 and fits:
                axes.append(axis)
                total = shares
        used.update(axes)
        entries.append(tuple(axes) if len(axes) > 1 else axes[0] if axes else None)
    return PartitionSpec(*entries)


def constrain(x: Array, *names: str | None) -> Array:
    """`x` with its logical axes' sharding, inside a jitted function under `use_mesh`; elsewhere `x` itself."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:  # `on_own_samples`: what is here is one device's
        return x
    return jax.lax.with_sharding_constraint(x, spec(names, x.shape, mesh, uneven=True))


def whole_samples(x: Array) -> Array:
    """`x` with its leading axis, the batch, spread over the devices, each sample whole where it is; see `constrain`.

    Where nothing is said, the compiler spreads activations like the parameters that they meet and moves them about.
    """
    return constrain(x, "batch", *(None,) * (x.ndim - 1))


def unbox(params):
    """Parameters without the logical-axis boxes that `init` puts round them."""
    return nn.meta.unbox(params)


def param_shardings(mesh: jax.sharding.Mesh, boxed, fsdp_min_size: int = 0):
    """NamedShardings for a tree of boxed parameters or `jax.ShapeDtypeStruct`s, as `jax.eval_shape(init)` gives.

    A parameter of fewer than `fsdp_min_size` numbers (norm scales, biases) is not spread over `fsdp`: to gather it
    before each use costs more than it takes.
    """

    def sharding(leaf):
        if not isinstance(leaf, nn.LogicallyPartitioned):
            return NamedSharding(mesh, PartitionSpec())
        small = int(np.prod(leaf.value.shape)) < fsdp_min_size
        return NamedSharding(mesh, spec(leaf.names, leaf.value.shape, mesh, without=("fsdp",) if small else ()))

    return jax.tree.map(sharding, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))


def on_host(abstract):
    """The tree of `jax.ShapeDtypeStruct`s with shardings, all of them in pinned host memory (see `fetch`)."""

    def moved(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding.with_memory_kind(_HOST))

    return jax.tree.map(moved, abstract)


def in_host_memory(shardings, patterns: tuple[str, ...]):
    """The tree of shardings, with the leaves whose whole path matches a pattern in pinned host memory (see `fetch`)."""
    leaves = trees.flatten(shardings).items()
    return trees.unflatten({p: s.with_memory_kind(_HOST) if trees.matches(patterns, p) else s for p, s in leaves})


def fetch(tree):
    """The tree with what waits in host memory brought to the device, inside a jitted function."""

    def fetched(x):
        on_host = jax.typeof(x).memory_space == jax.memory.Space.Host
        return jax.device_put(x, jax.memory.Space.Device) if on_host else x

    return jax.tree.map(fetched, tree)


def is_on_host(sharding: jax.sharding.Sharding) -> bool:
    """Whether arrays of this sharding are in host memory, where a device has memory of its own."""
    return sharding.memory_kind == _HOST


def on_device(tree):
    """The tree of arrays with what waits in host memory copied to the devices; the others are not copied."""

    def moved(x):
        return jax.device_put(x, x.sharding.with_memory_kind("device")) if is_on_host(x.sharding) else x

    return jax.tree.map(moved, tree)


def batch_sharding(mesh: jax.sharding.Mesh, batch_size: int) -> NamedSharding:
    """Sharding of arrays whose leading axis is a batch of `batch_size`, replicated over their other axes."""
    return NamedSharding(mesh, spec(("batch",), (batch_size,), mesh))


def own_rows(mesh: jax.sharding.Mesh, batch_size: int) -> tuple[int, ...]:
    """The rows of a batch that this process's devices work on, in order.

    They follow from the devices' shares of the batch, not from the number of processes: processes whose devices work on
    the same samples, along `tensor` and `context`, have the same rows.
    """
    held = batch_sharding(mesh, batch_size).addressable_devices_indices_map((batch_size,))
    return tuple(sorted({row for (share,) in held.values() for row in range(*share.indices(batch_size))}))


def batch_shares(mesh: jax.sharding.Mesh) -> int:
    """In how many parts the devices share a batch; those along `tensor` and `context` work on the same samples."""
    return int(np.prod([mesh.shape[axis] for axis in RULES["batch"]]))


def put(x, place: NamedSharding):
    """`x` with a sharding that may span processes, where `jax.device_put` takes no keys nor a process's own arrays.

    Args:
      x: an array of the whole mesh, or one on the host or on this process's devices, the same in every process.
    """
    if place.is_fully_addressable or not isinstance(x, jax.Array):
        return jax.device_put(x, place)
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(put(jax.random.key_data(x), place), impl=jax.random.key_impl(x))
    return jax.device_put(np.asarray(x) if x.is_fully_addressable else x, place)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def on_own_samples(function: Callable, whole, samples):
    """`function(whole, samples)` on each device for its own samples, inside a jitted function; control flow is its own.

    Under the compiler's partitioning a branch that samples decide is taken by all of them or computed both ways; here
    each device decides. Devices along `tensor` and `context` compute the same.

    Args:
      whole: arrays that every device holds, such as weights.
      samples: arrays whose leading axis is the batch; what the function returns has that axis too.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(whole, samples)
    batch = spec(("batch",), jax.tree.leaves(samples)[0].shape[:1], mesh)
    split = jax.shard_map(function, in_specs=(PartitionSpec(), batch), out_specs=batch, check_vma=False)
    return split(whole, samples)


def per_shard_attention(
    kernel: Callable, q: Float[Array, "b n h k"], k: Float[Array, "b m h k"], v: Float[Array, "b m h k"]
) -> Float[Array, "b n h k"]:
    """Runs an attention kernel on each device's share: batch, heads and query tokens are split, keys are gathered.

    A kernel written for one device (cuDNN, Pallas) is not split by the compiler, so it is mapped over the mesh by
    hand. Query tokens are padded to a multiple of the `context` axis; the padding is cut off again.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return kernel(q, k, v)
    tokens = q.shape[1]
    padding = -tokens % mesh.shape["context"]
    q = jax.numpy.pad(q, ((0, 0), (0, padding), (0, 0), (0, 0)))
    q_spec = spec(("batch", "tokens", "act_heads", None), q.shape, mesh)
    kv_spec = spec(("batch", None, "act_heads", None), k.shape, mesh)
    split = jax.shard_map(kernel, in_specs=(q_spec, kv_spec, kv_spec), out_specs=q_spec, check_vma=False)
    return split(q, k, v)[:, :tokens]
