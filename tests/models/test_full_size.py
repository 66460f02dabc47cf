"""The published sizes, traced as shapes: nothing is allocated, everything must fit together."""

import dataclasses
import functools

import jax
import pytest

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.models import build
from mmjax.trainable import split_adapter
from mmjax.training import optimizer, state, step
from tests.helpers import reference
from tests.helpers.configurations import CONFIGS, load

SUBTREES = {
    "ID perceiver": r"face_encoder/id_perceiver/.*",
    "face perceiver": r"face_encoder/face_perceiver/.*",
    "fusion": r"face_encoder/fusion/.*",
    "CAN": r"(face_encoder/can_project|transformer/blocks/adapter/can)/.*",
    "face modulation": r"transformer/blocks/adapter/face_modulation/.*",
    "cross-attention": r"transformer/blocks/adapter/cross/.*",
}


ONE_DEVICE = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
MODELS = [file for file in CONFIGS if file.startswith("magicmirror_")]  # the stages train them


@pytest.mark.parametrize("file", MODELS)
def test_every_part_of_a_published_model_is_counted(file):
    config = load(file)
    adapter, base = split_adapter(build.abstract_params(config, ONE_DEVICE))
    counts = {name: trees.count(trees.split(adapter, (pattern,))[0]) for name, pattern in SUBTREES.items()}
    print(f"\n{config.name}: base {trees.count(base):,}, adapter {trees.count(adapter):,}")
    print("\n".join(f"  {name:16}{count:>16,}" for name, count in counts.items()))
    assert sum(counts.values()) == trees.count(adapter)
    assert trees.count(base) == trees.count(reference.abstract_transformer(config.model.transformer))


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in CONFIGS if file not in MODELS])
def test_the_training_step_of_every_configuration_traces_at_full_size(file):
    config = load(file)
    for frames, size in zip(config.data.frames, config.data.batches, strict=True):
        trace(_what_a_step_knows(config), frames, size)


@functools.cache
def trace(config, frames, size):
    """The step as shapes, once for configurations that differ in nothing which it knows of."""
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract = state.abstract_state(config, tx, ONE_DEVICE)
    loss = step.make_loss(config, build.make_model(config), reference.null_text(config))
    train_step = step.make_train_step(config, loss, tx, jax.random.key(0))
    after, metrics = jax.eval_shape(train_step, abstract, reference.records(config, frames, size))
    assert metrics["loss"].shape == ()
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (abstract, after)]
    assert shapes[0] == shapes[1]


def _what_a_step_knows(config):
    """Without the run's name and where it starts from; its sources are told by their shapes."""
    train = dataclasses.replace(config.train, adapter="")
    data = dataclasses.replace(config.data, sources=(), weights=(), batches=(), frames=config.data.frames[:1])
    return dataclasses.replace(config, name="", train=train, data=data)
