"""The published sizes, traced as shapes: nothing is allocated, everything must fit together."""

import jax
import pytest

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.models import build
from mmjax.trainable import split_adapter
from mmjax.training import optimizer, state, step
from tests.helpers import reference
from tests.test_config import CONFIGS, load

SUBTREES = {
    "ID perceiver": r"face_encoder/id_perceiver/.*",
    "face perceiver": r"face_encoder/face_perceiver/.*",
    "fusion": r"face_encoder/fusion/.*",
    "CAN": r"(face_encoder/can_project|transformer/blocks/adapter/can)/.*",
    "face modulation": r"transformer/blocks/adapter/face_modulation/.*",
    "cross-attention": r"transformer/blocks/adapter/cross/.*",
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem == "magicmirror_5b" else pytest.mark.slow)
        for path in CONFIGS
    ],
)
def test_every_configuration_traces_at_full_size(path):
    config = load(path)
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract = state.abstract_state(config, tx, mesh)
    params = trees.merge(abstract.trained, abstract.frozen)
    loss = step.make_loss(config, build.make_model(config), reference.null_text(config))
    train_step = step.make_train_step(config, loss, tx, jax.random.key(0))
    for frames, size in zip(config.data.frames, config.data.batches, strict=True):
        after, metrics = jax.eval_shape(train_step, abstract, {}, reference.records(config, frames, size))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), abstract
        )
        assert metrics["loss"].shape == ()
    adapter, base = split_adapter(params)
    counts = {name: trees.count(trees.split(adapter, (pattern,))[0]) for name, pattern in SUBTREES.items()}
    print(f"\n{config.name}: base {trees.count(base):,}, adapter {trees.count(adapter):,}")
    print("\n".join(f"  {name:16}{count:>16,}" for name, count in counts.items()))
    assert sum(counts.values()) == trees.count(adapter)
    assert trees.count(base) == trees.count(reference.abstract_transformer(config.model.transformer))
