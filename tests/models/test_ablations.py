"""Every combination of the adapter's switches that is allowed can be trained (table 3)."""

import dataclasses
import itertools

import jax
import pytest

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.errors import ConfigError
from mmjax.trainable import is_adapter
from mmjax.training import optimizer, state
from mmjax.training.tasks.registry import make_task
from tests.helpers import tiny_run

SWITCHES = ("identity_branch", "structural_branch", "face_modulation", "can")
COMBINATIONS = [
    dict(zip(SWITCHES, values, strict=True))
    for values in itertools.product((True, False), repeat=len(SWITCHES))
    if not list(c.Adapter(**dict(zip(SWITCHES, values, strict=True))).problems())
]


def abstract(**adapter):
    """The training state of the tiny model with these settings of its adapter and the default `train.trainable`."""
    config = tiny_run.experiment(adapter=True, train={"trainable": c.Train().trainable})
    changed = dataclasses.replace(config.model.adapter, **adapter)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, adapter=changed))
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    return state.abstract_state(make_task(config), optimizer.make_optimizer(config.optim, 2), mesh)


@pytest.mark.parametrize("switches", COMBINATIONS, ids=lambda s: "+".join(name for name in s if s[name]))
def test_every_allowed_combination_has_something_to_train(switches):
    made = abstract(**switches)
    assert trees.count(made.trained) > 0
    assert not any(is_adapter(path) for path in trees.flatten(made.frozen))


def test_the_identity_branch_alone_trains_no_block():
    made = abstract(identity_branch=True, structural_branch=False, face_modulation=False, can=False)
    assert all(path.startswith("face_encoder/") for path in trees.flatten(made.trained))


def test_without_an_adapter_the_default_patterns_have_nothing_to_train():
    with pytest.raises(ConfigError, match="expected patterns that match a parameter"):
        abstract(enabled=False)
