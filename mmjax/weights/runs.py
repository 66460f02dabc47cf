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
from mmjax.conversion.recognise import advice
from mmjax.errors import CheckpointError, ConfigError
from mmjax.training_settings import TrainingExperiment
from mmjax.vae_experiment import VAEExperiment, experiment_of


def read_config(workdir: Path | str) -> c.Experiment:
    """The diffusion experiment of a workdir. Raises `CheckpointError` as `read_experiment` does, and for a VAE's."""
    found = read_experiment(workdir)
    if not isinstance(found, c.Experiment):
        raise CheckpointError(
            f"{workdir}: expected the run of a diffusion model, found one that trains a VAE; python -m mmjax.convert "
            "vae --source RUN --output DIR makes the folder of it that autoencoder.weights takes"
        )
    return found


def read_experiment(workdir: Path | str) -> c.Experiment | VAEExperiment:
    """The experiment of a workdir, of either kind. Raises `CheckpointError` when there is none, or it is damaged."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        known = advice(workdir)
        raise CheckpointError(
            f"{workdir}: expected the workdir of a training run, found no config.json in it{known and f'; {known}'}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if isinstance(values, dict) and not {"model", "vae"} & values.keys() and (known := advice(workdir)):
        raise CheckpointError(f"{workdir}: expected the workdir of a training run; {known}")
    return from_json(values, f"{path}")


def is_workdir(path: Path | str) -> bool:
    """Whether a training run lies there, and not a published model, which has a config.json as well."""
    return (Path(path) / "config.json").is_file() and (Path(path) / "checkpoints").is_dir()


def get_config(workdir: str):
    """What a file in `configs/` offers, for the run of a workdir: `--config=THIS_FILE:WORKDIR`."""
    return read_experiment(workdir).to_config_dict()


def from_json(values: dict, where: str) -> c.Experiment | VAEExperiment:
    """The experiment of `as_json`. Raises `CheckpointError` that names `where` it stood."""
    try:
        return experiment_of(values)
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
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if not all(isinstance(each, str) for each in (*found.keys(), *found.values())):
            raise ValueError("expected names and fingerprints")
        return found
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; delete it, and the next run writes it anew") from error


def as_json(config: TrainingExperiment) -> dict:
    """The experiment as plain JSON values, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
