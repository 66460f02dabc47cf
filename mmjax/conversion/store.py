"""The converted folder: parameters in Orbax under `params/`, and `mmjax.json`, which says what they are.

The manifest is written last, into a folder that takes its final name only when all is there: a conversion that was
interrupted leaves nothing that looks complete. Leaves are given to Orbax as promises and read when their turn to be
written comes, so that one of them, or a batch of small ones, is in memory at a time.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmjax.conversion.output_folder import PARAMS
from mmjax.conversion.recognise import MANIFEST, PIPELINE, advice
from mmjax.errors import CheckpointError
from mmjax.files import write_json
from mmjax.quiet import quiet_checkpoints
from mmjax.trees import Tree, flatten, unflatten

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


def read_manifest(folder: Path, component: str | None = None) -> dict[str, Any]:
    """The manifest of a converted folder whose files are all there, at the sizes that it says.

    Raises `CheckpointError` for anything else, with the command that makes a folder of this component.
    """
    path = folder / MANIFEST
    if not path.is_file():
        made_by = f"python -m mmjax.convert {component or PIPELINE} --source DIR --output DIR"
        raise CheckpointError(
            f"{folder}: expected a folder that mmjax.convert wrote, found no {MANIFEST} in it; "
            f"{advice(folder, component) or f'convert the weights first: {made_by}'}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8-sig"))
        schema, files = manifest["schema"], manifest["files"]
        if not isinstance(manifest["component"], str) or not all(isinstance(size, int) for size in files.values()):
            raise TypeError("of another shape")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged; convert the weights again") from error
    if schema != SCHEMA:
        raise CheckpointError(f"{path}: expected schema {SCHEMA}, found {schema}; convert the weights again")
    for name, size in files.items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found is not None and Path(name).name == MANIFEST:
            continue  # of a part, which may have been converted anew, and is checked by itself
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
        with quiet_checkpoints(), ocp.Checkpointer(handler) as checkpointer:
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
