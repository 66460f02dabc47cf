"""The converted folder: parameters in Orbax under `params/`, and `mmjax.json`, which says what they are.

The manifest is written last, into a folder that takes its final name only when all is there: a conversion that was
interrupted leaves nothing that looks complete. Leaves are given to Orbax as promises and read when their turn to be
written comes, so that one of them, or a batch of small ones, is in memory at a time.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmjax.errors import CheckpointError, ConversionError
from mmjax.files import write_json
from mmjax.trees import Tree, flatten, unflatten

MANIFEST = "mmjax.json"
PARAMS = "params"
SCHEMA = 1
_CHUNK_BYTES = 64 * 2**20  # of a leaf in storage: what a device reads when it needs a part of the leaf
_FILE_BYTES = 64 * 2**20  # of a data file, gathered in memory: T5-XXL peaks at 3.1 GiB, with Orbax's 2 GiB at 3.9
_BATCH_BYTES = 256 * 2**20  # of small leaves that are written or read together


@dataclasses.dataclass(frozen=True)
class PromisedLeaf:
    """A leaf whose values are read when it is written."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@contextlib.contextmanager
def new_folder(output: Path, needed_bytes: int, overwrite: bool, marker: str) -> Iterator[Path]:
    """A folder to fill, which becomes `output` when the block ends well and vanishes when it does not.

    An existing `output` is replaced only when `overwrite` says so and it holds `marker`, as what we write does.
    Raises `ConversionError` before anything is written when `output` is taken or the disk too small.
    """
    _check_free(output, needed_bytes, overwrite, marker)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent / f"{output.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        replaced = output.parent / f"{output.name}.replaced-{os.getpid()}"
        if output.exists():
            output.rename(replaced)
        partial.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise ConversionError(f"{output} could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_params(folder: Path, leaves: dict[str, PromisedLeaf], written: Callable[[int], Any]) -> None:
    """Writes `{path: promised leaf}` as an Orbax checkpoint, leaf by leaf; `written` hears of each leaf's bytes."""
    handlers = ocp.type_handlers
    registry = handlers.create_type_handler_registry(
        (PromisedLeaf, _PromisedLeafHandler(written)),
        (jax.Array, handlers.ArrayHandler()),  # none are saved; Orbax warns without it
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=registry, use_compression=False)
    tree = unflatten(leaves)
    save_args = jax.tree.map(lambda leaf: ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES), tree)
    with ocp.Checkpointer(handler) as checkpointer:
        save = ocp.args.PyTreeSave(tree, save_args, ocdbt_target_data_file_size=_FILE_BYTES)
        checkpointer.save((folder / PARAMS).resolve(), args=save)


def write_manifest(folder: Path, manifest: dict[str, Any], files: Iterable[Path]) -> None:
    """Writes `mmjax.json`: what the caller says, and the sizes of those files of the folder that must be there."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_json(folder / MANIFEST, {"schema": SCHEMA, **manifest, "files": sizes}, indent=1)


def describe(leaves: dict[str, PromisedLeaf]) -> dict[str, list]:
    """{path: [dtype, *shape]}, for the manifest; `described_leaves` is the inverse."""
    return {path: [str(leaf.dtype), *leaf.shape] for path, leaf in leaves.items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a converted folder whose files are all there, at the sizes that it says.

    Raises `CheckpointError` for anything else.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: expected a folder that mmjax.convert wrote, found no {MANIFEST} in it. "
            "Convert the weights first: python -m mmjax.convert transformer --source DIR --output DIR"
        )
    try:
        manifest = json.loads(path.read_text())
        schema, files = manifest["schema"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged; convert the weights again") from error
    if schema != SCHEMA:
        raise CheckpointError(f"{path}: expected schema {SCHEMA}, found {schema}; convert the weights again")
    for name, size in files.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found:,} bytes of {size:,}"
            raise CheckpointError(f"{folder / name} {state}: the folder is incomplete; copy or convert it again")
    return manifest


def described_leaves(manifest: dict[str, Any]) -> Tree:
    """The stored tree as `jax.ShapeDtypeStruct`s."""
    described = manifest["leaves"].items()
    return unflatten({path: jax.ShapeDtypeStruct(shape, dtype) for path, (dtype, *shape) in described})


def read_params(folder: Path, abstract: Tree) -> Tree:
    """The leaves that `abstract` names (some or all of them), with its dtypes and shardings.

    `abstract` has `jax.ShapeDtypeStruct`s for leaves; without a sharding a leaf comes as a numpy array.
    """
    restore_args = jax.tree.map(_restore_args, abstract)
    args = ocp.args.PyTreeRestore(item=abstract, restore_args=restore_args, partial_restore=True)
    try:
        handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=_concurrent_gb(abstract))
        with ocp.Checkpointer(handler) as checkpointer:
            return checkpointer.restore((folder / PARAMS).resolve(), args=args)
    except Exception as error:  # Orbax wraps what TensorStore says in a bare Exception
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:300]
        raise CheckpointError(f"{folder / PARAMS} cannot be read ({reason}); copy or convert it again") from error


def read_leaves(folder: Path, leaves: dict[str, jax.ShapeDtypeStruct]) -> Iterator[tuple[str, np.ndarray]]:
    """(path, values) of each leaf as a numpy array; a large leaf, or a batch of small ones, is in memory at a time."""
    paths = list(leaves)
    for batch in _batches([math.prod(leaves[path].shape) * leaves[path].dtype.itemsize for path in paths]):
        values = flatten(read_params(folder, unflatten({path: leaves[path] for path in paths[batch]})))
        while values:
            yield values.popitem()


def all_files(folder: Path) -> list[Path]:
    """Every file under the folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


class _PromisedLeafHandler(ocp.type_handlers.NumpyHandler):
    """Stores promised leaves as Orbax stores numpy arrays, each batch read after the one before is on disk."""

    def __init__(self, written: Callable[[int], Any]):
        super().__init__(deepcopy_host_arrays=False)
        self._written = written

    async def serialize(self, values, infos, args=None):
        for batch in _batches([value.nbytes for value in values]):
            await self._write(values[batch], infos[batch], args[batch])
        return []

    async def _write(self, values, infos, args):
        """A function of its own, so that its leaves are gone when the next ones are read."""
        for commit in await super().serialize([value.read() for value in values], infos, args):
            commit.result()
        self._written(sum(value.nbytes for value in values))


def _batches(sizes: list[int]) -> Iterator[slice]:
    """Neighbours of at most `_BATCH_BYTES` together, a larger leaf alone: every batch costs a visit to Orbax."""
    start = 0
    for end in range(1, len(sizes) + 1):
        if end == len(sizes) or sum(sizes[start : end + 1]) > _BATCH_BYTES:
            yield slice(start, end)
            start = end


def _restore_args(leaf: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
    if leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    return ocp.ArrayRestoreArgs(dtype=leaf.dtype, sharding=leaf.sharding, global_shape=leaf.shape)


def _concurrent_gb(abstract: Tree) -> int:
    """What Orbax may have in flight beside the result: room for the largest leaf, whatever dtype it is stored in."""
    largest = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))
    return 1 + math.ceil(largest * 4 / 1e9)


def _check_free(output: Path, needed_bytes: int, overwrite: bool, marker: str) -> None:
    if output.exists() and (output.is_file() or any(output.iterdir())):
        if not overwrite:
            raise ConversionError(f"{output} is there already: give another --output, or --overwrite to replace it")
        if not (output / marker).is_file():
            raise ConversionError(f"{output} holds no {marker}, so mmjax did not write it; it is not overwritten")
    parent = next(parent for parent in output.resolve().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        left = ", ".join(path.name for path in output.parent.glob(f"{output.name}.partial-*"))
        hint = f". Interrupted conversions left {left} there: delete them" if left else ""
        raise ConversionError(
            f"{output} needs {needed_bytes / 1e9:.1f} GB, {parent} has {free / 1e9:.1f} GB free{hint}"
        )
