"""The published sizes, traced as shapes: nothing is allocated, everything must fit together."""

import jax
import pytest

import reference
from mmjax import config as c
from mmjax import partition, trees
from mmjax.training import optim, state
from test_config import CONFIGS, load

SUBTREES = {
    "ID perceiver": r"face_encoder/id_perceiver/.*",
    "face perceiver": r"face_encoder/face_perceiver/.*",
    "fusion": r"face_encoder/fusion/.*",
    "CAN": r"(face_encoder/can_project|transformer/blocks/adapter/can)/.*",
    "face modulation": r"transformer/blocks/adapter/face_modulation/.*",
    "cross-attention": r"transformer/blocks/adapter/cross/.*",
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_traces_at_full_size(path):
    config = load(path)
    mesh = partition.make_mesh(c.Mesh(), jax.devices()[:1])
    tx = optim.make_optimizer(config.optim, config.train.steps)
    abstract = state.abstract_state(config, tx, mesh)
    params = trees.merge(abstract.trained, abstract.frozen)
    model = state.make_model(config)
    for frames in config.data.frames:
        shape = config.autoencoder.latent_shape(frames, config.data.height, config.data.width)
        shape = (2, shape[0] + -shape[0] % config.model.transformer.patch_t, *shape[1:])
        batch = reference.features(config, 2)
        latents = jax.ShapeDtypeStruct(shape, "float32")
        v = jax.eval_shape(model.apply, {"params": params}, batch, latents, jax.ShapeDtypeStruct((2,), "int32"))
        assert v.shape == shape and v.dtype == "float32"
    adapter, base = trees.split(params, trees.ADAPTER_PATTERNS)
    counts = {name: trees.count(trees.split(adapter, (pattern,))[0]) for name, pattern in SUBTREES.items()}
    print(f"\n{config.name}: base {trees.count(base):,}, adapter {trees.count(adapter):,}")
    print("\n".join(f"  {name:16}{count:>16,}" for name, count in counts.items()))
    assert sum(counts.values()) == trees.count(adapter)
    assert trees.count(base) == trees.count(reference.abstract_transformer(config.model.transformer))
