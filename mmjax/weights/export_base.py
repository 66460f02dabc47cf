"""A run's base transformer as a converted folder: `python -m mmjax.convert transformer --source RUN`.

What a run trained of the transformer, alone or with a part of it frozen, becomes what `train.base` and `--model` take,
as if somebody had published it.
"""

import dataclasses
import time
from pathlib import Path

from mmjax.conversion import plans
from mmjax.conversion.plans import Report
from mmjax.conversion.transformer import COMPONENT as TRANSFORMER
from mmjax.models.build import abstract_params
from mmjax.trainable import split_adapter
from mmjax.weights import base as bases
from mmjax.weights import parameters, runs
from mmjax.weights.component_of_run import write_component


def convert_base(
    workdir: str | Path,
    output: str | Path,
    *,
    step: int | str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes the transformer of a run, averaged where the run keeps an average, without face branch and adapter.

    Args:
      step: of the run's checkpoint, or "best"; by default the last one.
      dtype: "float32" or "bfloat16" casts; by default leaves keep the run's dtypes.

    Raises:
      CheckpointError: no run, no such step, or one that is damaged. ConversionError: an output that is taken.
    """
    began, workdir, output = time.monotonic(), Path(workdir), Path(output)
    target, config = plans.dtype_of(dtype), runs.read_config(workdir)
    _, base = split_adapter(abstract_params(config, bases.one_device()))
    step = parameters.complete_step(workdir, step)
    params = parameters.load_part(workdir, base, step)["transformer"]
    plans.not_onto_itself(workdir, output)
    report = write_component(
        TRANSFORMER.name,
        config.model.transformer,
        params,
        output,
        source={"name": f"{config.name}, step {step}", "sha256": {}},
        began=began,
        dtype=target,
        overwrite=overwrite,
    )
    which = "averaged" if config.train.ema_decay > 0 else "raw"
    notes = (f"{config.name}, step {step}: {which} weights", f"base: {bases.of_folder(output)}")
    return dataclasses.replace(report, notes=notes)
