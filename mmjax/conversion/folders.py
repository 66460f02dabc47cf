"""Converting a component's folder, both ways, and loading what was converted."""

import dataclasses
import hashlib
import json
import math
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from mmjax.conversion import engine, safetensors_io, store
from mmjax.conversion.component import Component
from mmjax.conversion.components import component
from mmjax.conversion.engine import Leaf
from mmjax.conversion.source import Source
from mmjax.errors import CheckpointError, ConfigError, ConversionError, TreeError
from mmjax.trees import Tree, check_same, flatten
from mmjax.validation import validated_record

MAX_SHARD_BYTES = 5 * 10**9
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion wrote."""

    output: Path
    parameters: int
    nbytes: int
    dtypes: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        size = f"{self.nbytes / 1e9:.2f} GB" if self.nbytes >= 1e7 else f"{self.nbytes / 1e6:.2f} MB"
        what = f"{self.parameters:,} parameters, {size} of {' and '.join(self.dtypes)}"
        note = ""
        if "float16" in self.dtypes:
            note = "; float16 is kept as published, bit for bit, and cast to the run's dtype when it is loaded"
        return f"wrote {self.output}: {what}, in {self.seconds:.1f} s{note}"


def convert(
    name: str, source: str | Path, output: str | Path, *, dtype: str | None = None, overwrite: bool = False
) -> Report:
    """Converts a published component into a folder that `load_component` reads.

    `name` is the component ("transformer"), `source` a diffusers folder, file or hub id. Leaves keep the source's
    dtype unless `dtype` ("float32" or "bfloat16") casts them. Raises `ConversionError` that lists all that does not
    fit, before anything large is read, and leaves nothing behind when it fails.
    """
    started, output = time.monotonic(), Path(output)
    target = _dtype(dtype)
    kind = component(name)
    opened = kind.open(str(source))
    _not_onto_itself(opened.files[0].parent, output)
    leaves = kind.leaves(opened.config)
    shapes = {key: tuple(tensor.shape) for key, tensor in kind.used(opened.tensors).items()}
    engine.check(leaves, shapes, f"{source} as {name}", kind.causes(opened.config))
    promised = {leaf.path: _promise(leaf, opened, target) for leaf in leaves}
    total = sum(leaf.nbytes for leaf in promised.values())
    with store.new_folder(output, total, overwrite, store.MANIFEST) as folder:
        with _progress(f"converting {name}", total) as bar:
            store.write_params(folder, promised, bar.update)
        store.write_manifest(folder, _manifest(kind, opened), promised)
    return _report(output, promised.values(), started)


def convert_back(
    name: str,
    source: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Report:
    """Writes a converted folder as diffusers publishes it: `config.json` and sharded safetensors.

    The inverse of `convert`, bit for bit unless `dtype` casts; `from_pretrained` of diffusers reads the result.
    Raises `CheckpointError` for a folder that is not complete, `ConversionError` for an output that is taken.
    """
    started, source, output = time.monotonic(), Path(source), Path(output)
    target = _dtype(dtype)
    kind, config, stored = _open_converted(source, name)
    _not_onto_itself(source, output)
    leaves, stored = kind.leaves(config), flatten(stored)
    dtypes = {leaf.path: target or np.dtype(stored[leaf.path].dtype) for leaf in leaves}
    planned = _in_block_order({key: (leaf.source_shape, dtypes[leaf.path]) for leaf in leaves for key in leaf.keys})
    total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in planned.values())
    with store.new_folder(output, total, overwrite, "config.json") as folder:
        writer = safetensors_io.ShardedWriter(folder, planned, max_shard_bytes)
        with _progress(f"writing {name}", total) as bar:
            for leaf in leaves:
                bar.update(_write_back(writer, leaf, source, stored[leaf.path], dtypes[leaf.path]))
        writer.close()
        (folder / "config.json").write_text(json.dumps(kind.published_config(config), indent=2) + "\n")
    described = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in planned.values()]
    return _report(output, described, started)


def load_component(
    folder: str | Path, shardings: Tree | jax.sharding.Sharding | None = None, dtype: str | None = None
) -> tuple[Any, Tree]:
    """A converted folder as (configuration record, parameters).

    `shardings` is one sharding, or a tree of them like the parameters'
    (`mmjax.partition.param_shardings(mesh, mmjax.conversion.abstract_transformer(config))`); without it everything
    lands on the first device. `dtype` casts while reading; without it leaves keep the dtype in which they are stored.
    Each device reads its own share only. Raises `CheckpointError` when the folder is incomplete or does not fit.
    """
    folder = Path(folder)
    _, config, stored = _open_converted(folder)
    if shardings is None:
        shardings = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    if isinstance(shardings, jax.sharding.Sharding):
        one = shardings
        shardings = jax.tree.map(lambda leaf: one, stored)
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=sharding),
        stored,
        shardings,
    )
    return config, store.read_params(folder, abstract)


def read_record(folder: str | Path) -> Any:
    """The configuration record of a converted folder, without its parameters."""
    return _open_converted(Path(folder))[1]


def _open_converted(folder: Path, name: str | None = None) -> tuple[Component, Any, Tree]:
    """(component, record, stored tree's shapes and dtypes), checked against the model."""
    manifest = store.read_manifest(folder)
    if name is not None and manifest["component"] != name:
        raise CheckpointError(f"{folder}: expected a converted {name}, found a {manifest['component']}")
    kind = component(manifest["component"])
    try:
        config = validated_record(kind.record, manifest["config"])
        stored = store.described_leaves(manifest)
        check_same(kind.shapes(config), stored, str(folder))
    except (ConfigError, TreeError) as error:
        raise CheckpointError(f"{folder}: written by another version of mmjax ({error}); convert it again") from error
    return kind, config, stored


def _promise(leaf: Leaf, source: Source, target: np.dtype | None) -> store.PromisedLeaf:
    found = sorted({str(source.tensors[key].dtype) for key in leaf.keys})
    if target is None and len(found) > 1:
        raise ConversionError(
            f"{leaf.keys[0]} and its like in other blocks are of mixed dtypes ({', '.join(found)}) and share one "
            "leaf: say in which dtype, with --dtype float32 or --dtype bfloat16"
        )
    dtype = np.dtype(source.tensors[leaf.keys[0]].dtype) if target is None else target
    return store.PromisedLeaf(leaf.shape, dtype, lambda: engine.assemble(leaf, source.read, dtype))


def _write_back(
    writer: safetensors_io.ShardedWriter, leaf: Leaf, source: Path, stored: jax.ShapeDtypeStruct, dtype: np.dtype
) -> int:
    """Writes one leaf's tensors, and lets go of it. Returns its size in bytes."""
    values = store.read_leaf(source, leaf.path, stored).astype(dtype, copy=False)
    for key, tensor in engine.take_apart(leaf, values):
        writer.write(key, tensor)
    return values.nbytes


def _progress(what: str, total: int) -> tqdm.tqdm:
    """A bar over bytes, on a terminal only."""
    return tqdm.tqdm(desc=what, total=total, unit="B", unit_scale=True, unit_divisor=1000, disable=None)


def _manifest(kind: Component, source: Source) -> dict[str, Any]:
    packages = ("mmjax", "jax", "flax", "orbax-checkpoint", "numpy")
    return {
        "component": kind.name,
        "config": dataclasses.asdict(source.config),
        "source": {"name": source.name, "sha256": {path.name: _sha256(path) for path in source.files}},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _report(output: Path, leaves: Any, started: float) -> Report:
    sizes = [(math.prod(leaf.shape), np.dtype(leaf.dtype)) for leaf in leaves]
    return Report(
        output=output,
        parameters=sum(size for size, _ in sizes),
        nbytes=sum(size * dtype.itemsize for size, dtype in sizes),
        dtypes=tuple(sorted({str(dtype) for _, dtype in sizes})),
        seconds=time.monotonic() - started,
    )


def _dtype(name: str | None) -> np.dtype | None:
    if name is None or name in DTYPES:
        return name and jax.numpy.dtype(name)
    why = ": CogVideoX overflows in float16 and gives black videos" if name == "float16" else ""
    raise ConversionError(f"dtype {name!r}: expected {' or '.join(DTYPES)}, or none to keep the source's{why}")


def _not_onto_itself(source: Path, output: Path) -> None:
    if output.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConversionError(f"{output} holds the source, {source}: give another --output")


def _in_block_order(planned: dict[str, Any]) -> dict[str, Any]:
    """Keys of one block together, so that a shard holds whole blocks, as published shards do."""
    key = engine.block_order
    return dict(sorted(planned.items(), key=lambda item: key(item[0])))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source checkout"
