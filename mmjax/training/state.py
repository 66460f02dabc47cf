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

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.errors import ConfigError
from mmjax.models import build
from mmjax.models.build import Params
from mmjax.models.magicmirror.inputs import CONDITION_FIELDS
from mmjax.seeds import random_key
from mmjax.trainable import split_trainable
from mmjax.training import optimizer

# of a record: what a training step reads
BATCH_FIELDS = ("latents", "face_mask", "landmarks", "face_visible", *CONDITION_FIELDS)


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

    Trained leaves have the dtype `precision.trained`, frozen ones `precision.frozen`; `ema` (the moving average of the
    trained leaves, or None) and the moments in `opt_state` are float32.
    """

    step: Int[Array, ""]
    trained: Params
    frozen: Params
    opt_state: optax.OptState
    ema: Params | None

    def params(self, ema: bool = True) -> Params:
        """The model's whole tree, with the averaged leaves where there are any and `ema` asks for them."""
        best = self.ema if ema and self.ema is not None else self.trained
        return trees.merge(best, self.frozen)


def abstract_state(config: c.Experiment, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s with shardings: what `create_state` fills and what a restore needs.

    The optimizer's moments are sharded like the parameters that they belong to. Raises `TreeError` when a pattern of
    `train.trainable` matches no parameter, `ConfigError` when none does.
    """
    trained, frozen = split_trainable(config, build.abstract_params(config, mesh))
    if not trained:
        raise ConfigError(f"train.trainable = {config.train.trainable}: expected patterns that match a parameter")
    everywhere = sharding.replicated(mesh)
    average = trees.in_float32(trained)
    opt_state = optax.tree_map_params(
        tx,
        lambda leaf, like: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=like.sharding),
        jax.eval_shape(tx.init, average),
        average,
        transform_non_params=lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
    )
    return TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere),
        trained=trained,
        frozen=frozen,
        opt_state=opt_state,
        ema=average if config.train.ema_decay else None,
    )


def create_state(
    config: c.Experiment, tx: optax.GradientTransformation, mesh: jax.sharding.Mesh, loaded: Params | None = None
) -> TrainState:
    """A fresh state, every leaf created on the devices that keep it.

    Args:
      loaded: parameters that are known already (`start.load_start`), with the dtypes and shardings of
        `abstract_params`; only the others are drawn, from `config.seed`, and they do not depend on the mesh.
    """
    abstract = abstract_state(config, tx, mesh)
    known = trees.flatten(loaded or {})
    wanted = {
        path: leaf
        for path, leaf in trees.flatten(trees.merge(abstract.trained, abstract.frozen)).items()
        if path not in known
    }

    def draw(key):
        drawn = trees.flatten(sharding.unbox(build.init(config, key)))
        return {path: drawn[path].astype(leaf.dtype) for path, leaf in wanted.items()}

    drawn = _sharded_jit(draw, wanted)(random_keys(config.seed).init)
    trained, frozen = split_trainable(config, trees.unflatten({**drawn, **known}))

    def rest(trained):
        average = jax.tree.map(jnp.copy, optimizer.float32(trained))  # a copy: the step donates both
        ema = average if config.train.ema_decay else None
        return jnp.zeros((), jnp.int32), tx.init(optimizer.float32(trained)), ema

    step, opt_state, ema = _sharded_jit(rest, (abstract.step, abstract.opt_state, abstract.ema))(trained)
    return TrainState(step, trained, frozen, opt_state, ema)


def bytes_per_device(tree) -> int:
    """Bytes that one device holds of a tree of arrays or of `jax.ShapeDtypeStruct`s with shardings."""

    def held(leaf):
        shape = leaf.sharding.shard_shape(leaf.shape)
        size = 1
        for side in shape:
            size *= side
        return size * leaf.dtype.itemsize

    return sum(held(leaf) for leaf in jax.tree.leaves(tree))


def _sharded_jit(function, abstract):
    return jax.jit(function, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))
