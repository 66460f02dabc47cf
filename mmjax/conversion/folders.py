"""Converting a component's folder, both ways, and loading what was converted."""

import time
from pathlib import Path
from typing import Any

import jax

from mmjax.conversion import plans, rounding, soundness, store
from mmjax.conversion.component import Component
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.plans import Report
from mmjax.conversion.recognise import ADAPTER
from mmjax.conversion.registry import PIPELINE, component
from mmjax.conversion.transformer import COMPONENT as TRANSFORMER
from mmjax.errors import CheckpointError, ConfigError, ConversionError, TreeError
from mmjax.trees import Tree, check_same, flatten, unflatten
from mmjax.validation import validated_record

_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)  # what a manifest of other values raises
MAX_SHARD_BYTES = 5 * 10**9


def convert(
    name: str,
    source: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> Report:
    """Converts a published component into a folder that `load_component` reads.

    Args:
      name: the component, such as "transformer".
      source: a published folder, file or hub id.
      dtype: "float32" or "bfloat16" casts; by default leaves keep the source's dtype.
      tokenizer: folder of a text encoder's tokenizer; by default the one beside the source. It becomes `tokenizer/`.
      overwrite: replace what mmjax converted there before; other files in the folder stay.

    Raises:
      ConversionError: with all that does not fit, before anything large is read. Nothing is left behind.
    """
    started, output = time.monotonic(), Path(output)
    plan = plans.forward(component(name), str(source), dtype, tokenizer)
    plans.not_onto_itself(plan.source.files[0].parent, output)
    with (
        new_folder(output, plan.nbytes, overwrite, name) as folder,
        plans.progress(f"converting {name}", plan.nbytes) as bar,
    ):
        plan.write(folder, bar.update)
    return plans.report(output, [plan], time.monotonic() - started, plan.notes())


def convert_back(
    name: str,
    source: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Report:
    """Writes a converted folder as it is published: `config.json` and sharded safetensors.

    The inverse of `convert`, bit for bit unless `dtype` casts, less what mmjax has no use for; `from_pretrained` of
    diffusers and transformers reads the result. Raises `CheckpointError` for a folder that is not complete,
    `ConversionError` for an output that is taken.
    """
    started, source, output = time.monotonic(), Path(source), Path(output)
    plan = open_backward(source, name, dtype)
    plans.not_onto_itself(source, output)
    with new_folder(output, plan.nbytes, overwrite, name, published=True) as folder:
        with plans.progress(f"writing {name}", plan.nbytes) as bar:
            plan.write(folder, bar.update, max_shard_bytes)
        for file in plan.tokenizer:
            plans.copy_file(file, folder / plans.TOKENIZER / file.name)
    return plans.report(output, [plan], time.monotonic() - started)


def open_backward(source: Path, name: str, dtype: str | None) -> plans.Backward:
    """The plan that writes a converted folder of the component `name` as it is published."""
    kind, config, stored = _open_converted(source, component(name).name)
    return plans.backward(kind, source, config, stored, dtype)


def load_component(
    folder: str | Path, shardings: Tree | jax.sharding.Sharding | None = None, dtype: str | Tree | None = None
) -> tuple[Any, Tree]:
    """A converted folder as (configuration record, parameters). Each device reads its own share only.

    float16 weights that become bfloat16 are rounded: how much that loses is measured and logged. A tree of dtypes keeps
    exact what is not to be rounded.

    Args:
      shardings: one sharding, or a tree of them like the parameters'
        (`mmjax.sharding.param_shardings(mesh, mmjax.conversion.abstract_transformer(config))`); without it everything
        lands on the first device.
      dtype: one dtype, or a tree of them like the parameters'; without it leaves keep the dtype in which they are
        stored.

    Raises:
      CheckpointError: the folder is incomplete, does not fit, or holds what cannot be weights.
    """
    folder = Path(folder)
    kind, config, stored = _open_converted(folder)
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _, one=shardings: one, stored)
    if dtype is None:
        dtype = jax.tree.map(lambda leaf: leaf.dtype, stored)
    elif not isinstance(dtype, dict):
        dtype = jax.tree.map(lambda _, one=dtype: one, stored)
    wanted = jax.tree.map(
        lambda leaf, place, kept: jax.ShapeDtypeStruct(leaf.shape, kept, sharding=place), stored, shardings, dtype
    )
    setting = "precision.frozen" if kind.name == TRANSFORMER.name else "precision.compute"
    return config, _read_rounded(folder, flatten(stored), flatten(wanted), setting)


def read_record(folder: str | Path, name: str | None = None) -> Any:
    """The configuration record of a converted folder, without its parameters.

    Raises `CheckpointError` when the folder is incomplete, or is not of the component `name`.
    """
    return _open_converted(Path(folder), name)[1]


def _open_converted(folder: Path, name: str | None = None) -> tuple[Component, Any, Tree]:
    """(component, record, stored tree's shapes and dtypes), checked against the model."""
    manifest = store.read_manifest(folder, name)
    if manifest["component"] == ADAPTER:
        raise CheckpointError(f"{folder}: expected a converted {name or 'component'}, found a trained adapter")
    if manifest["component"] == PIPELINE:
        parts = ", ".join(str(folder / part) for part in manifest.get("parts", ()))
        raise CheckpointError(f"{folder}: expected one component, found a whole {PIPELINE}; give one of {parts}")
    if name is not None and manifest["component"] != name:
        raise CheckpointError(f"{folder}: expected a converted {name}, found a {manifest['component']}")
    try:
        kind = component(manifest["component"])
        config = validated_record(kind.record, manifest["config"])
        stored = store.described_leaves(manifest)
        check_same(kind.shapes(config), stored, str(folder))
    except (ConfigError, ConversionError, TreeError, *_DAMAGED) as error:
        raise CheckpointError(
            f"{folder}: damaged, or written by another version of mmjax ({error}); convert it again"
        ) from error
    return kind, config, stored


def _read_rounded(folder: Path, stored: dict, wanted: dict, setting: str) -> Tree:
    """The leaves as `wanted`; float16 that becomes bfloat16 is read as it is and rounded here, a leaf at a time."""
    rounded = [path for path, leaf in wanted.items() if rounding.is_rounded(stored[path].dtype, leaf.dtype)]
    as_stored = {path: wanted[path].update(dtype=rounding.FROM) for path in rounded}
    params, loss = flatten(store.read_params(folder, unflatten(wanted | as_stored))), rounding.RoundingLoss()
    for path in rounded:
        params[path], lost = rounding.round_leaf(params[path])
        loss += lost
    rounding.report(str(folder), loss, setting)
    soundness.check_params(unflatten(params), str(folder))
    return unflatten(params)
