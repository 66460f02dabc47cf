"""The folder of a training run (its workdir): which experiment it is, and which encoders made its records.

    WORKDIR/config.json             the resolved experiment
    WORKDIR/encoders.json           fingerprints of the encoders that made the records

Training writes them; sampling, evaluation and later runs read them. Weights beside them: `mmjax.weights.parameters`.
"""

import dataclasses
import json
from pathlib import Path

import jax

from mmjax import config as c
from mmjax import files, validation
from mmjax.errors import CheckpointError, ConfigError, DataError


def write_config(workdir: Path, config: c.Experiment) -> None:
    """Writes the resolved experiment to `config.json`. Refuses a workdir that holds another one (`ConfigError`)."""
    path = Path(workdir) / "config.json"
    if path.exists():
        changes = config_changes(read_config(workdir), config)
        if changes:
            raise ConfigError(
                f"{workdir} holds a run with other settings:\n{changes}\n"
                "  give the same settings to go on with it, or another --workdir for a new run"
            )
    if jax.process_index() == 0:
        files.write_json(path, as_json(config))


def read_config(workdir: Path | str) -> c.Experiment:
    """The experiment of a workdir. Raises `CheckpointError` when there is none, or it cannot be read."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{workdir}: expected the workdir of a training run, found no config.json in it")
    try:
        return from_json(json.loads(path.read_text()), f"{path}")
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def from_json(values: dict, where: str) -> c.Experiment:
    """The experiment of `as_json`. Raises `CheckpointError` that names `where` it stood."""
    try:
        return c.Experiment.from_config_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{where} cannot be read: {error}") from error


def config_changes(saved: c.Experiment, now: c.Experiment) -> str:
    """One line for each setting that differs and is not `free`; empty when there is none.

    Another `train.steps` is free: it stretches the cosine of the learning rate from here on.
    """
    saved, now = validation.settings_of(saved), validation.settings_of(now)
    changed = [key for key in now if saved[key] != now[key] and not validation.is_free(c.Experiment, key)]
    return "\n".join(f"  {key}: was {saved[key]}, is {now[key]}" for key in sorted(changed))


def write_encoders(workdir: Path, encoders: dict[str, str]) -> None:
    """Writes to `encoders.json` which encoders made the records that a run is trained on, by their fingerprints.

    Refuses a workdir whose run began on records of other encoders (`DataError`).
    """
    path, before = Path(workdir) / "encoders.json", read_encoders(workdir)
    wrong = [what for what in before if before[what] != encoders.get(what)]
    if wrong:
        lines = "\n".join(f"  {what}:\n    then {before[what]}\n    now  {encoders.get(what)}" for what in wrong)
        raise DataError(
            f"{workdir}: this run began on records that other encoders had made:\n{lines}\n"
            "  go on with those records, or give another --workdir for a new run"
        )
    if jax.process_index() == 0 and not before:
        files.write_json(path, encoders)


def read_encoders(workdir: Path | str) -> dict[str, str]:
    """What `write_encoders` wrote; nothing for a run without it. Raises `CheckpointError` for a damaged file."""
    path = Path(workdir) / "encoders.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; delete it, and the next run writes it anew") from error


def as_json(config: c.Experiment) -> dict:
    """The experiment as plain JSON values, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
