"""One training run in two processes: they agree, stop together, and end when one of them fails."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmjax.weights import parameters
from tests.helpers import commands, tiny_run

ROOT = Path(__file__).resolve().parents[2]
DAMAGED = """
import os
from mmjax.errors import DataError
from mmjax.records.sources import RecordSource

if "DAMAGED" in os.environ:  # from the 17th on
    read, count = RecordSource.__getitem__, iter(range(10**9))

    def damaged(self, index):
        if next(count) > 16:
            raise DataError(f"record {index}: damaged")
        return read(self, index)

    RecordSource.__getitem__ = damaged
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    tiny_run.sources(tiny_run.experiment(folder / "data"))
    train = {"checkpoint_every": 2, "validate_every": 0, "log_every": 1, "steps": 100_000}
    some = {"fsdp_min_size": 1024}  # the larger half of the parameters is shared: each costs the processes a meeting
    tiny_run.write_config(folder / "config.py", folder / "data", DAMAGED, train=train, runtime=some)
    return folder


class Two:
    """Two processes by `launch/gpu_nodes.sh`, each with settings and an environment of its own."""

    def __init__(self, folder, workdir, settings=((), ()), environments=({}, {})):
        self.logs = [folder / f"{workdir}.{number}.log" for number in (0, 1)]
        self.processes = []
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        for number in (0, 1):
            place = {"COORDINATOR": f"127.0.0.1:{port}", "PROCESSES": "2", "PROCESS": str(number)}
            path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            line = ["bash", ROOT / "launch" / "gpu_nodes.sh", folder / "config.py", "--workdir", folder / workdir]
            line = [*map(str, line), "--config.mesh.fsdp=2", *settings[number]]
            with self.logs[number].open("w") as output:
                env = {**commands.environment(), **place, **path, **environments[number]}
                self.processes.append(subprocess.Popen(line, stdout=output, stderr=output, env=env))

    def said(self, number):
        return self.logs[number].read_text()

    def wait_for(self, happened):
        until = time.monotonic() + 300
        while not happened():
            assert all(process.poll() is None for process in self.processes), self.said(0) + self.said(1)
            assert time.monotonic() < until, f"nothing happens:\n{self.said(0)}\n{self.said(1)}"
            time.sleep(0.1)

    def statuses(self):
        return [process.wait(timeout=100) for process in self.processes]

    def error(self, number):
        """The one error of a process."""
        (line,) = [line for line in self.said(number).splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.said(number)
        return line


@pytest.mark.slow
def test_ctrl_c_at_one_saves_and_ends_both_and_a_damaged_record_of_one_ends_both_that_go_on(folder):
    """SIGINT is passed on as SIGTERM, whose way this is as well. With a failure the other says what is lost."""
    two = Two(folder, "run")
    two.wait_for(lambda: "step 1 of" in two.said(0))
    two.processes[1].send_signal(signal.SIGINT)
    assert two.statuses() == [0, 0]
    stopped = parameters.complete_step(folder / "run")
    assert f"stopped by a signal after step {stopped}" in two.said(0) and "stopping after this step" in two.said(1)
    two = Two(folder, "run", environments=[{}, {"DAMAGED": "1"}])
    assert two.statuses() == [2, 2]
    last = parameters.complete_step(folder / "run")
    assert f"going on from the checkpoint of step {stopped}" in two.said(0) and last >= stopped
    assert ": damaged" in two.error(1)
    assert "process 1 on " in two.error(0) and two.error(1).removeprefix("error: ") in two.error(0)
    assert f"what was trained after the checkpoint of step {last} is lost; the same command" in two.error(0)


@pytest.mark.slow
def test_other_settings_are_refused_at_both(folder):
    two = Two(folder, "differing", [[], ["--config.optim.learning_rate=0.5"]])
    assert two.statuses() == [2, 2]
    assert two.error(0) == two.error(1) and "optim.learning_rate = 0.01 at process 0, 0.5 at process 1" in two.error(0)


@pytest.mark.slow
def test_the_end_of_process_0_is_one_line_and_no_abort(folder):
    """JAX itself would abort here, at once; silence instead of an end is tests/test_peers.py's."""
    two = Two(folder, "killed")
    checkpoints = folder / "killed" / "checkpoints"  # they are written beside the steps that follow
    two.wait_for(lambda: any(path.name.isdigit() for path in checkpoints.glob("*")))
    two.processes[0].kill()
    assert two.statuses() == [-signal.SIGKILL, 2]
    last = parameters.complete_step(folder / "killed")
    assert "process 0 is lost: it was killed" in two.error(1) and f"checkpoint of step {last} is lost" in two.error(1)
