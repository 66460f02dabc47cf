"""What a run has trained as a converted folder of a component, as if somebody had published it."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax import trees
from mmjax.conversion import plans, store
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.plans import Report
from mmjax.versions import versions


def write_component(
    component: str,
    record: Any,
    params: trees.Tree,
    output: Path,
    *,
    source: Mapping[str, Any],
    began: float,
    dtype: np.dtype | None = None,
    overwrite: bool = False,
    notes: Sequence[str] = (),
) -> Report:
    """Writes the folder that `load_component` reads.

    Args:
      component: its name in `mmjax.conversion.COMPONENTS`. record: its sizes.
      params: its parameters.
      source: of the manifest: name of what they are of, and hashes.
      began: `time.monotonic()` when the command began, for the report.
      dtype: to cast to; by default each leaf keeps its own.
      overwrite: replace what mmjax converted there before.

    Raises `ConversionError` for an output that is taken or a disk without room.
    """
    leaves = {path: _promised(leaf, dtype) for path, leaf in trees.flatten(params).items()}
    nbytes = sum(leaf.nbytes for leaf in leaves.values())
    with new_folder(output, nbytes, overwrite, component) as folder:
        with plans.progress(f"converting {component}", nbytes) as bar:
            store.write_params(folder, leaves, bar.update)
        manifest = {
            "component": component,
            "config": dataclasses.asdict(record),
            "source": dict(source),
            "versions": versions(),
            "leaves": store.describe(leaves),
        }
        store.write_manifest(folder, manifest, store.all_files(folder))
    return Report(
        output=output,
        parameters=trees.count(params),
        nbytes=nbytes,
        dtypes=tuple(sorted({str(leaf.dtype) for leaf in leaves.values()})),
        seconds=time.monotonic() - began,
        notes=tuple(notes),
    )


def _promised(leaf: Any, target: np.dtype | None) -> store.PromisedLeaf:
    dtype = np.dtype(leaf.dtype if target is None else target)
    return store.PromisedLeaf(leaf.shape, dtype, lambda: np.asarray(leaf).astype(dtype, copy=False))
