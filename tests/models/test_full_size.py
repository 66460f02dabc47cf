"""The published sizes, traced as shapes: nothing is allocated, everything must fit together."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import jax
import pytest

from mmjax import config as c
from mmjax import model_settings, sharding, trees
from mmjax.conversion import arcface, vae
from mmjax.models import build
from mmjax.trainable import split_adapter
from mmjax.training import optimizer, state, step
from mmjax.training.batches import abstract_batches
from mmjax.training.objectives import judges
from mmjax.training.tasks.diffusion import make_objective
from mmjax.training.tasks.registry import make_task
from mmjax.training.tasks.vae import make_objective as make_vae_objective
from tests.helpers import onnx_models, reference
from tests.helpers.configurations import DIFFUSION, VAES, load

SUBTREES = {
    "ID perceiver": r"face_encoder/id_perceiver/.*",
    "face perceiver": r"face_encoder/face_perceiver/.*",
    "fusion": r"face_encoder/fusion/.*",
    "CAN": r"(face_encoder/can_project|transformer/blocks/adapter/can)/.*",
    "face modulation": r"transformer/blocks/adapter/face_modulation/.*",
    "cross-attention": r"transformer/blocks/adapter/cross/.*",
}


ONE_DEVICE = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
JUDGED = (  # where the identity loss is traced too: it asks of the model no more than the shape of what it predicts
    *("stage1_image.py:5b", "stage2_video.py:5b", "ablations.py:full", "ablations.py:without_pretraining"),
    "stage2_video.py:1_5_5b",  # whose latents have a frame more than the video
)
MODELS = [file for file in DIFFUSION if file.startswith("magicmirror_")]  # the stages train them


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
@pytest.mark.parametrize("file", [file for file in DIFFUSION if file not in MODELS])
def test_the_training_step_of_every_configuration_traces_at_full_size(file):
    config = load(file)
    for frames, size in zip(config.data.frames, config.data.batches, strict=True):
        trace(_what_a_step_knows(config, judged=file in JUDGED), frames, size)


@pytest.mark.slow
@pytest.mark.parametrize("file", VAES)
def test_the_training_step_of_every_vae_traces_at_full_size(file):
    """And holds the state's shapes; at most 8 million parameters, which mini is allowed."""
    config, task = load(file), make_task(load(file))
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract, objective = state.abstract_state(task, tx, ONE_DEVICE), make_vae_objective(config)
    print(f"measured: {trees.count(abstract.trained):,} parameters")
    assert trees.count(abstract.trained) <= 8_000_000
    train_step = step.make_train_step(config, objective, tx, jax.random.key(0))
    for batch in abstract_batches(task, ONE_DEVICE):
        after, metrics = jax.eval_shape(train_step, abstract, {}, batch)
        assert metrics["loss"].shape == metrics["sums"]["psnr"].shape == ()
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (abstract, after)]
        assert shapes[0] == shapes[1]


@functools.cache
def trace(config, frames, size):
    """The step as shapes, once for configurations that differ in nothing which it knows of."""
    tx = optimizer.make_optimizer(config.optim, config.train.steps)
    abstract = state.abstract_state(make_task(config), tx, ONE_DEVICE)
    judging = abstract_judges() if config.loss.identity.weight else None
    terms = judges.make_terms(config, judging)
    loss = make_objective(config, build.make_model(config), reference.null_text(config), terms)
    train_step = step.make_train_step(config, loss, tx, jax.random.key(0))
    judged_by = judging.params if judging else {}
    after, metrics = jax.eval_shape(train_step, abstract, judged_by, reference.records(config, frames, size))
    assert metrics["loss"].shape == ()
    assert ("identity" in metrics["sums"]) == bool(judging)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (abstract, after)]
    assert shapes[0] == shapes[1]


@functools.cache
def abstract_judges():
    """The published decoder, and a recogniser of the published kind, as shapes."""
    with tempfile.TemporaryDirectory() as folder:
        graph = arcface.open_onnx(str(onnx_models.mobilefacenet(Path(folder) / "judge.onnx", 8, 512))).config
    record = model_settings.VAE()
    decoder = sharding.unbox(vae.abstract_vae(record))["decoder"]
    return judges.Judges(graph, record, {"recogniser": arcface.abstract_arcface(graph), "decoder": decoder})


def _what_a_step_knows(config, judged):
    """Without the run's name and where it starts from; its sources are told by their shapes."""
    train = dataclasses.replace(config.train, adapter="")
    data = dataclasses.replace(config.data, sources=(), weights=(), batches=(), frames=config.data.frames[:1])
    loss = config.loss if judged else dataclasses.replace(config.loss, identity=c.IdentityLoss())
    return dataclasses.replace(config, name="", train=train, data=data, loss=loss)
