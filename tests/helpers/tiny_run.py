"""An experiment of a few thousand weights on sixteen drawn pictures, for tests of training."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from mmjax import config as c
from mmjax import sharding
from mmjax.records import schema
from mmjax.records.sources import Sources, find_sources
from mmjax.synthetic.builders import BUILDERS
from mmjax.training import optimizer, state
from mmjax.training.tasks.registry import make_task

TRANSFORMER = c.Transformer(
    layers=2,
    heads=2,
    head_dim=16,
    latent_channels=3,
    text_dim=8,
    text_length=20,
    time_dim=8,
    base_frames=1,
    base_height=16,
    base_width=16,
)
ADAPTER = c.Adapter(
    id_dim=24,
    clip_dim=8,
    clip_tokens=5,
    perceiver_width=16,
    perceiver_depth=1,
    perceiver_head_dim=8,
    queries=4,
    can_condition_dim=8,
    can_hidden=8,
)
# Without adapter the step compiles twice as fast; most of what training does can be seen there.
PART_OF_BASE = (r"transformer/(blocks|proj_out|modulation_out|patch_embed)/.*",)


def transformer(**changes) -> c.Transformer:
    """That of the experiment, with some settings changed."""
    return dataclasses.replace(TRANSFORMER, **changes)


def experiment(folder="nowhere", *, adapter=False, compute="float32", **changes) -> c.Experiment:
    """Changes are given by group: `train={"steps": 3}`."""
    groups = {
        "model": c.Model(TRANSFORMER, dataclasses.replace(ADAPTER, enabled=adapter)),
        "data": c.Data(
            dir=str(folder),
            sources=("drawn_images",),
            weights=(1.0,),
            batches=(8,),
            frames=(1,),
            height=16,
            width=16,
            people=4,
            held_out_people=2,
            pictures_per_person=4,
        ),
        "autoencoder": c.Autoencoder("pixel"),
        "optim": c.Optim(learning_rate=1e-2, warmup_steps=2),
        "train": c.Train(
            steps=12,
            log_every=2,
            validate_every=6,
            validation_batches=1,
            sample_every=0,
            checkpoint_every=4,
            base=c.RANDOM,
            trainable=c.Train().trainable if adapter else PART_OF_BASE,
        ),
        "runtime": c.Runtime(remat="none", fsdp_min_size=0),
        "precision": c.Precision(compute=compute),
    }
    for name, change in changes.items():
        groups[name] = dataclasses.replace(groups.get(name) or getattr(c.Experiment(), name), **change)
    return c.Experiment(name="tiny_run", **groups).validated()


def write_config(path: Path, records: Path, more: str = "", **changes) -> Path:
    """A file in the manner of `configs/`, of the tiny experiment with some changes; like those it imports no JAX.

    Args:
      more: lines that stand before `get_config`.
    """
    made = f"config.Experiment.from_config_dict({dataclasses.asdict(experiment(str(records), **changes))!r})"
    path.write_text(f"from mmjax import config\n{more}\n\ndef get_config():\n    return {made}.to_config_dict()\n")
    return path


def sources(config: c.Experiment) -> Sources:
    """Its records, drawn first where they are not there."""
    return find_sources(config, BUILDERS)


def batch(config: c.Experiment, size: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Random features in the shapes and dtypes of records."""
    rng, made = np.random.default_rng(seed), {}
    for name, field in schema.record_fields(config, config.data.frames[0]).items():
        values = rng.standard_normal((size, *field.shape))
        made[name] = (np.abs(values) if name == "face_mask" else values).astype(field.dtype)
    made["class_mask"][:] = False
    made["class_mask"][:, 2:4] = True
    return made


def read_batch(config: c.Experiment, size: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """What a training step reads of `batch`."""
    read = make_task(config).fields(config.data.frames[0])
    return {name: value for name, value in batch(config, size, seed).items() if name in read}


def mesh_of(config: c.Experiment, devices: int = 1) -> jax.sharding.Mesh:
    return sharding.make_mesh(config.mesh, jax.devices()[:devices])


def fresh_state(config: c.Experiment, devices: int = 1):
    """(optimizer, mesh, a state)."""
    tx, mesh = optimizer.make_optimizer(config.optim, config.train.steps), mesh_of(config, devices)
    return tx, mesh, state.create_state(make_task(config), tx, mesh)


def assert_bit_equal(one, other):
    """Same structure, shapes, dtypes and bits."""
    ones, others = jax.tree.leaves_with_path(one), jax.tree.leaves_with_path(other)
    assert [path for path, _ in ones] == [path for path, _ in others]
    for (path, a), (_, b) in zip(ones, others, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)
