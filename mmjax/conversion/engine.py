"""Conversion is a table: rows of (source key, tree path, named invertible transform).

A row may stand for all blocks of a stack: `{i}` in its source key is the block's number, and the blocks' tensors are
stacked into one leaf (or into one leaf a group, when the stack is scanned in groups such as even and odd). Every
source key is consumed once and every leaf is filled once; `check` says everything that does not fit at once, from
headers alone, before a tensor is read. The same rows serve both directions.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from mmjax.errors import ConversionError

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout that loses nothing: `inverse(forward(x))` is `x` bit for bit, in any dtype."""

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    source_shape: Callable[[Shape], Shape]  # the source's shape for a leaf of this shape


identity = Transform("identity", lambda x: x, lambda x: x, lambda shape: shape)
transpose = Transform("transpose", lambda x: x.T, lambda x: x.T, lambda shape: shape[::-1])


scalar = Transform("scalar", lambda x: x.reshape(1), lambda x: x.reshape(()), lambda shape: ())  # as a vector of one


def conv_patch(channels: int, patch: int) -> Transform:
    """A torch patch convolution [d, C, p, p] as a Dense kernel [C * p * p, d], features in the order (C, p, p)."""
    return Transform(
        "conv_patch",
        lambda x: x.reshape(x.shape[0], -1).T,
        lambda x: x.T.reshape(-1, channels, patch, patch),
        lambda shape: (shape[1], channels, patch, patch),
    )


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A stack of blocks. Block i is entry `i // len(groups)` of group `groups[i % len(groups)]`."""

    count: int
    groups: tuple[str, ...] = ("",)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table. `{i}` in the source key and `{group}` in the target path belong to `blocks`."""

    source: str
    target: str
    transform: Transform = identity
    blocks: Blocks | None = None


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One leaf of our tree and the source keys that fill it: one, or one for each entry of its leading axis."""

    path: str
    shape: Shape
    keys: tuple[str, ...]
    stacked: bool
    transform: Transform

    @property
    def source_shape(self) -> Shape:
        """Shape of each of the source tensors."""
        return self.transform.source_shape(self.shape[1:] if self.stacked else self.shape)


@dataclasses.dataclass(frozen=True)
class Misfit:
    """What of a source does not fit, for those who guess the cause. Shapes are (expected, found)."""

    found: Mapping[str, Shape]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    misshapen: Mapping[str, tuple[Shape, Shape]]


def expand(rows: Iterable[Row], shapes: Mapping[str, Shape]) -> list[Leaf]:
    """The rows for each leaf of a tree of these shapes ({'a/b': shape}), in the rows' order.

    Raises `ConversionError` when rows and tree disagree, which is a fault of the table and not of a source.
    """
    leaves = [leaf for row in rows for leaf in _leaves(row, shapes)]
    paths = [leaf.path for leaf in leaves]
    keys = [key for leaf in leaves for key in leaf.keys]
    unfilled = sorted(set(shapes) - set(paths))
    if unfilled or len(set(paths)) != len(paths) or len(set(keys)) != len(keys):
        raise ConversionError(f"the table fills a leaf twice, or a key twice, or leaves these unfilled: {unfilled}")
    return leaves


def check(
    leaves: Iterable[Leaf],
    found: Mapping[str, Shape],
    what: str,
    causes: Iterable[Callable[[Misfit], str | None]] = (),
) -> None:
    """Raises one `ConversionError` with every missing, surplus and misshapen tensor and the likely cause.

    `found` are the source's keys and shapes, `causes` guess from a `Misfit`; the first that knows is quoted.
    """
    expected = {key: leaf.source_shape for leaf in leaves for key in leaf.keys}
    misfit = Misfit(
        found,
        tuple(key for key in expected if key not in found),
        tuple(key for key in found if key not in expected),
        {key: (shape, found[key]) for key, shape in expected.items() if key in found and found[key] != shape},
    )
    if not (misfit.missing or misfit.surplus or misfit.misshapen):
        return
    lines = [f"{what} does not fit: expected {len(expected)} tensors, found {len(found)}"]
    for name, keys in (("missing", misfit.missing), ("surplus", misfit.surplus)):
        lines += [f"  {name}: {key}" for key in grouped(keys)]
    described: dict[str, list[str]] = {}
    for key, (wanted, seen) in misfit.misshapen.items():
        described.setdefault(f"expected {list(wanted)}, found {list(seen)}", []).append(key)
    for difference, keys in described.items():
        lines += [f"  misshapen: {key}: {difference}" for key in grouped(keys)]
    cause = next(filter(None, (guess(misfit) for guess in (*causes, *_CAUSES))), None)
    if cause:
        lines.append(f"likely cause: {cause}")
    raise ConversionError("\n".join(lines))


def assemble(leaf: Leaf, read: Callable[[str], np.ndarray], dtype: np.dtype) -> np.ndarray:
    """The leaf's values from its source tensors, read one at a time, cast to `dtype` where that differs."""
    if not leaf.stacked:
        return np.ascontiguousarray(leaf.transform.forward(read(leaf.keys[0]))).astype(dtype, copy=False)
    values = np.empty(leaf.shape, dtype)
    for entry, key in zip(values, leaf.keys, strict=True):
        entry[...] = leaf.transform.forward(read(key))
    return values


def take_apart(leaf: Leaf, values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The inverse of `assemble`: (source key, its tensor), one at a time."""
    for key, entry in zip(leaf.keys, values if leaf.stacked else (values,), strict=True):
        yield key, leaf.transform.inverse(entry)


def grouped(keys: Iterable[str]) -> list[str]:
    """Keys that differ only in the number of their block as one line: `blocks.{0-4,7}.norm.weight`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    lines: dict[tuple[str, str], str] = {}
    for key in keys:
        match = re.fullmatch(r"(.*?\.)(\d+)(\..*)", key)
        name = (match[1], match[3]) if match else (key, "")
        numbers.setdefault(name, [])
        if match:
            numbers[name].append(int(match[2]))
            lines[name] = f"{match[1]}{{{_ranges(numbers[name])}}}{match[3]}" if numbers[name][1:] else key
        else:
            lines[name] = key
    return list(lines.values())


def block_order(key: str) -> tuple[str, int]:
    """Sorts keys by what stands before the number of their block, then by that number."""
    match = re.match(r"(.*?\.)(\d+)\.", key)
    return (match[1], int(match[2])) if match else (key, -1)


def _leaves(row: Row, shapes: Mapping[str, Shape]) -> Iterator[Leaf]:
    groups = row.blocks.groups if row.blocks else ("",)
    for offset, group in enumerate(groups):
        path = row.target.format(group=group)
        if path not in shapes:
            raise ConversionError(f"the table names {path}, which the tree does not have")
        if row.blocks is None:
            yield Leaf(path, shapes[path], (row.source,), False, row.transform)
        else:
            numbers = range(offset, row.blocks.count, len(groups))
            yield Leaf(path, shapes[path], tuple(row.source.format(i=i) for i in numbers), True, row.transform)


def _ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def _adapter_file(misfit: Misfit) -> str | None:
    if any(re.search(r"lora|\.alpha$|\.diff(_b)?$", key, re.IGNORECASE) for key in misfit.surplus):
        return "these are a LoRA adapter's tensors, not a model's: convert the base model instead"
    return None


def _another_component(misfit: Misfit) -> str | None:
    """Known when nothing at all is where it was expected."""
    parts = {
        "transformer": "transformer_blocks.",
        "vae": "decoder.conv_in.conv.",
        "text-encoder": "encoder.block.0.layer.0.SelfAttention.",
        "photomaker": "id_encoder.",
        "clip": "visual_projection.",
    }
    for name, start in parts.items():
        if len(misfit.surplus) == len(misfit.found) and any(key.startswith(start) for key in misfit.surplus):
            return f"these are the weights of another component: python -m mmjax.convert {name}"
    return None


def _quantised(misfit: Misfit) -> str | None:
    if any(re.search(r"\.(SCB|weight_format|absmax|quant_map|quant_state|scale_weight)\b", k) for k in misfit.surplus):
        return "a quantised checkpoint: take the original one, in float32, bfloat16 or float16"
    return None


def _prefixed(misfit: Misfit) -> str | None:
    missing = set(misfit.missing)
    for key in misfit.surplus:
        parts = key.split(".")
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in missing:
                prefix = ".".join(parts[:cut])
                return (
                    f"every key starts with `{prefix}.`: the file holds this model inside a larger one, or was "
                    "saved from a wrapper. Save the model alone, with diffusers' save_pretrained"
                )
    return None


def _shard_lost(misfit: Misfit) -> str | None:
    if misfit.missing and not misfit.surplus and not misfit.misshapen:
        return "a shard was not downloaded, or the source is one shard of several: fetch all files and their index"
    return None


_CAUSES = (_adapter_file, _another_component, _quantised, _prefixed, _shard_lost)
