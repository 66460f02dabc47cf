"""Worker processes: the same batches as without them, signals left to the trainer, and an end with it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmjax.records import pipeline
from tests.records.test_pipeline import ROOT, experiment, iterate, same, take


def test_worker_processes_deliver_the_same_batches_as_threads(folder):
    runs = []
    for workers in (0, 2):
        iterator = iterate(experiment(folder, workers=workers))
        runs.append(take(iterator, 9))
        iterator.close()
    assert all(same(a, b) for a, b in zip(*runs, strict=True))
    assert all(type(value) is np.ndarray for value in runs[1][0].values()), "no shared memory leaves the pipeline"


def test_the_trainer_hears_signals_again_when_its_workers_are_started(folder):
    """They are held back while workers start; held back for ever, Ctrl-C would do nothing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pipeline.start_workers(iterate(experiment(folder)))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before and not {signal.SIGINT, signal.SIGTERM} & before


TRAINER = """
import sys, time
from absl import flags
flags.FLAGS.mark_as_parsed()
from tests.records.test_pipeline import experiment, iterate, pipeline
if __name__ == "__main__":
    iterator = iterate(experiment(sys.argv[1], workers=2))
    pipeline.start_workers(iterator)
    print("started", flush=True)
    next(iterator)
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def trainer(folder, tmp_path):
    """(the process of `TRAINER`, a function that waits until it says something)."""
    iterate(experiment(folder))  # the records are made
    program = tmp_path / "trainer.py"
    program.write_text(TRAINER)
    process = subprocess.Popen(
        [sys.executable, program, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )

    def wait_for(line):
        said = []
        while not said or said[-1] != f"{line}\n":
            said.append(process.stdout.readline())
            assert said[-1], "it ended: " + "".join(said)

    yield process, wait_for
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_workers_leave_signals_to_the_trainer(trainer):
    """Ctrl-C and SIGTERM go to the whole group, from the workers' first moment on."""
    process, wait_for = trainer

    def signal_all(workers):
        for worker in workers:
            os.kill(worker, signal.SIGINT)
            os.kill(worker, signal.SIGTERM)

    wait_for("started")
    while len(workers := children(process.pid)) < 2:  # seen as soon as they are
        signal_all(workers)
    signal_all(workers)
    wait_for("begun")
    assert children(process.pid) == workers
    signal_all(workers)
    time.sleep(1)
    assert len(workers) == 2 and children(process.pid) == workers
    process.kill()
    assert "Traceback" not in process.stdout.read()  # which ends when no worker holds it any more


@pytest.mark.slow
def test_workers_end_with_the_trainer(trainer):
    """Killed with -9, it can tell them nothing."""
    process, wait_for = trainer
    wait_for("begun")
    workers, ended = children(process.pid), time.monotonic() + 20
    process.kill()
    while living := [worker for worker in workers if alive(worker)]:
        assert time.monotonic() < ended, f"{len(living)} of {len(workers)} workers live on"
        time.sleep(0.05)
    assert len(workers) == 2 and "Traceback" not in process.stdout.read()


@pytest.mark.slow
def test_workers_that_are_started_early_give_the_same_batches(folder):
    config = experiment(folder, workers=2)
    with contextlib.closing(iterate(config)) as plain:
        expected = take(plain, 4)
    with contextlib.closing(iterate(config)) as early:
        pipeline.start_workers(early)
        assert all(map(same, take(early, 4), expected))
    with contextlib.closing(iterate(config, done=2)) as resumed:
        pipeline.start_workers(resumed)
        assert all(map(same, take(resumed, 2), expected[2:]))
    alone = iterate(experiment(folder))
    pipeline.start_workers(alone)  # no workers: nothing to start
    assert next(alone)


def alive(process):
    """Whether it runs; one that has ended may still wait for somebody to ask how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(parent):
    """Worker processes of a process, by their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = path.read_text().partition(" ")
            if (
                rest.rpartition(")")[2].split()[1] == str(parent)
                and b"spawn_main" in (path.parent / "cmdline").read_bytes()
            ):
                found.append(int(number))
    return sorted(found)
