"""What may change when a run is resumed: settings marked `free` in `mmjax.config`, devices and processes; not encoders.

Free are paths, how things are computed (`Runtime`, `Mesh`, `Precision`, `train.accumulate`, `data.workers`), what is
done every so many steps and with how many samples, `Sampling`, and `train.steps`. The order of the data may become
another one where that is asked for. Each check refuses with every difference named. What is compared stands in the
workdir (`mmjax.training.workdir`) and in each checkpoint's `meta`.
"""

import math

from mmjax import validation
from mmjax.errors import CheckpointError, DataError
from mmjax.records import pipeline
from mmjax.training.optimizer import learning_rate
from mmjax.training_settings import TrainingExperiment
from mmjax.versions import versions
from mmjax.weights.runs import as_json, from_json

SCHEMA = 1  # of checkpoints


def config_changes(saved: TrainingExperiment, now: TrainingExperiment) -> str:
    """One line for each setting that differs and may not; empty when there is none.

    Another `train.steps` is free: it stretches the cosine of the learning rate from here on (`notes`).
    """
    kind = type(now)
    if type(saved) is not kind:
        return f"  the kind of experiment: was {type(saved).__name__}, is {kind.__name__}"
    saved, now = validation.settings_of(saved), validation.settings_of(now)
    changed = [key for key in now if saved[key] != now[key] and not validation.is_free(kind, key)]
    return "\n".join(f"  {key}: was {saved[key]}, is {now[key]}" for key in sorted(changed))


def notes(saved: TrainingExperiment, now: TrainingExperiment, step: int) -> list[str]:
    """What a run that goes on after `step` has to say of settings that changed: a line each.

    The learning rate jumps where `train.steps` stretches its cosine; weights to start from are not read any more.
    """
    lines, steps = [], (saved.train.steps, now.train.steps)
    old, new = (float(learning_rate(now.optim, total)(step)) for total in steps)
    if not math.isclose(old, new, rel_tol=1e-6):
        lines.append(
            f"train.steps was {steps[0]}, is {steps[1]}, which stretches the learning rate's cosine: step {step + 1} "
            f"has {new:.3g}, not {old:.3g}"
        )
    for name in now.train.STARTS:
        given = getattr(now.train, name)
        if given and given != getattr(saved.train, name):
            lines.append(f"train.{name} = {given} has no effect: this run goes on from its own weights")
    return lines


def order_notes(meta: dict, data_order: str, step: int) -> list[str]:
    """What a run that goes on after `step` has to say of another order of the data: a line, or none."""
    if not (order := pipeline.order_changes(meta["data_order"], data_order)):
        return []
    return [f"the records come in another order from step {step + 1} on, as --new_data_order allows: {order}"]


def make_meta(config: TrainingExperiment, data_order: str) -> dict:
    """Where a checkpoint comes from, as JSON: what `check_meta` compares, and the versions that made it."""
    return {"schema": SCHEMA, "config": as_json(config), "data_order": data_order, "versions": versions()}


def check_meta(
    meta: dict, config: TrainingExperiment, data_order: str, where: str, new_data_order: bool = False
) -> None:
    """Refuses a checkpoint whose experiment or order of the data is another one (`CheckpointError`, `DataError`).

    With `new_data_order` the order may be another one.
    """
    if meta.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{where}: expected checkpoint schema {SCHEMA}, found {meta.get('schema')}; start a new run"
        )
    if (order := pipeline.order_changes(meta["data_order"], data_order)) and not new_data_order:
        raise DataError(
            f"{where}: the records came in an order that cannot be gone on with: {order}; resume with what it was, or "
            "give --new_data_order to go on in the new order"
        )
    changes = config_changes(from_json(meta["config"], where), config)
    if changes:
        raise CheckpointError(
            f"{where} was saved with other settings:\n{changes}\n  give the saved ones, or a new --workdir"
        )
