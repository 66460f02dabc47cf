"""The scripts of `launch/` with DRY_RUN=1: what they would start, arguments with spaces and quotes kept whole."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).resolve().parent.parent / "launch"
ARGUMENTS = ["--workdir", "/mnt/my run", "--config.name=it's"]
TRAIN = ["python", "-m", "mmjax.train", "--config=some.py"]
GKE = {"NAME": "mine", "IMAGE": "here/mmjax", "CLAIM": "disk", "ACCELERATOR": "tpu-v6e-slice", "TOPOLOGY": "4x4"}


def dry(script, **variables):
    return subprocess.run(
        ["bash", LAUNCH / script, "some.py", *ARGUMENTS],
        env={**os.environ, "DRY_RUN": "1", "MMJAX_CACHE": "cache", **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("script", "variables", "place"),
    [
        ("single.sh", {}, ["--compilation_cache=cache"]),
        ("gpu_nodes.sh", {}, ["--coordinator=auto"]),
        (
            "gpu_nodes.sh",
            {"COORDINATOR": "10.0.0.1:5000", "PROCESSES": "4", "PROCESS": "3"},
            ["--coordinator=10.0.0.1:5000", "--processes=4", "--process=3"],
        ),
    ],
)
def test_what_starts_here(script, variables, place):
    assert shlex.split(dry(script, **variables).stdout) == [*TRAIN, *place, *ARGUMENTS]


def test_what_starts_on_a_slice():
    *ssh, command = shlex.split(dry("tpu_pod.sh", TPU="slice", ZONE="here").stdout)
    assert ssh == [*shlex.split("gcloud compute tpus tpu-vm ssh slice --zone=here --worker=all")]
    remote = shlex.split(command.removeprefix("--command="))
    assert remote == ["cd", "mmjax", "&&", *TRAIN, "--coordinator=auto", *ARGUMENTS]


def test_what_starts_on_gke():
    found = yaml.safe_load(dry("gke_jobset.sh", **GKE, HOSTS="4", CHIPS="4").stdout)
    assert (found["kind"], found["metadata"]["name"]) == ("JobSet", "mine")
    (job,) = found["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["parallelism"] == job["template"]["spec"]["completions"] == 4
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == [*TRAIN, "--coordinator=auto", *ARGUMENTS]
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]


@pytest.mark.parametrize("script", ["tpu_pod.sh", "gke_jobset.sh", "gpu_nodes.sh"])
def test_what_is_missing_is_named(script):
    variables = {"COORDINATOR": "host:1"} if script == "gpu_nodes.sh" else {}
    done = dry(script, **variables)
    assert done.returncode and any(name in done.stderr for name in ("TPU:", "NAME:", "PROCESSES:")), done.stderr
