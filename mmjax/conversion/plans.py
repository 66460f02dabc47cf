"""One component's conversion as a plan, there or back: all that can be wrong is known before anything is written.

Making a plan reads headers and `config.json` alone. A whole pipeline is several plans that are made before the first of
them is written.
"""

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmjax import files
from mmjax.conversion import engine, safetensors_io, soundness, store
from mmjax.conversion.component import Component
from mmjax.conversion.engine import Leaf
from mmjax.conversion.recognise import check_source
from mmjax.conversion.source import Source, tokenizer_files
from mmjax.errors import CheckpointError, ConversionError
from mmjax.trees import Tree, flatten
from mmjax.versions import versions

if TYPE_CHECKING:
    from tqdm import tqdm

DTYPES = ("float32", "bfloat16")
TOKENIZER = "tokenizer"  # folder of a converted text encoder's tokenizer


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion wrote. `notes` are sentences that the user should know."""

    output: Path
    parameters: int
    nbytes: int
    dtypes: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = f"{self.nbytes / 1e9:.2f} GB" if self.nbytes >= 1e7 else f"{self.nbytes / 1e6:.2f} MB"
        what = f"{self.parameters:,} parameters, {size} of {' and '.join(self.dtypes)}"
        lines = [f"wrote {self.output}: {what}, in {self.seconds:.1f} s"]
        return "\n".join(lines + [f"  {note}" for note in self.notes])


@dataclasses.dataclass(frozen=True)
class Forward:
    """A published component that is known to fit, and how its leaves will be read."""

    kind: Component
    source: Source
    leaves: dict[str, store.PromisedLeaf]
    unused: dict[str, str]  # source keys, grouped -> why they are left out

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in self.leaves.values())

    @property
    def sizes(self) -> list[tuple[int, np.dtype]]:
        """(parameters, dtype) of each leaf."""
        return [(math.prod(leaf.shape), leaf.dtype) for leaf in self.leaves.values()]

    def notes(self) -> list[str]:
        """What the user should know of the result."""
        found = [*self.source.notes, *(f"left out: {keys} ({why})" for keys, why in self.unused.items())]
        if any(leaf.dtype == np.float16 for leaf in self.leaves.values()):
            found.append("float16 is kept as published, bit for bit, and cast to the run's dtype when it is loaded")
        if self.kind.tokenizer and not self.source.tokenizer:
            found.append(
                "no tokenizer was found beside the source, and prompts cannot be encoded without it: convert again "
                "with --tokenizer DIR, or copy its files into the folder tokenizer/ of the result"
            )
        return found

    def write(self, folder: Path, written: Callable[[int], Any]) -> None:
        """Fills an empty folder; its manifest comes last. `written` hears of each leaf's bytes."""
        store.write_params(folder, self.leaves, written)
        copied = [copy_file(file, folder / TOKENIZER / file.name) for file in self._tokenizer]
        manifest = {
            "component": self.kind.name,
            "config": dataclasses.asdict(self.source.config),
            "source": {"name": self.source.name, "sha256": sha256(self.source.files) | sha256(copied, folder)},
            "versions": versions(),
        }
        if self.unused:
            manifest["unused"] = self.unused
        manifest["leaves"] = store.describe(self.leaves)
        store.write_manifest(folder, manifest, store.all_files(folder))

    @property
    def _tokenizer(self) -> tuple[Path, ...]:
        return self.source.tokenizer if self.kind.tokenizer else ()


@dataclasses.dataclass(frozen=True)
class Backward:
    """A converted component that will be written as its publishers write it."""

    kind: Component
    source: Path
    config: Any
    stored: dict[str, jax.ShapeDtypeStruct]
    target: np.dtype | None

    @property
    def nbytes(self) -> int:
        return sum(size * dtype.itemsize for size, dtype in self.sizes)

    @property
    def sizes(self) -> list[tuple[int, np.dtype]]:
        """(parameters, dtype) of each tensor."""
        return [(math.prod(shape), dtype) for shape, dtype in self._tensors().values()]

    @property
    def tokenizer(self) -> tuple[Path, ...]:
        """The files of its tokenizer, if it has one."""
        folder = self.source / TOKENIZER
        return tokenizer_files(folder) if self.kind.tokenizer and folder.is_dir() else ()

    def write(self, folder: Path, written: Callable[[int], Any], max_shard_bytes: int) -> None:
        """Writes weights and `config.json`, a leaf at a time. `written` hears of each leaf's bytes."""
        if self.kind.write is None:
            self._write_safetensors(folder, written, max_shard_bytes)
        else:
            self.kind.write(self.config, self._all_tensors(), folder / self.kind.stem)
            written(self.nbytes)
        files.write_json(folder / "config.json", self.kind.published_config(self.config))

    def _all_tensors(self) -> dict[str, np.ndarray]:
        """{source key: tensor}, of a network that is written as one file."""
        leaves, tensors = {leaf.path: leaf for leaf in self.kind.leaves(self.config)}, {}
        for path, values in store.read_leaves(self.source, self.stored):
            self._check(path, values)
            tensors |= engine.take_apart(leaves[path], values.astype(self._dtype(leaves[path]), copy=False))
        return tensors

    def _write_safetensors(self, folder: Path, written: Callable[[int], Any], max_shard_bytes: int) -> None:
        writer = safetensors_io.ShardedWriter(folder, self.kind.stem, self._tensors(), max_shard_bytes)
        leaves = {leaf.path: leaf for leaf in self.kind.leaves(self.config)}
        for path, values in store.read_leaves(self.source, self.stored):
            self._check(path, values)
            written(self._write_leaf(writer, leaves[path], values))
            del values  # before the next ones are read
        writer.close()

    def _check(self, path: str, values: np.ndarray) -> None:
        if wrong := soundness.fault(values, zeros=values.ndim > 1):
            raise CheckpointError(f"{self.source}: {path}: {wrong}; the folder is damaged: convert it again")

    def _write_leaf(self, writer: safetensors_io.ShardedWriter, leaf: Leaf, values: np.ndarray) -> int:
        """Returns its size in bytes. A function of its own, so that no view outlives it."""
        values = values.astype(self._dtype(leaf), copy=False)
        for key, tensor in engine.take_apart(leaf, values):
            writer.write(key, tensor)
        return values.nbytes

    def _tensors(self) -> dict[str, tuple[engine.Shape, np.dtype]]:
        """Shape and dtype of each tensor. Keys of one block are together: a shard holds whole blocks, as published."""
        leaves = self.kind.leaves(self.config)
        planned = {key: (leaf.source_shape, self._dtype(leaf)) for leaf in leaves for key in leaf.keys}
        return dict(sorted(planned.items(), key=lambda item: engine.block_order(item[0])))

    def _dtype(self, leaf: Leaf) -> np.dtype:
        return self.target or np.dtype(self.stored[leaf.path].dtype)


def forward(
    kind: Component, source: str, dtype: str | None, tokenizer: str | Path | None = None, name: str = ""
) -> Forward:
    """Opens a published component and checks that all of it fits.

    Args:
      source: as `kind.open` takes it.
      dtype: "float32" or "bfloat16" casts; None keeps the source's dtypes.
      tokenizer: folder of the tokenizer, in place of the one that is found beside the source.
      name: of the source, where another one than the opened folder's says more.

    Raises:
      ConversionError: with all that does not fit.
    """
    target = dtype_of(dtype)
    check_source(source)
    opened = kind.open(source)
    if tokenizer is not None:
        if not kind.tokenizer:
            raise ConversionError(f"tokenizer {tokenizer}: expected none, the component {kind.name} takes no text")
        opened = dataclasses.replace(opened, tokenizer=tokenizer_files(Path(tokenizer)))
    if name:
        opened = dataclasses.replace(opened, name=name)
    leaves = kind.leaves(opened.config)
    shapes = {key: tuple(tensor.shape) for key, tensor in kind.used(opened.tensors).items()}
    engine.check(leaves, shapes, f"{source} as {kind.name}", kind.causes(opened.config))
    if kind.tokenizer and opened.tokenizer:
        _check_tokenizer(kind, opened)
    promised = {leaf.path: _promise(leaf, opened, target) for leaf in leaves}
    return Forward(kind, opened, promised, _unused(kind, opened))


def backward(kind: Component, source: Path, config: Any, stored: Tree, dtype: str | None) -> Backward:
    """The way back of a converted folder, whose record and stored tree are known."""
    return Backward(kind, source, config, flatten(stored), dtype_of(dtype))


def report(output: Path, plans: Iterable[Forward | Backward], seconds: float, notes: Iterable[str] = ()) -> Report:
    """The report on plans that were written."""
    sizes = [size for plan in plans for size in plan.sizes]
    return Report(
        output=output,
        parameters=sum(size for size, _ in sizes),
        nbytes=sum(size * dtype.itemsize for size, dtype in sizes),
        dtypes=tuple(sorted({str(dtype) for _, dtype in sizes})),
        seconds=seconds,
        notes=tuple(notes),
    )


def progress(what: str, total: int) -> "tqdm":
    """A bar over bytes, on a terminal only."""
    from tqdm import tqdm

    return tqdm(desc=what, total=total, unit="B", unit_scale=True, unit_divisor=1000, disable=None)


def dtype_of(name: str | None) -> np.dtype | None:
    """The dtype to cast to. Raises `ConversionError` for one that is not offered."""
    if name is None or name in DTYPES:
        return name and jax.numpy.dtype(name)
    why = ": CogVideoX overflows in float16 and gives black videos" if name == "float16" else ""
    raise ConversionError(f"dtype {name!r}: expected {' or '.join(DTYPES)}, or none to keep the source's{why}")


def not_onto_itself(source: Path, output: Path) -> None:
    """Refuses an output that is the source or holds it."""
    if output.resolve() in (source.resolve(), *source.resolve().parents):
        raise ConversionError(f"{output} holds the source, {source}: give another --output")


def sha256(paths: Iterable[Path], root: Path | None = None) -> dict[str, str]:
    """SHA-256 of files, by their names, or by their paths under `root`."""
    found = {}
    for path in paths:
        with open(path, "rb") as file:
            name = path.relative_to(root).as_posix() if root else path.name
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def copy_file(source: Path, target: Path) -> Path:
    """Copies a small file, making its folder. Returns where it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(source, target))


def _check_tokenizer(kind: Component, source: Source) -> None:
    """Refuses a tokenizer that is damaged or is not the network's."""
    folder = source.tokenizer[0].parent
    try:
        wrong = kind.tokenizer(folder, source.config)
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    if wrong:
        raise ConversionError(f"{folder}: {wrong}. Fetch the tokenizer again, or name another one: --tokenizer DIR")


def _promise(leaf: Leaf, source: Source, target: np.dtype | None) -> store.PromisedLeaf:
    found = sorted({str(source.tensors[key].dtype) for key in leaf.keys})
    if set(found) - {str(dtype) for dtype in safetensors_io.DTYPES.values()}:
        raise ConversionError(f"{leaf.keys[0]} is {', '.join(found)}: expected floating-point numbers")
    if target is None and len(found) > 1:
        raise ConversionError(
            f"{leaf.keys[0]} and its like in other blocks are of mixed dtypes ({', '.join(found)}) and share one "
            "leaf: say in which dtype, with --dtype float32 or --dtype bfloat16"
        )
    dtype = np.dtype(source.tensors[leaf.keys[0]].dtype) if target is None else target
    return store.PromisedLeaf(leaf.shape, dtype, lambda: engine.assemble(leaf, soundness.checked(source.read), dtype))


def _unused(kind: Component, source: Source) -> dict[str, str]:
    reasons = {key: kind.unused(key) for key in source.tensors}
    by_reason: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        if reason is not None:
            by_reason.setdefault(reason, []).append(key)
    return {line: reason for reason, keys in by_reason.items() for line in engine.grouped(keys)}
