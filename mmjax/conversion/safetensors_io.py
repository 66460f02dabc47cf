"""Sharded safetensors, one tensor at a time, in and out.

The format is a length, a JSON header and the tensors' bytes. We read the header ourselves: numpy's side of the
`safetensors` package has no bfloat16, torch is no dependency of ours, and a mapped file keeps every page it has
touched in the process, where a plain read of one tensor keeps only that tensor. Writing plans every shard's header
first and then fills the tensors in, in any order, so that a stacked leaf can be taken apart as it is read.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.conversion.output_folder import NOTICE
from mmjax.errors import ConversionError
from mmjax.files import write_json

DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_UNUSED = {"I64": np.dtype(np.int64)}  # position ids, which no table reads
QUANTISED = {"I8": np.dtype(np.int8)}  # in what `mmjax.weights.shipped` writes, with scales beside it
_NAMES = {dtype: name for name, dtype in (DTYPES | QUANTISED).items()}
_LFS_POINTER = b"version https://git-lfs"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its file, the offset of its first byte, and what it is."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def is_lfs_pointer(path: Path) -> bool:
    """Whether the file is the short text that git leaves in place of a large file when git-lfs is not installed."""
    with open(path, "rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def read_headers(files: list[Path], quantised: bool = False) -> dict[str, Tensor]:
    """Every tensor of the files by its key; nothing but the headers is read.

    Args:
      quantised: take whole numbers of eight bits too, which are weights only beside their scales.

    Raises `ConversionError` for a file that is no safetensors file, is cut short, or repeats another one's key.
    """
    more = QUANTISED if quantised else {}
    return merged({file: _read_header(file, _UNUSED | more) for file in files})


def merged(by_file: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """The tensors of several files as one dictionary. Raises `ConversionError` for a key that two of them have."""
    homes: dict[str, Path] = {}
    for file, tensors in by_file.items():
        for key in tensors:
            if key in homes:
                raise ConversionError(
                    f"{key} is both in {homes[key].name} and in {file.name}: expected every tensor once. "
                    "Two checkpoints lie in one folder; keep the files of one of them"
                )
            homes[key] = file
    return {key: by_file[file][key] for key, file in homes.items()}


def read_metadata(file: Path) -> dict[str, str]:
    """What the header of a safetensors file says of itself beside its tensors; {} where it says nothing.

    Raises `ConversionError` for a file that has no such header.
    """
    found = _read_json(file)[0].get("__metadata__")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def weight_map(index: Path) -> dict[str, str]:
    """{key: file name} of an index of shards. Raises `ConversionError` when it is none."""
    try:
        found = json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"]
        if not found or not all(isinstance(name, str) and "/" not in name for name in found.values()):
            raise ValueError("expected file names")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        pointer = ": it is a git-lfs pointer" if is_lfs_pointer(index) else ""
        raise ConversionError(f"{index}: expected an index with a weight_map{pointer}. {_again()}") from error


def read_tensor(tensor: Tensor) -> np.ndarray:
    """The tensor's values, in memory of their own."""
    raw = np.fromfile(tensor.file, np.uint8, count=tensor.nbytes, offset=tensor.offset)
    if raw.nbytes != tensor.nbytes:
        raise ConversionError(f"{tensor.file} was cut short while it was read: {_again()}")
    return raw.view(tensor.dtype).reshape(tensor.shape)


class ShardedWriter:
    """Writes tensors of announced shapes and dtypes into shards of a published model's folder, in any order.

    One file, `STEM.safetensors`, holds all when they fit in `max_shard_bytes`; more files get an index, under the names
    that diffusers and transformers read.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        planned: dict[str, tuple[tuple[int, ...], np.dtype]],
        max_shard_bytes: int,
    ):
        self._tensors: dict[str, Tensor] = {}
        shards = _split(planned, max_shard_bytes)
        for number, keys in enumerate(shards, start=1):
            part = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
            file = folder / f"{stem}{part}.safetensors"
            metadata = {"format": "pt", "notice": f"{NOTICE}.convert"}
            self._tensors |= write_header(file, {key: planned[key] for key in keys}, metadata)
        self._unwritten = set(planned)
        if len(shards) > 1:
            total = sum(tensor.nbytes for tensor in self._tensors.values())
            names = {key: tensor.file.name for key, tensor in self._tensors.items()}
            index = {"metadata": {"total_size": total}, "weight_map": names}
            write_json(folder / f"{stem}.safetensors.index.json", index)

    def write(self, key: str, values: np.ndarray) -> None:
        """Puts the values of `key` in their place. Raises `ConversionError` when they are not as announced."""
        tensor = self._tensors[key]
        if values.shape != tensor.shape or values.dtype != tensor.dtype:
            raise ConversionError(
                f"{key}: expected {tensor.dtype} {list(tensor.shape)}, found {values.dtype} {list(values.shape)}"
            )
        write_tensor(tensor, values)
        self._unwritten.discard(key)

    def close(self) -> None:
        """Raises `ConversionError` when an announced tensor was never written."""
        if self._unwritten:
            raise ConversionError(f"{len(self._unwritten)} tensors were never written: {sorted(self._unwritten)}")


def write_header(
    file: Path, planned: dict[str, tuple[tuple[int, ...], np.dtype]], metadata: dict[str, str]
) -> dict[str, Tensor]:
    """Makes the file at its full length and returns where each tensor goes. Wide dtypes come first: alignment."""
    header: dict[str, dict] = {"__metadata__": metadata}
    begin, tensors = 0, {}
    for key in sorted(planned, key=lambda key: (-planned[key][1].itemsize, key)):
        tensor = tensors[key] = Tensor(file, begin, *planned[key])
        begin += tensor.nbytes
        header[key] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [tensor.offset, begin],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + begin)
    return {key: dataclasses.replace(each, offset=8 + len(text) + each.offset) for key, each in tensors.items()}


def write_tensor(tensor: Tensor, values: np.ndarray) -> None:
    """Puts values of the tensor's shape and dtype in its place."""
    with open(tensor.file, "r+b") as file:
        file.seek(tensor.offset)
        file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _read_json(file: Path) -> tuple[dict[str, Any], int]:
    """(the header's JSON object, where the tensors' bytes begin)."""
    if not file.is_file():
        raise ConversionError(f"{file}: no such file. {_again()}")
    size = file.stat().st_size
    if is_lfs_pointer(file):
        raise ConversionError(
            f"{file}: expected weights, found a git-lfs pointer of {size} bytes. "
            "Run `git lfs install && git lfs pull` in the clone, or download the file itself"
        )
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        begins = stream.read(1) in (b"{", b"")
        stream.seek(8)
        text = stream.read(length) if 2 <= length <= size else b""
    if begins and len(text) < max(length, 2):
        raise ConversionError(
            f"{file}: expected {8 + max(length, 2):,} bytes or more, found {size:,}: the file is truncated. {_again()}"
        )
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("expected an object")
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{file}: expected a safetensors file, found no header in it. {_again()}") from error
    return header, 8 + length


def _read_header(file: Path, more: dict[str, np.dtype]) -> dict[str, Tensor]:
    header, start = _read_json(file)
    header.pop("__metadata__", None)
    try:
        tensors = {key: _tensor(file, start, key, entry, more) for key, entry in header.items()}
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise ConversionError(f"{file}: expected tensors in the header, found other values. {_again()}") from error
    _check_apart(file, tensors)
    end = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=start)
    if end > (size := file.stat().st_size):
        raise ConversionError(f"{file}: expected {end:,} bytes, found {size:,}: the file is truncated. {_again()}")
    return tensors


def _tensor(file: Path, start: int, key: str, entry: dict, more: dict[str, np.dtype]) -> Tensor:
    dtype = (DTYPES | more).get(entry["dtype"])
    if dtype is None:
        raise ConversionError(
            f"{file}: {key} is {entry['dtype']}, expected one of {', '.join(DTYPES)}. "
            "Quantised checkpoints are not converted; take the original one"
        )
    begin, end = entry["data_offsets"]
    if begin < 0 or any(type(side) is not int or side < 0 for side in entry["shape"]):
        raise ValueError(f"{key} lies nowhere")
    tensor = Tensor(file, start + begin, tuple(entry["shape"]), dtype)
    if end - begin != tensor.nbytes:
        raise ConversionError(f"{file}: {key} has {end - begin} bytes for {tensor.nbytes}: the header is damaged")
    return tensor


def _check_apart(file: Path, tensors: dict[str, Tensor]) -> None:
    """Refuses a header by which two tensors share bytes."""
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if tensor.offset < end:
            raise ConversionError(f"{file}: {key} lies on another tensor's bytes: the header is damaged. {_again()}")
        end = tensor.offset + tensor.nbytes


def _split(planned: dict[str, tuple[tuple[int, ...], np.dtype]], max_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for key, (shape, dtype) in planned.items():
        size = math.prod(shape) * dtype.itemsize
        if shards[-1] and filled + size > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(key)
        filled += size
    return shards


def _again() -> str:
    return "Download it again"
