"""A run's base transformer as a converted folder: `python -m mmjax.convert transformer --source RUN`.

What a run trained of the transformer, alone or with a part of it frozen, becomes what `train.base` and `--model` take,
as if somebody had published it.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np

from mmjax import trees
from mmjax.conversion import plans, store
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.plans import Report
from mmjax.conversion.transformer import COMPONENT as TRANSFORMER
from mmjax.models.build import abstract_params
from mmjax.trainable import split_adapter
from mmjax.versions import versions
from mmjax.weights import base as bases
from mmjax.weights import parameters, runs


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
    started, workdir, output = time.monotonic(), Path(workdir), Path(output)
    target, config = plans.dtype_of(dtype), runs.read_config(workdir)
    _, base = split_adapter(abstract_params(config, bases.one_device()))
    step = parameters.complete_step(workdir, step)
    params = trees.flatten(parameters.load_part(workdir, base, step)["transformer"])
    leaves = {path: _promise(leaf, np.dtype(target or leaf.dtype)) for path, leaf in params.items()}
    nbytes = sum(leaf.nbytes for leaf in leaves.values())
    plans.not_onto_itself(workdir, output)
    with new_folder(output, nbytes, overwrite, TRANSFORMER.name) as folder:
        with plans.progress(f"converting {TRANSFORMER.name}", nbytes) as bar:
            store.write_params(folder, leaves, bar.update)
        manifest = {
            "component": TRANSFORMER.name,
            "config": dataclasses.asdict(config.model.transformer),
            "source": {"name": f"{config.name}, step {step}", "sha256": {}},
            "versions": versions(),
            "leaves": store.describe(leaves),
        }
        store.write_manifest(folder, manifest, store.all_files(folder))
    which = "averaged" if config.train.ema_decay > 0 else "raw"
    return Report(
        output=output,
        parameters=sum(int(np.prod(leaf.shape)) for leaf in leaves.values()),
        nbytes=nbytes,
        dtypes=tuple(sorted({str(leaf.dtype) for leaf in leaves.values()})),
        seconds=time.monotonic() - started,
        notes=(f"{config.name}, step {step}: {which} weights", f"base: {bases.of_folder(output)}"),
    )


def _promise(leaf, dtype: np.dtype) -> store.PromisedLeaf:
    return store.PromisedLeaf(leaf.shape, dtype, lambda: np.asarray(leaf).astype(dtype, copy=False))
