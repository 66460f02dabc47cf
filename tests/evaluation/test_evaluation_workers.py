"""One task that fails, hangs or dies costs itself and no other."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.evaluation.workers import Failed, Workers


def open_tools(settings):
    if settings == "broken":
        raise CheckpointError("face models x: expected a detector, found none")
    if settings == "bug":
        raise ImportError("cannot import name 'x'")
    if settings == "deadly" or (isinstance(settings, Path) and not settings.exists()):
        if settings != "deadly":
            settings.touch()  # the next one lives
        os.kill(os.getpid(), signal.SIGKILL)
    return settings


def look(tools, task):
    if task == "hang":
        time.sleep(60)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "wrong":
        raise DataError("expected a video, found a poem")
    if task == "bug":
        raise ZeroDivisionError("division by zero")
    if task == "memory":
        return len(np.ones(2**32))
    return f"{tools} {task}"


@pytest.mark.slow
def test_what_goes_wrong_with_a_task_is_said_of_it_alone():
    tasks = ["a", "hang", "b", "die", "wrong", "c", "bug", "memory", "d"]
    with Workers(2, open_tools, "seen", look, seconds=5) as workers:
        found = dict(workers.run(tasks))
        again = dict(workers.run(["e"]))
    assert {tasks[number]: each for number, each in found.items() if isinstance(each, str)} == {
        each: f"seen {each}" for each in "abcd"
    }
    why = {tasks[number]: each.why for number, each in found.items() if isinstance(each, Failed)}
    assert why["hang"] == "it was not done within 5 s (--seconds)" and "died" in why["die"]
    assert why["wrong"] == "expected a video, found a poem" and why["bug"] == "ZeroDivisionError: division by zero"
    assert why["memory"] == "it needs more than the 8 GiB of memory that a worker may use"
    assert again == {0: "seen e"}


@pytest.mark.parametrize("count", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_tools_that_cannot_be_opened_end_the_run(count):
    with (
        Workers(count, open_tools, "broken", look, 60) as workers,
        pytest.raises(CheckpointError, match="expected a detector"),
    ):
        list(workers.run(["a"]))


@pytest.mark.slow
def test_workers_that_die_of_opening_their_tools_end_the_run_in_one_line():
    tasks = [np.zeros(20_000)] * 30  # more than the pool's pipe holds: some still wait when it breaks
    message = "expected processes that open detector and embedders, found that they died of it 3 times .* 30 of 30"
    with Workers(2, open_tools, "deadly", look, 60) as workers, pytest.raises(ConfigError, match=message):
        list(workers.run(tasks))


@pytest.mark.slow
def test_workers_that_died_once_are_started_again(tmp_path):
    with Workers(1, open_tools, tmp_path / "opened", look, 60) as workers:
        found = dict(workers.run(["a", "die", "b"]))
        assert found[0].endswith("opened a") and found[2].endswith("opened b")
        assert found[1].why == "its worker process died (exit code -9)"
        for each in list(workers._pool._pool_manager.worker_manager.workers):
            os.kill(each, signal.SIGKILL)
        time.sleep(0.5)
        assert dict(workers.run(["c"]))[0].endswith("opened c")


@pytest.mark.slow
def test_a_worker_that_cannot_open_its_tools_for_whatever_reason_ends_the_run():
    with (
        Workers(1, open_tools, "bug", look, 60) as workers,
        pytest.raises(ConfigError, match="expected to open detector and embedders, found ImportError: cannot import"),
    ):
        list(workers.run(["a", "b"]))


def test_without_processes_and_without_tasks():
    with Workers(0, open_tools, "seen", look, 60) as workers:
        assert list(workers.run(["a", "wrong"])) == [(0, "seen a"), (1, Failed("expected a video, found a poem"))]
    with Workers(2, open_tools, "broken", look, 60) as workers:
        assert list(workers.run([])) == []
