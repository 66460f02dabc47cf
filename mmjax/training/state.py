"""The training state, shapes before arrays: `eval_shape` -> shardings -> `jit(init, out_shardings=...)`.

Nothing large is ever made unsharded, and nothing random is made where weights are loaded instead. Trained and frozen
parameters are two trees, split by `mmjax.trainable`: gradient, optimizer and average only ever see the trained one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, Key

from mmjax import sharding, trees
from mmjax.errors import ConfigError
from mmjax.models.build import Params
from mmjax.seeds import random_key
from mmjax.trainable import split_trainable
from mmjax.training import optimizer
from mmjax.training.tasks.task import Task
from mmjax.training_settings import Runtime


class RandomKeys(NamedTuple):
    """The independent random keys of an experiment, all from its one seed."""

    init: Key[Array, ""]
    train: Key[Array, ""]
    validation: Key[Array, ""]


def random_keys(seed: int) -> RandomKeys:
    """Keys for initialization, for training (folded with the step) and for validation (folded with the batch)."""
    return RandomKeys(*jax.random.split(random_key(seed), len(RandomKeys._fields)))


class TrainState(struct.PyTreeNode):
    """Everything that a step changes, and the frozen parameters that it reads.

    Trained leaves have the dtype `precision.trained`, frozen ones `precision.frozen`, `ema` (the moving average of the
    trained leaves, or None) is float32, and the moments in `opt_state` have `optim.moments`. What `runtime.offload` and
    `runtime.stream` name is in host memory between steps, and the step brings it to the device.
    """

    step: Int[Array, ""]
    trained: Params
    frozen: Params
    opt_state: optax.OptState
    ema: Params | None

    def params(self, ema: bool = True) -> Params:
        """The model's whole tree, with the averaged leaves where there are any and `ema` asks for them."""
        return trees.merge(self.averaged() if ema else self.trained, self.frozen)

    def averaged(self) -> Params:
        """The trained leaves, averaged where there is an average; copied to the device if that is on the host."""
        return self.trained if self.ema is None else sharding.on_device(self.ema)


def abstract_state(task: Task, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s with shardings: what `create_state` fills and what a restore needs.

    The optimizer's moments are sharded like the parameters that they belong to. Raises `TreeError` when a pattern of
    `train.trainable` matches no parameter, `ConfigError` when none does.
    """
    config = task.config
    trained, frozen = split_trainable(config, task.abstract_params(mesh))
    if not trained:
        raise ConfigError(f"train.trainable = {config.train.trainable}: expected patterns that match a parameter")
    everywhere = sharding.replicated(mesh)
    average, place = trees.in_float32(trained), lambda name, tree: _placed(config.runtime, name, tree)

    def moment(leaf, like):
        return place("moments", jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=like.sharding))

    opt_state = optax.tree_map_params(
        tx,
        moment,
        jax.eval_shape(tx.init, average),
        average,
        transform_non_params=lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
    )
    return TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere),
        trained=trained,
        frozen=frozen,
        opt_state=opt_state,
        ema=place("ema", average) if config.train.ema_decay else None,
    )


def create_state(
    task: Task, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh, loaded: Params | None = None
) -> TrainState:
    """A fresh state, every leaf created on the devices that keep it.

    Args:
      loaded: parameters that are known already (`Task.load_start`), with the dtypes and shardings of
        `abstract_params`; only the others are drawn, from `config.seed`, and they do not depend on the mesh.
    """
    config, abstract = task.config, abstract_state(task, tx, mesh)
    known = trees.flatten(loaded or {})
    wanted = {
        path: leaf
        for path, leaf in trees.flatten(trees.merge(abstract.trained, abstract.frozen)).items()
        if path not in known
    }

    def draw(key):
        drawn = trees.flatten(sharding.unbox(task.init(key)))
        return {path: drawn[path].astype(leaf.dtype) for path, leaf in wanted.items()}

    drawn = _sharded_jit(draw, wanted)(random_keys(config.seed).init)
    trained, frozen = split_trainable(config, trees.unflatten({**drawn, **known}))

    def rest(trained):
        average = jax.tree.map(jnp.copy, optimizer.float32(trained))  # a copy: the step donates both
        ema = average if config.train.ema_decay else None
        return jnp.zeros((), jnp.int32), tx.init(optimizer.float32(trained)), ema

    step, opt_state, ema = _sharded_jit(rest, (abstract.step, abstract.opt_state, abstract.ema))(trained)
    return TrainState(step, trained, frozen, opt_state, ema)


def bytes_per_device(tree, on_host: bool = False) -> int:
    """Bytes that one device holds of a tree of arrays or of `jax.ShapeDtypeStruct`s with shardings.

    With `on_host` those that the host holds for it (`runtime.offload`, `runtime.stream`).
    """

    def held(leaf):
        if sharding.is_on_host(leaf.sharding) != on_host:
            return 0
        shape = leaf.sharding.shard_shape(leaf.shape)
        size = 1
        for side in shape:
            size *= side
        return size * leaf.dtype.itemsize

    return sum(held(leaf) for leaf in jax.tree.leaves(tree))


def _placed(runtime: Runtime, name: str, abstract):
    """Part of the state, in host memory if `runtime.offload` names it."""
    return sharding.on_host(abstract) if name in runtime.offload else abstract


def _sharded_jit(function, abstract):
    return jax.jit(function, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))
