"""How the processes of a training are started: the launch line, and what a cluster tells."""

import re

import pytest

from mmjax import processes
from mmjax.errors import ConfigError
from mmjax.processes import check_launch
from mmjax.roll_call import Place

LAUNCHES = {
    (None, 2, 1): "--processes and --process have no effect without --coordinator: expected --coordinator HOST:PORT",
    (None, None, 0): "have no effect without --coordinator",
    ("auto", 2, 0): "have no effect with --coordinator auto",
    ("host", 2, 0): "--coordinator host: expected HOST:PORT",
    ("host:port", 2, 0): "expected HOST:PORT",
    ("host:99999", 2, 0): "expected HOST:PORT",
    ("host:5000", None, None): "expected --processes N and --process I beside it",
    ("host:5000", 2, None): "expected --processes N and --process I beside it",
    ("host:5000", 2, 2): "--process 2: expected a number from 0 to 1",
    ("host:5000", 2, -1): "--process -1: expected a number from 0 to 1",
}


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_launch_line_that_is_incomplete_is_told(launch):
    with pytest.raises(ConfigError, match=re.escape(LAUNCHES[launch])):
        check_launch(*launch)


@pytest.mark.parametrize(
    "launch", [(None, None, None), ("auto", None, None), ("host:5000", 2, 1), ("[::1]:5000", 1, 0)]
)
def test_a_launch_line_that_is_complete_passes(launch):
    check_launch(*launch)


SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_NODELIST": "node[01-04]",
    "SLURM_NTASKS": "32",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_GPUS_ON_NODE": "8",
    "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
}


@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        ({}, [3]),  # a task a GPU, and each sees all of the machine
        ({"CUDA_VISIBLE_DEVICES": "3"}, [0]),  # ... its own alone
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, list(range(8))),  # a task a node
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "CUDA_VISIBLE_DEVICES": ""}, list(range(8))),
        ({"JAX_LOCAL_DEVICE_IDS": "1,2"}, None),
    ],
)
def test_slurm_tells_each_task_its_place_and_gpus(monkeypatch, changes, devices):
    for name, value in (SLURM | changes).items():
        monkeypatch.setenv(name, value)
    place, found = processes._found(1)
    expected = SLURM | changes
    port = 4711 % 2**12 + 65536 - 2**12  # JAX's rule
    assert place == Place(f"node01:{port}", int(expected["SLURM_NTASKS"]), int(expected["SLURM_PROCID"]))
    assert found == devices


def test_without_a_cluster_auto_is_refused():
    with pytest.raises(ConfigError, match="--coordinator auto: expected a cluster that JAX knows .*, found none"):
        processes._found(1)


def test_a_cluster_that_says_half_is_told(monkeypatch):
    for name, value in (SLURM | {"SLURM_PROCID": "one"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="the cluster says nothing that can be used: ValueError.*'one'"):
        processes._found(1)


def test_devices_that_jax_does_not_find_are_told(monkeypatch):
    import jax

    def none():
        raise RuntimeError("Unable to initialize backend 'cud': it is not known\nmore")

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cud")
    with pytest.raises(ConfigError, match="^JAX_PLATFORMS=cud: expected devices .*initialize backend 'cud'[^\n]*$"):
        processes.check_platform()
