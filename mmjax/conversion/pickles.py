"""Torch pickles (`.bin`, `.pt`, `.pth`), for checkpoints that have no safetensors twin.

This is the only place where torch is imported, inside the functions that need it: a published safetensors file never
does. Pickles are read with `weights_only=True`, so that none can run code, and mapped from disk where the format
allows, so that opening one costs no memory.
"""

import dataclasses
import re
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.conversion.safetensors_io import is_lfs_pointer
from mmjax.errors import ConversionError

_WRAPPERS = ("state_dict", "model_state_dict", "module", "model")


@dataclasses.dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor of a loaded pickle, described as numpy would."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    values: Any  # torch.Tensor

    def read(self) -> np.ndarray:
        """The tensor's values, in memory of their own."""
        import torch

        values = self.values.detach()
        if values.dtype == torch.bfloat16:  # which numpy has not
            values = values.contiguous().view(torch.int16)
        return np.array(values.numpy()).view(self.dtype)


def load(file: Path) -> Any:
    """What was pickled: dictionaries, lists and torch tensors, on the CPU; values are mapped, not read.

    Raises `ConversionError` when torch is not installed, or the file is no pickle, holds more than tensors, or is cut
    short.
    """
    if is_lfs_pointer(file):
        raise ConversionError(f"{file}: expected weights, found a git-lfs pointer. Download the file itself")
    torch = _torch(file)
    with open(file, "rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
    if zipped and not zipfile.is_zipfile(file):
        raise ConversionError(f"{file}: the file is truncated: its end is not there. Download it again")
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, ... by what it meets first
        raise ConversionError(
            f"{file}: expected a torch pickle of tensors alone, which is all that is read from one for safety; "
            f"found {_reason(error)}. Download it again, or save the model as safetensors where it was made"
        ) from error


def tensors(file: Path, values: Any) -> dict[str, PickledTensor]:
    """`values`, a dictionary of tensors from `load(file)`, described. Raises `ConversionError` for anything else."""
    import torch

    values = unwrapped(values)
    strays = (
        [f"{key}: {type(v).__name__}" for key, v in values.items() if not isinstance(v, torch.Tensor)]
        if (isinstance(values, dict))
        else [type(values).__name__]
    )
    if strays:
        shown = ", ".join(strays[:5]) + (", ..." if strays[5:] else "")
        raise ConversionError(f"{file}: expected a dictionary of tensors, found {shown}")
    return {key: PickledTensor(file, tuple(v.shape), _dtype(file, key, v), v) for key, v in values.items()}


def unwrapped(values: Any) -> Any:
    """What a training script saved its weights in (`{"state_dict": weights, "epoch": 3}`) without the wrapping."""
    for _ in range(3):
        names = [name for name in _WRAPPERS if isinstance(values, dict) and isinstance(values.get(name), dict)]
        if not names:
            break
        values = values[names[0]]
    return values


def _reason(error: Exception) -> str:
    """What torch met. Its own message is long and says how to read the file all the same, which is not safe."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"an object of the class {found[1]}" if found else f"something else ({type(error).__name__})"


def _dtype(file: Path, key: str, values: Any) -> np.dtype:
    import torch

    known = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: ml_dtypes.bfloat16}
    known[torch.int64] = np.int64  # position ids, which no table uses
    if values.dtype not in known:
        raise ConversionError(f"{file}: {key} is {values.dtype}, expected one of {', '.join(map(str, known))}")
    return np.dtype(known[values.dtype])


def _torch(file: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConversionError(
            f"{file} is a torch pickle, and torch is not installed to read it: pip install torch (its CPU build is "
            "enough), or give a safetensors file of the same weights"
        ) from error
    return torch
