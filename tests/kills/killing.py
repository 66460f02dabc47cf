"""Starts a training command, kills it at a moment that chance decides, and looks at what is left."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmjax.errors import CheckpointError
from mmjax.weights import checksums, parameters, runs
from tests.helpers import commands, same_run, tiny_run

EVERY = 5  # steps between checkpoints
STEPS_A_KILL = 6 * EVERY  # no kill lets a run come further
PHASES = ("start", "training", "saving")
_PATIENCE = 300.0  # seconds that a run has for the next thing it is to do
_GRACE = 60.0  # seconds in which workers must have ended after a main process that was killed alone
_CHEAP = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
_CHEAP |= {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}


@dataclasses.dataclass(frozen=True)
class Killed:
    """What a kill met, and what it left."""

    aimed: str  # one of PHASES
    met: str  # one of PHASES
    alone: bool  # whether only the main process was killed, not its workers
    steps: int  # that the process had begun, from where it started
    latest: int  # step of the last whole checkpoint; 0: none
    half_deleted: int  # older checkpoints that were being deleted


class Run:
    """A workdir with a training command that may be started again and again.

    Args:
      folder: takes the workdir, NAME.notes (`tests.kills.command`) and NAME.log.
      config: the experiment's file.
    """

    def __init__(self, folder: Path, name: str, config: Path):
        self.workdir, self.notes, self.log = (folder / f"{name}{end}" for end in ("", ".notes", ".log"))
        self._config, self._cache = config, os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
        self.notes.touch()

    def start(self) -> subprocess.Popen:
        """The command in a process group of its own."""
        line = [sys.executable, "-m", "tests.kills.command", str(self.notes), f"--config={self._config}"]
        environment = commands.environment() | _CHEAP | {"JAX_COMPILATION_CACHE_DIR": self._cache}
        with open(self.log, "a") as log:
            return subprocess.Popen(
                [*line, f"--workdir={self.workdir}"],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.notes.parent,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Lets the command go on to its end. Raises `AssertionError` with its last words where it fails."""
        assert self.start().wait() == 0, self.last_words()

    def steps_noted(self) -> int:
        """How many steps were begun, by all processes together."""
        return self.notes.read_bytes().count(b"\n")

    def saving(self) -> bool:
        """Whether a checkpoint stands there that is not whole yet."""
        checkpoints = self.workdir / "checkpoints"
        return any(self.workdir.glob("frozen.orbax-*")) or any(checkpoints.glob("*.orbax-checkpoint-tmp*"))

    def last_words(self) -> str:
        return self.log.read_text()[-3000:]


def write_experiment(folder: Path, steps: int) -> Path:
    """The experiment's file: two sources of drawn people, a part of the base frozen, an average, two workers."""
    one, other = (tiny_run.sources(tiny_run.experiment(folder / "data", data={"people": n})).folders[0] for n in (4, 5))
    data = {"sources": (one, other), "weights": (0.6, 0.4), "batches": (8, 8), "frames": (1, 1), "workers": 2}
    train = {"steps": steps, "checkpoint_every": EVERY, "log_every": 1, "validate_every": 100}
    file = folder / "experiment.py"
    file.write_text(
        "from tests.helpers import tiny_run\n\n\ndef get_config():\n"
        f"    return tiny_run.experiment(data={data!r}, train={train!r}).to_config_dict()\n"
    )
    return file


def kill_once(run: Run, draw: random.Random, start_seconds: float) -> tuple[Killed, float]:
    """Starts the run and kills it; (what became of it, seconds until its first step or `start_seconds`).

    Raises `AssertionError` where what is left is not whole, or a worker stays behind.
    """
    aimed, alone = draw.choices(PHASES, (1, 2, 2))[0], draw.random() < 0.5
    before, noted, began = latest(run), run.steps_noted(), time.monotonic()
    process = run.start()
    try:
        if aimed == "start":
            time.sleep(draw.uniform(0, start_seconds))
        else:
            _await(run, process, lambda: run.steps_noted() > noted)
            start_seconds = time.monotonic() - began
            _await_moment(run, process, noted, aimed, draw)
        assert process.poll() is None, f"ended with {process.returncode} before it was killed:\n{run.last_words()}"
    finally:
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        process.wait()
    workers_ended(process.pid)
    begun, saving = run.steps_noted() - noted, run.saving()
    now, half_deleted = check_left(run, before)
    met = "saving" if saving else "training" if begun else "start"
    return Killed(aimed, met, alone, begun, now, half_deleted), start_seconds


def _await_moment(run: Run, process, noted: int, aimed: str, draw: random.Random) -> None:
    """Returns at some moment of the first steps: in a save, or any."""
    if aimed == "training":
        begun = noted + draw.randrange(1, 4 * EVERY)
        _await(run, process, lambda: run.steps_noted() >= begun)
        time.sleep(draw.uniform(0, 0.05))
        return
    for _ in range(draw.randrange(1, 5)):
        _await(run, process, lambda: not run.saving())
        _await(run, process, run.saving)
    time.sleep(draw.uniform(0, 0.25))


def _await(run: Run, process: subprocess.Popen, happened) -> None:
    limit = time.monotonic() + _PATIENCE
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode}:\n{run.last_words()}"
        assert time.monotonic() < limit, f"nothing happened for {_PATIENCE:.0f} s:\n{run.last_words()}"
        time.sleep(0.001)


def latest(run: Run) -> int:
    """Step of the last checkpoint that counts as complete; 0: none."""
    try:
        return parameters.complete_step(run.workdir)
    except CheckpointError:
        return 0


def check_left(run: Run, before: int) -> tuple[int, int]:
    """(the last checkpoint's step, how many older ones are half deleted); every array of the last one is read.

    Raises `AssertionError` where it is older than `before`, cannot be read, or lacks anything.
    """
    now = latest(run)
    assert now >= before, f"the last checkpoint was of step {before}, is of step {now}"
    if not now:
        return 0, 0
    folders = {int(path.name): path for path in (run.workdir / "checkpoints").iterdir() if path.name.isdigit()}
    assert checksums.damage(folders[now]) == "", f"step {now}: {checksums.damage(folders[now])}"
    assert checksums.damage(run.workdir / "frozen") == "", "the frozen parameters are damaged"
    state, position = same_run.saved(run.workdir, now)
    assert int(state["step"]) == now and state["ema"] and position
    assert runs.read_config(run.workdir).train.checkpoint_every == EVERY
    return now, sum(checksums.damage(folder) != "" for step, folder in folders.items() if step != now)


def workers_ended(group: int) -> None:
    """Waits until no process of the group is left. Raises `AssertionError` where one stays."""
    limit = time.monotonic() + _GRACE
    while left := _alive(group):
        assert time.monotonic() < limit, f"processes {left} live {_GRACE:.0f} s after the main process was killed"
        time.sleep(0.05)


def _alive(group: int) -> list[int]:
    """Processes of a group that are no zombies, by Linux's /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # ended meanwhile
        if int(of_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def assert_same_records(killed: Run, whole: Run, steps: int) -> None:
    """Each step, in every process that took it, had the records of the run that nobody killed; none lacks."""
    expected, noted = _records(whole), _records(killed)
    assert [step for step, _ in expected] == list(range(1, steps + 1))
    wanted = dict(expected)
    assert all(records == wanted[step] for step, records in noted), "a step had other records the second time"
    assert {step for step, _ in noted} == set(wanted), "a step is missing"
    following = [after - before for (before, _), (after, _) in zip(noted, noted[1:], strict=False)]
    assert max(following) == 1, "a process began after the step that was due"


def _records(run: Run) -> list[tuple[int, str]]:
    """(step, its records) as they were noted; a line that a kill cut off could not be read."""
    lines = run.notes.read_text().splitlines()
    return [(int(step.strip("[")), records) for step, _, records in (line.partition(",") for line in lines)]
