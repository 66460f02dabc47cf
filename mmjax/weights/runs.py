"""The folder of a training run (its workdir): which experiment it is, and which encoders made its records.

    WORKDIR/config.json             the resolved experiment
    WORKDIR/encoders.json           fingerprints of the encoders that made the records

Training writes them (`mmjax.training.resuming`); sampling, evaluation and later runs read them. Weights beside them:
`mmjax.weights.parameters`.
"""

import dataclasses
import json
from pathlib import Path

from mmjax import config as c
from mmjax.errors import CheckpointError, ConfigError


def read_config(workdir: Path | str) -> c.Experiment:
    """The experiment of a workdir. Raises `CheckpointError` when there is none, or it cannot be read."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{workdir}: expected the workdir of a training run, found no config.json in it")
    try:
        return from_json(json.loads(path.read_text()), f"{path}")
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def get_config(workdir: str):
    """What a file in `configs/` offers, for the run of a workdir: `--config=THIS_FILE:WORKDIR`."""
    return read_config(workdir).to_config_dict()


def from_json(values: dict, where: str) -> c.Experiment:
    """The experiment of `as_json`. Raises `CheckpointError` that names `where` it stood."""
    try:
        return c.Experiment.from_config_dict(values)
    except ConfigError as error:
        raise CheckpointError(f"{where} cannot be read: {error}") from error


def read_encoders(workdir: Path | str) -> dict[str, str]:
    """Fingerprints of the encoders that made a run's records; none for a run without the file.

    Raises `CheckpointError` for a damaged file.
    """
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
