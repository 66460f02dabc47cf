"""A workdir with checkpoints whose weights are drawn, as a training run leaves it, without the training."""

import functools

import jax
import jax.numpy as jnp

from mmjax import trees
from mmjax.models import build
from mmjax.trainable import split_trainable
from mmjax.training import state
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.workdir import write_run
from mmjax.weights import start
from tests.helpers import tiny, tiny_run


def saved_run(workdir, config, encoders, steps=(5,)):
    """A run whose weights are drawn, or are those of its base, with a checkpoint of each step."""
    known = trees.flatten(start.load_start(config, abstract(config)))
    trained, frozen = split_trainable(config, abstract(config))
    drawn = lambda tree, seed: jax.tree.map(jax.device_put, tiny.redrawn(tree, seed))  # noqa: E731
    frozen = trees.unflatten({path: known.get(path, leaf) for path, leaf in trees.flatten(drawn(frozen, 0)).items()})
    write_run(workdir, config, encoders)
    checkpoints = Checkpoints(workdir, config, "no records")
    for step in steps:
        average = drawn(trees.in_float32(trained), step + 100) if config.train.ema_decay else None
        count = jnp.asarray(step, jnp.int32)
        made = state.TrainState(count, drawn(trained, step), frozen, {"count": count}, average)
        checkpoints.save(made)
    checkpoints.close()
    return workdir


@functools.cache
def abstract(config):
    return build.abstract_params(config, tiny_run.mesh_of(config))
