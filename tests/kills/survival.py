"""A run that is killed many times, beside one that nobody kills."""

import random
from collections.abc import Callable
from pathlib import Path

from mmjax.weights import parameters
from tests.helpers import same_run, tiny_run
from tests.kills import killing


def survive(folder: Path, count: int, draw: random.Random, say: Callable[[str], None]) -> list[killing.Killed]:
    """Trains twice in a folder, once with `count` kills, and returns what they met.

    Raises `AssertionError` where a checkpoint was not whole, a batch was lost or repeated, or the end is not the same.
    """
    steps = killing.STEPS_A_KILL * count
    config = killing.write_experiment(folder, steps)
    whole, killed = (killing.Run(folder, name, config) for name in ("whole", "killed"))
    whole.finish()
    kills, start_seconds = [], 10.0
    for number in range(1, count + 1):
        found, start_seconds = killing.kill_once(killed, draw, start_seconds)
        kills.append(found)
        say(f"{number}/{count}: {found}")
    killed.finish()
    killing.assert_same_records(killed, whole, steps)
    same_run.assert_same_run(killed.workdir, whole.workdir, steps)
    tiny_run.assert_bit_equal(*(parameters.load_params(run.workdir) for run in (killed, whole)))
    names = [sorted(path.name for path in (run.workdir / "checkpoints").iterdir()) for run in (killed, whole)]
    assert names[0] == names[1], f"checkpoints are left behind: {names[0]}"
    return kills
