"""Files and workers that misbehave: each costs itself, tells why, and nothing hangs, grows or gets out."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmjax.errors import ConfigError, DataError
from mmjax.preparation.inputs.listing import list_items
from mmjax.preparation.processes.pool import WorkerPool
from mmjax.preparation.reasons import REASONS, Rejected
from mmjax.preparation.settings import Settings
from tests.helpers.hostile_files import EITHER, make_hostile
from tests.helpers.worker_tasks import look, misbehave, start

LIMITS = Settings(item_seconds=20, max_gibibytes=2)
HASTY = Settings(item_seconds=1.5, max_gibibytes=2)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """What was expected of each file, and what came of it: ("picture", shape), ("video", shape) or (reason, detail)."""
    folder = tmp_path_factory.mktemp("hostile")
    expected = make_hostile(folder)
    items, dropped, _ = list_items([str(folder)])
    found = {drop.key: (drop.reason, drop.detail) for drop in dropped}
    with WorkerPool(2, look, LIMITS) as workers:
        for item, result in workers.run(items):
            found[item.key] = (result.reason, result.detail) if isinstance(result, Rejected) else result
    return expected, found


def test_every_file_is_decoded_or_told(hostile):
    expected, found = hostile
    wrong = {key: (why, found.get(key)) for key, why in expected.items() if not _fits(why, found.get(key))}
    assert not wrong
    assert not found.keys() - expected.keys()
    assert sum(isinstance(why, tuple) for why in expected.values()) >= 60


def _fits(expectation, result) -> bool:
    if expectation is None or result is None:
        return expectation is result
    allowed = ("picture", "video", "unreadable") if expectation == EITHER else expectation
    return result[0] in ((allowed,) if isinstance(allowed, str) else allowed)


def test_no_file_needs_the_workers_limits(hostile):
    """Each is rejected by what it is, not because it was killed for its time."""
    _, found = hostile
    assert not {key: result for key, result in found.items() if result[0] in ("too_slow", "crashed")}


def test_reasons_can_be_read(hostile):
    _, found = hostile
    for key, (reason, detail) in found.items():
        assert key.isprintable()
        assert reason in ("picture", "video") or (reason in REASONS and 5 < len(detail) < 300), key
    assert "is a video" in found["video.jpg"][1] or "a video" in found["video.jpg"][1]
    assert "a picture (JPEG)" in found["photo.mp4"][1]
    assert "50000x50000" in found["bomb.png"][1]


def test_turned_picture_stands_upright(hostile):
    assert hostile[1]["turned.jpg"][1] == (64, 48, 3)


def run(tasks, settings=HASTY, count=2, path=""):
    with WorkerPool(count, misbehave, settings, start, (path,)) as workers:
        return list(workers.run(tasks))


@pytest.mark.slow
def test_bad_tasks_cost_only_themselves(tmp_path):
    tasks = ["a", "hang", "b", "segfault", "c", "exit", "memory", "bug", "rejected", "slow but alive", "hang in C", "d"]
    found = run(tasks, path=str(tmp_path / "mark"))
    assert [task for task, _ in found] == tasks
    reasons = {task: getattr(result, "reason", result) for task, result in found}
    assert reasons == {
        **{"a": "A", "b": "B", "c": "C", "d": "D", "slow but alive": "SLOW BUT ALIVE"},
        **{"hang": "too_slow", "hang in C": "too_slow", "segfault": "crashed", "exit": "crashed", "bug": "crashed"},
        **{"memory": "too_large", "rejected": "blurred"},
    }
    details = dict(found)
    assert "Segmentation fault" in details["segfault"].detail
    assert "exit status 3" in details["exit"].detail
    assert "ZeroDivisionError" in details["bug"].detail
    assert details["rejected"].value == 0.1


def test_worker_that_was_killed_by_chance_costs_nothing(tmp_path):
    assert run(["a", "once", "b"], path=str(tmp_path / "mark")) == [("a", "A"), ("once", "ONCE"), ("b", "B")]


def test_workers_import_no_jax_and_stay_for_the_next_run():
    with WorkerPool(1, misbehave, HASTY, start, ("",)) as workers:
        assert list(workers.run(["modules"])) == [("modules", [])]
        (_, first), (_, second) = (*workers.run(["pid"]), *workers.run(["pid"]))
        assert first == second != os.getpid()
        assert list(workers.run([])) == []
    assert not _alive(first)
    with pytest.raises(RuntimeError, match="closed"):
        list(workers.run(["pid"]))


def test_errors_of_the_whole_run_are_raised():
    for count in (0, 1):
        with pytest.raises(ConfigError, match="captioner"):
            run(["a", "configuration", "b"], count=count)
        with pytest.raises(ConfigError, match="detector"):
            run(["a"], count=count, path="wrong")
    with pytest.raises(DataError, match="before its first item.*exit status 7"):
        run(["a"], count=1, path="dead")

    def tasks():
        yield "a"
        raise KeyError("of the list")

    with pytest.raises(KeyError, match="of the list"):
        run(tasks())


def test_work_in_this_process_is_the_same():
    found = run(["a", "rejected", "bug"], count=0)
    assert [getattr(result, "reason", result) for _, result in found] == ["A", "blurred", "crashed"]


def test_tasks_are_asked_for_as_they_are_needed():
    asked = []

    def tasks():
        for number in range(1000):
            asked.append(number)
            yield str(number)

    with WorkerPool(1, misbehave, HASTY, start, ("",)) as workers:
        results = workers.run(tasks())
        assert next(results) == ("0", "0")
        time.sleep(0.5)
        results.close()
    assert len(asked) < 40


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_main_process(tmp_path, end):
    """Even in the middle of a task, and however the main process came to its end."""
    program = tmp_path / "program.py"
    program.write_text(
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "from tests.helpers.worker_tasks import misbehave, start\n"
        "from mmjax.preparation.settings import Settings\n"
        "from mmjax.preparation.processes.pool import WorkerPool\n"
        "with WorkerPool(1, misbehave, Settings(), start, ('',)) as workers:\n"
        "    for _, result in workers.run(['pid', 'hang']):\n"
        "        print(result, flush=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    main = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    worker = int(main.stdout.readline())
    assert _alive(worker)
    main.send_signal(end)
    main.wait(20)
    main.stdout.close()
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
