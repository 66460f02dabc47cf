"""What may change when a run is resumed: settings marked `free` in `mmjax.config`; not the data order, nor encoders.

Free are paths, how things are computed (`Runtime`, `Mesh`, `Precision`, `train.accumulate`), what is done every so many
steps and with how many samples, `Sampling`, and `train.steps`. Each check refuses with every difference named. What is
compared stands in the workdir (`mmjax.weights.runs`) and in each checkpoint's `meta`.
"""

from pathlib import Path

import jax

from mmjax import config as c
from mmjax import files, validation
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.records import pipeline
from mmjax.versions import versions
from mmjax.weights.runs import as_json, from_json, read_config, read_encoders

SCHEMA = 1  # of checkpoints


def config_changes(saved: c.Experiment, now: c.Experiment) -> str:
    """One line for each setting that differs and may not; empty when there is none.

    Another `train.steps` is free: it stretches the cosine of the learning rate from here on.
    """
    saved, now = validation.settings_of(saved), validation.settings_of(now)
    changed = [key for key in now if saved[key] != now[key] and not validation.is_free(c.Experiment, key)]
    return "\n".join(f"  {key}: was {saved[key]}, is {now[key]}" for key in sorted(changed))


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


def make_meta(config: c.Experiment, data_order: str) -> dict:
    """Where a checkpoint comes from, as JSON: what `check_meta` compares, and the versions that made it."""
    return {"schema": SCHEMA, "config": as_json(config), "data_order": data_order, "versions": versions()}


def check_meta(meta: dict, config: c.Experiment, data_order: str, where: str) -> None:
    """Refuses a checkpoint whose experiment or order of the data is another one (`CheckpointError`, `DataError`)."""
    if meta.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{where}: expected checkpoint schema {SCHEMA}, found {meta.get('schema')}; start a new run"
        )
    pipeline.check_order(meta["data_order"], data_order)
    changes = config_changes(from_json(meta["config"], where), config)
    if changes:
        raise CheckpointError(
            f"{where} was saved with other settings:\n{changes}\n  give the saved ones, or a new --workdir"
        )
