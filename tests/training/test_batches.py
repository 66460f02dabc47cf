"""What comes from the host to the devices: of each record what a step reads."""

import jax
import pytest

from mmjax.records import pipeline
from mmjax.training.batches import abstract_batches, batch_size, put_batch, training_batches
from mmjax.training.tasks.registry import make_task
from tests.helpers import tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("batches")


@pytest.mark.parametrize("adapter", [False, True])
def test_a_batch_comes_as_the_step_was_compiled_for(folder, adapter):
    """Nothing else is read, and of what is read all but the samples' numbers reaches the device."""
    config = tiny_run.experiment(folder, adapter=adapter)
    task, mesh = make_task(config), tiny_run.mesh_of(config)
    with training_batches(task, tiny_run.sources(config), mesh, 0) as batches:
        on_host = next(batches)
    assert on_host.keys() == {*task.fields(1), *pipeline.NUMBERS}
    placed = put_batch(on_host, mesh, batch_size(config, on_host))
    (expected,) = abstract_batches(task, mesh)
    described = lambda batch: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), batch)  # noqa: E731
    assert described(placed) == described(expected)
