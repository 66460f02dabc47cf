"""From Grain's batches on the host to arrays over the mesh."""

import contextlib
from collections.abc import Iterator
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
def training_batches(
    task: Task, sources: RecordFolders, mesh: jax.sharding.Mesh, done: int
) -> "Iterator[grain.DatasetIterator]":
    """This process's rows of endless training batches after the `done` steps, of each record what a step reads.

    Ends its workers when it is left.
    """
    data = task.config.data
    rows = [sharding.own_rows(mesh, size) for size in data.batches]
    read = dict.fromkeys(name for frames in data.frames for name in task.fields(frames))
    iterator = pipeline.make_train_iterator(task.config, sources, rows, done, tuple(read))
    try:
        yield iterator
    finally:
        if data.workers:
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


def batch_size(config: TrainingExperiment, batch: dict[str, np.ndarray]) -> int:
    """Samples of the whole training batch of which these are some rows, from their `pipeline.NUMBERS`."""
    return config.data.batches[int(batch[pipeline.NUMBERS[0]][0])]


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh, size: int) -> dict[str, jax.Array]:
    """A batch of `size` samples as arrays over the whole mesh; the samples' `pipeline.NUMBERS` stay behind.

    Args:
      batch: this process's rows of it (`sharding.own_rows`).
    """
    return {name: put_samples(value, mesh, size) for name, value in batch.items() if name not in pipeline.NUMBERS}


def put_samples(local: np.ndarray, mesh: jax.sharding.Mesh, size: int) -> jax.Array:
    """`size` samples, the leading axis, as an array over the whole mesh, of which these are this process's rows."""
    rows = sharding.own_rows(mesh, size)

    def share(index: tuple[slice, ...]) -> np.ndarray:
        first, stop, _ = index[0].indices(size)
        begin = rows.index(first)
        return local[begin : begin + stop - first]

    return jax.make_array_from_callback((size, *local.shape[1:]), sharding.batch_sharding(mesh, size), share)
