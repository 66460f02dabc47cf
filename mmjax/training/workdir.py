"""The folder of a run: one process at a time trains in it, and it says which run it holds once that has begun to train.

WORKDIR/train.lock      held by the process that trains; names it, and goes with it
WORKDIR/config.json     the resolved experiment, and encoders.json (`mmjax.weights.runs` reads both)
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax

from mmjax import files, locks
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.training.resuming import config_changes
from mmjax.training_settings import TrainingExperiment
from mmjax.weights.parameters import last_step
from mmjax.weights.runs import as_json, read_encoders, read_experiment

_LOCK = "train.lock"


@contextlib.contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Keeps others from training in the workdir meanwhile; process 0 does so for all processes of a run.

    Raises `ConfigError` where another one trains there, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            if jax.process_index() == 0:
                workdir.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locks.held(workdir / _LOCK, temporary=True))
        except locks.Held as other:
            raise ConfigError(_taken(workdir, other)) from None
        except OSError as error:
            raise ConfigError(
                f"--workdir {workdir}: expected a folder that can be written, found: {error.strerror}"
            ) from error
        yield


def check_alone(workdir: Path) -> None:
    """Refuses a workdir in which another process trains now (`ConfigError`); makes nothing."""
    if jax.process_index() == 0 and (other := locks.holder(workdir / _LOCK)):
        raise ConfigError(_taken(workdir, other))


def check_run(workdir: Path, config: TrainingExperiment, encoders: dict[str, str]) -> None:
    """Refuses a workdir whose run is another one; a run without a checkpoint has nothing to lose, and is replaced.

    Args:
      encoders: that made the records, by their fingerprints.

    Raises:
      ConfigError: the run began with other settings, which it names.
      DataError: the run began on records of other encoders.
    """
    if last_step(workdir) is None:
        return
    with contextlib.suppress(CheckpointError):  # of a damaged config.json; the checkpoint knows its settings too
        if changes := config_changes(read_experiment(workdir), config):
            raise ConfigError(
                f"{workdir} holds a run with other settings:\n{changes}\n"
                "  give the same settings to go on with it, or another --workdir for a new run"
            )
    before = read_encoders(workdir)
    wrong = [what for what in before if before[what] != encoders.get(what)]
    if wrong:
        lines = "\n".join(f"  {what}:\n    then {before[what]}\n    now  {encoders.get(what)}" for what in wrong)
        raise DataError(
            f"{workdir}: this run began on records that other encoders had made:\n{lines}\n"
            "  go on with those records, or give another --workdir for a new run"
        )


def write_run(workdir: Path, config: TrainingExperiment, encoders: dict[str, str]) -> None:
    """Writes `config.json`, the resolved experiment, and `encoders.json`; for when the run has begun to train.

    What they said before stays until then: a start that fails leaves a workdir as it was.
    """
    if jax.process_index() == 0:
        files.write_json(Path(workdir) / "config.json", as_json(config))
        files.write_json(Path(workdir) / "encoders.json", dict(encoders))


def remains(workdir: Path) -> str:
    """What is left of a run that ends now, without a word to the others, and how to go on."""
    step = last_step(workdir)
    if step is None:
        return "no checkpoint is complete yet, so the same command starts again"
    return (
        f"what was trained after the checkpoint of step {step} is lost; the same command goes on from there "
        f"(--workdir {workdir})"
    )


def _taken(workdir: Path, other: object) -> str:
    return (
        f"--workdir {workdir}: expected a folder in which nobody trains, found {other} at it; wait for it or end it, "
        "or give another --workdir"
    )
