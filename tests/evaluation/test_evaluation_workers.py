"""One task that fails, hangs or dies costs itself and no other."""

import os
import signal
import time

import numpy as np
import pytest

from mmjax.errors import CheckpointError, DataError
from mmjax.evaluation.workers import Failed, Workers


def open_tools(settings):
    if settings == "broken":
        raise CheckpointError("face models x: expected a detector, found none")
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


def test_without_processes_and_without_tasks():
    with Workers(0, open_tools, "seen", look, 60) as workers:
        assert list(workers.run(["a", "wrong"])) == [(0, "seen a"), (1, Failed("expected a video, found a poem"))]
    with Workers(2, open_tools, "broken", look, 60) as workers:
        assert list(workers.run([])) == []
