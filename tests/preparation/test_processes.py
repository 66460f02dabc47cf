"""Processes that share a preparation: what each does, who is waited for and for how long, and which GPU each takes."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from mmjax.errors import ConfigError, DataError
from mmjax.preparation.analysis.chunks import divide
from mmjax.preparation.items import Item
from mmjax.preparation.processes import gpus, waiting
from mmjax.preparation.processes.gpus import GpuShare, gpu_share, visible_gpus
from mmjax.preparation.processes.waiting import Patience, command_line, wait_for
from mmjax.preparation.processes.work import Presence, Work
from tests.helpers import prepared_input as pi

ROOT = Path(__file__).resolve().parents[2]
HASTY = Patience(ended=0.5, at_work=30.0, poll=0.02)
ON_DEMAND = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def test_work_is_shared_without_overlap_whatever_the_number_of_processes(tmp_path):
    items = [Item(f"{n}", "photo" if n % 3 else "video", f"{n}", "set") for n in range(500)]
    everything = divide(items, pi.SETTINGS)
    assert sorted(item.key for chunk in everything for item in chunk.items) == sorted(item.key for item in items)
    for count in (1, 2, 3, 7):
        shares = [Work(tmp_path, process, count).own(everything) for process in range(count)]
        names = [(chunk.kind, chunk.number) for share in shares for chunk in share]
        assert sorted(names) == sorted((chunk.kind, chunk.number) for chunk in everything)


def test_a_process_keeps_another_of_its_number_out(tmp_path):
    first, second, third = (Work(tmp_path, *place).alone() for place in ((0, 2), (1, 2), (1, 3)))
    with first, second, pytest.raises(ConfigError, match="process 1 of this preparation is at work already"), third:
        pass
    with Work(tmp_path, 1, 3).alone():  # they are gone
        (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file: expected a folder that can be written, found: Not a directory"):
        Work(tmp_path / "file").alone().__enter__()


def test_a_damaged_plan_is_said(tmp_path):
    work = Work(tmp_path)
    work.begin({"settings": {"a": 1}})
    work.begin({"settings": {"a": 1}})
    with pytest.raises(ConfigError, match="settings.a: then 1, now 2"):
        work.begin({"settings": {"a": 2}})
    (tmp_path / "work" / "plan.json").write_text(json.dumps({})[:1])
    with pytest.raises(DataError, match=r"plan.json: damaged"):
        work.begin({"settings": {"a": 1}})


def test_presence_is_what_the_lock_says(tmp_path, monkeypatch):
    mine, other = Work(tmp_path, 0, 2), Work(tmp_path, 1, 2)
    assert mine.presence(1) is Presence.ENDED  # it never was
    with other.alone():
        assert mine.presence(1) is Presence.AT_WORK
    assert mine.presence(1) is Presence.ENDED
    monkeypatch.setattr("mmjax.preparation.processes.work.socket.gethostname", lambda: "another-machine")
    assert mine.presence(1) is Presence.UNKNOWN  # some shared disks keep locks within a machine
    monkeypatch.setattr("mmjax.preparation.processes.work.fcntl.flock", _no_locks)
    assert mine.presence(1) is Presence.UNKNOWN
    with other.alone():
        pass


def _no_locks(*unused):
    raise OSError("this disk has no locks")


def test_asking_for_a_process_does_not_keep_it_out(tmp_path):
    """The question holds the lock for a moment, in which its owner may come."""
    work, stop = Work(tmp_path, 0, 2), threading.Event()

    def ask():
        while not stop.wait(0.001):
            work.presence(1)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with Work(tmp_path, 1, 2).alone():
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def paths_of(folder, count):
    return [folder / f"{number}" for number in range(count)]


def test_who_is_waited_for_is_said(tmp_path):
    paths, lines = paths_of(tmp_path, 9), []
    for path in paths[:4]:
        path.touch()

    def log(line):
        lines.append(line)
        for path in paths:
            path.touch()

    wait_for(Work(tmp_path, 0, 3), paths, "chunks", HASTY, log)
    assert lines == ["waiting for process 0, 1, 2: 5 of 9 chunks left"]


PROCESS = """
import sys, time
from pathlib import Path
from mmjax.preparation.processes.work import Work
folder = Path(sys.argv[1])
with Work(folder, 1, 2).alone():
    print("begun", flush=True)
    for number in sys.argv[2:]:
        time.sleep(1.5)
        (folder / number).touch()
    if not sys.argv[2:]:
        time.sleep(60)
"""


def start(folder, *numbers):
    """Process 1 of 2, which holds its lock and makes a file every 1.5 s; without any it does nothing for a minute."""
    command = [sys.executable, "-c", PROCESS, str(folder), *map(str, numbers)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    return process


def test_a_process_that_was_killed_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", "--input", "my photos", "--process", "0", "--processes=2"])
    paths = paths_of(tmp_path, 4)
    for number in (0, 1, 2):
        paths[number].touch()
    process = start(tmp_path)
    process.kill()
    process.communicate()
    began = time.monotonic()
    again = "python -m mmjax.prepare --input 'my photos' --processes=2 --process=1"
    with pytest.raises(DataError, match="waited for 1 shards of process 1, .*it is not at work") as error:
        wait_for(Work(tmp_path, 0, 2), paths, "shards", HASTY)
    assert str(error.value).endswith(again)
    assert HASTY.ended <= time.monotonic() - began < 10


@pytest.mark.slow
def test_a_slow_process_is_waited_for_as_long_as_it_lives(tmp_path):
    """Three times as long as one that is not at work would be, for each of its files."""
    paths = paths_of(tmp_path, 4)
    paths[0].touch()
    paths[2].touch()
    process = start(tmp_path, 1, 3)
    wait_for(Work(tmp_path, 0, 2), paths, "shards", HASTY)
    assert process.wait(10) == 0
    process.stdout.close()
    assert all(path.is_file() for path in paths)


def test_a_process_that_holds_its_lock_and_does_nothing_is_given_up(tmp_path):
    paths = paths_of(tmp_path, 2)
    paths[0].touch()
    with (
        Work(tmp_path, 1, 2).alone(),
        pytest.raises(DataError, match="waited for 1 chunks of process 1, .*it is at work"),
    ):
        wait_for(Work(tmp_path, 0, 2), paths, "chunks", Patience(ended=0.1, at_work=0.5, poll=0.02))


def test_a_disk_without_locks_gets_the_longer_patience(tmp_path, monkeypatch):
    paths = paths_of(tmp_path, 2)
    paths[0].touch()
    with Work(tmp_path, 1, 2).alone():
        pass
    monkeypatch.setattr("mmjax.preparation.processes.work.fcntl.flock", _no_locks)
    began = time.monotonic()
    with pytest.raises(DataError, match="process 1, .*it is of unknown state"):
        wait_for(Work(tmp_path, 0, 2), paths, "chunks", Patience(ended=0.1, at_work=0.8, poll=0.02))
    assert time.monotonic() - began >= 0.8


def test_a_process_that_makes_progress_is_never_given_up(tmp_path, monkeypatch):
    """Each of 20 files comes within the patience, all of them take four times as long."""
    paths, clock = paths_of(tmp_path, 20), [0.0]

    def sleep(seconds):
        clock[0] += seconds
        if int(clock[0]) % 2 == 0:
            paths[int(clock[0]) // 2 - 1].touch()

    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(waiting.time, "sleep", sleep)
    wait_for(Work(tmp_path, 0, 1), paths, "chunks", Patience(ended=10.0, at_work=10.0, poll=1.0))
    assert clock[0] == 40


@pytest.mark.parametrize("given", [["--process", "0"], ["--process=0"], ["-process", "0"], []])
def test_the_command_of_another_process(monkeypatch, given):
    monkeypatch.setattr(sys, "argv", ["prepare", "--input=a", *given, "--processes", "3"])
    assert command_line(2) == "python -m mmjax.prepare --input=a --processes 3 --process=2"
    assert command_line().split()[3:] == ["--input=a", *given, "--processes", "3"]


@pytest.mark.parametrize(
    "process, processes, machine, environment, expected",
    [
        (0, 1, 8, {}, GpuShare()),  # alone it takes all of them
        (0, 8, 8, {}, GpuShare(0, ON_DEMAND)),
        (7, 8, 8, {}, GpuShare(7, ON_DEMAND)),
        (3, 4, 2, {}, GpuShare(1, ON_DEMAND)),  # two share a GPU
        (5, 8, 4, {}, GpuShare(1, ON_DEMAND)),  # the second machine of four
        (1, 2, 0, {}, GpuShare()),  # no GPU
        (3, 4, 8, {"CUDA_VISIBLE_DEVICES": "4,5"}, GpuShare(1, ON_DEMAND)),
        (3, 4, 8, {"CUDA_VISIBLE_DEVICES": "6"}, GpuShare(0, ON_DEMAND)),  # the user gave each its own
        (1, 2, 8, {"CUDA_VISIBLE_DEVICES": ""}, GpuShare()),
        (1, 2, 8, {"CUDA_VISIBLE_DEVICES": "MIG-12ab"}, GpuShare(0, ON_DEMAND)),
        (1, 2, 2, {"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, GpuShare(1)),
    ],
)
def test_each_process_takes_one_gpu(process, processes, machine, environment, expected):
    assert gpu_share(process, processes, machine, environment) == expected


@pytest.mark.parametrize(
    "visible, count", [(None, 4), ("", 0), ("-1", 0), ("0,1", 2), ("2, 3", 2), ("0,9,1", 1), ("GPU-8932f937,MIG-1", 2)]
)
def test_visible_gpus_are_counted_as_cuda_does(visible, count):
    assert visible_gpus(4, visible) == count


def test_the_gpu_is_chosen_before_jax_starts(monkeypatch):
    monkeypatch.setattr(gpus, "_gpus_of_machine", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    environment = {}
    monkeypatch.setattr(gpus.os, "environ", environment)
    try:
        gpus.take_gpu(6, 8)
        assert jax.config.values["jax_cuda_visible_devices"] == "2" and environment == ON_DEMAND
        gpus.take_gpu(7, 8)
        assert jax.config.values["jax_cuda_visible_devices"] == "2", "what was chosen stays"
    finally:
        jax.config.update("jax_cuda_visible_devices", "all")


HEAVY = {"scenedetect", "insightface", "onnxruntime", "tensorflow_datasets", "array_record", "grain"}


def test_the_preparation_can_be_imported_without_what_it_needs_later():
    code = f"import sys, mmjax.preparation.run; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr
