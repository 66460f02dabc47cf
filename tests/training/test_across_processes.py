"""Processes whose devices make groups: data, fsdp, tensor, context across their border give what one device gives."""

import dataclasses

import jax
import numpy as np
import pytest

from mmjax.train import train
from tests.helpers import process_group, same_run, tiny_run, tiny_vae
from tests.training.test_objective import assert_same_step, experiment, one_step

LOSS = {"face_region_probability": 0.5, "drop_text": 0.2, "drop_identity": 0.2}
# What crosses the border of two processes of four devices, and that of four processes of two.
OF_TWO = {
    "data": {"data": 2, "fsdp": 4},
    "fsdp": {"data": 1, "fsdp": 2, "context": 4},
    "tensor": {"data": 1, "tensor": 2, "context": 4},
    "context": {"data": 1, "context": 8},
}
OF_FOUR = {
    "data": {"data": 4, "fsdp": 2},
    "fsdp": {"data": 1, "fsdp": 4, "tensor": 2},
    "data and tensor": {"data": 2, "tensor": 2, "context": 2},
    "tensor and context": {"data": 1, "tensor": 2, "context": 4},
}


def base(mesh):
    return tiny_run.experiment(loss=LOSS, mesh=mesh)


def one_sample(mesh):
    return experiment(mesh=mesh, data={"batches": (1,)})


# Run by each process of a group


def steps_and_run(meshes, workdir, config):
    """What `one_step` of a model without adapter gives on each mesh; then a run with all that it does beside steps."""
    found = {name: one_step(base(mesh), jax.device_count()) for name, mesh in meshes.items()}
    train(config, workdir)
    return found


def adapter_steps(meshes):
    """What `one_step` gives with the adapter, also of a batch that is smaller than the number of processes."""
    found = {name: one_step(experiment(mesh=mesh), jax.device_count()) for name, mesh in meshes.items()}
    return found | {"one sample": one_step(one_sample({"data": 1, "context": 8}), jax.device_count())}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(an experiment of three steps, the workdir in which two processes did two of them, what their steps gave)."""
    folder = tmp_path_factory.mktemp("processes")
    config = tiny_run.experiment(
        folder / "data",
        mesh={"fsdp": 2, "data": -1},
        train={"steps": 3, "log_every": 1, "validate_every": 2, "checkpoint_every": 2, "sample_count": 2},
        sampling={"steps": 2},
    )
    tiny_run.sources(config)
    first = dataclasses.replace(config.train, steps=2, sample_every=2)
    crossing = dataclasses.replace(config, train=first, mesh=tiny_run.c.Mesh(data=1, fsdp=2, context=4))
    meshes, workdir = {name: OF_TWO[name] for name in ("tensor", "context")}, folder / "run"
    task = "tests.training.test_across_processes.steps_and_run"
    return config, workdir, process_group.run(task, 2, 4, folder, meshes, workdir, crossing)


@pytest.mark.slow
def test_tensor_and_context_may_cross_two_processes(run):
    """As fsdp does in the run below."""
    alone = one_step(base({}))
    for found in run[2]:
        for name, made in found.items():
            assert_same_step(made, alone, name)


@pytest.mark.slow
def test_what_two_processes_began_one_goes_on_with(run, tmp_path):
    """On another mesh; it has the losses of a run of one process, and sheets and validation were made on the way."""
    config, workdir, _ = run
    train(config, workdir)
    train(config, tmp_path)
    assert (workdir / "samples" / "2.png").is_file()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "3"]
    for found, expected in zip(losses(workdir), losses(tmp_path), strict=True):
        print(f"measured: {found}, {expected}")
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def losses(workdir):
    """[step, losses] of each row of the log that has any."""
    kept = ("train/loss", "validation/loss")
    return [[row["step"], *(row[tag] for tag in kept if tag in row)] for row in same_run.rows(workdir)]


# Figures


@pytest.mark.measures
@pytest.mark.parametrize("processes, meshes", [(1, OF_TWO | OF_FOUR), (2, OF_TWO), (4, OF_FOUR)])
def test_every_axis_may_cross_processes(tmp_path, processes, meshes):
    """Eight devices in all, with the adapter."""
    task, devices = "tests.training.test_across_processes.adapter_steps", 8 // processes
    group = process_group.run(task, processes, devices, tmp_path, meshes, seconds=1800)
    alone, one = one_step(experiment()), one_step(one_sample({}))
    for number, found in enumerate(group):
        for name, made in found.items():
            assert_same_step(made, one if name == "one sample" else alone, f"process {number} of {processes}, {name}")


@pytest.mark.measures
def test_a_vae_trains_in_two_processes(tmp_path):
    """Its reconstructions and the scale of its latents are those that one process gives."""
    config = tiny_vae.experiment(tiny_vae.records(tmp_path / "data"), train={"steps": 2})
    task = "tests.training.test_across_processes.steps_and_run"
    process_group.run(task, 2, 4, tmp_path, {}, tmp_path / "two", config)
    train(config, tmp_path / "one")
    for tag in ("validation/loss", "reconstructions/psnr"):
        one, two = ([row[tag] for row in same_run.rows(tmp_path / name) if tag in row] for name in ("one", "two"))
        np.testing.assert_allclose(two, one, rtol=1e-4)
