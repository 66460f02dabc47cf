"""From Grain's batches on the host to arrays over the mesh."""

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np

from mmjax import sharding
from mmjax.records import pipeline
from mmjax.records.sources import RecordFolders
from mmjax.training.tasks.task import Task
from mmjax.training_settings import TrainingExperiment

if TYPE_CHECKING:
    import grain


@contextlib.contextmanager
def training_batches(config: TrainingExperiment, sources: RecordFolders) -> "Iterator[grain.DatasetIterator]":
    """This process's share of endless training batches; ends its worker processes when it is left."""
    iterator = pipeline.make_train_iterator(config, sources, jax.process_index(), jax.process_count())
    try:
        yield iterator
    finally:
        if config.data.workers:
            iterator.close()


def abstract_batches(task: Task, mesh: jax.sharding.Mesh) -> list[dict[str, jax.ShapeDtypeStruct]]:
    """What `put_batch` gives for each source, as shapes with shardings: known before any record is read."""

    def described(frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        place = sharding.batch_sharding(mesh, size)
        return {
            name: jax.ShapeDtypeStruct((size, *field.shape), field.dtype, sharding=place)
            for name, field in task.fields(frames).items()
        }

    data = task.config.data
    return [described(*source) for source in zip(data.frames, data.batches, strict=True)]


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh, fields: Collection[str]) -> dict[str, jax.Array]:
    """This process's share of a batch as arrays over the whole mesh; all but the named fields stays behind."""
    return {name: put_samples(value, mesh) for name, value in batch.items() if name in fields}


def put_samples(local: np.ndarray, mesh: jax.sharding.Mesh) -> jax.Array:
    """This process's samples, the leading axis, as part of an array over the whole mesh."""
    shape = (len(local) * jax.process_count(), *local.shape[1:])
    return jax.make_array_from_process_local_data(sharding.batch_sharding(mesh, shape[0]), local, shape)
