"""Finding what to convert: a model folder, a pipeline folder, one file, or a repository of the Hugging Face hub."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np

from mmjax.conversion import safetensors_io
from mmjax.errors import ConversionError


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened source: its configuration record, what tensors it has, and how to read one of them."""

    name: str
    config: Any
    tensors: Mapping[str, Any]  # key -> something with .shape and .dtype
    read: Callable[[str], np.ndarray]
    files: tuple[Path, ...]


def open_diffusers(source: str, subfolder: str, read_config: Callable[[dict[str, Any], str], Any]) -> Source:
    """Opens a diffusers model: headers and `config.json` are read, tensors are not.

    `source` is the model's folder, a pipeline's folder that holds it as `subfolder`, one safetensors file with
    `config.json` beside it, or a hub id such as `zai-org/CogVideoX-5b`. Raises `ConversionError`.
    """
    path = Path(source)
    if path.is_file():
        folder, files = path.parent, [path]
        if path.suffix != ".safetensors":
            raise ConversionError(f"{source}: expected a .safetensors file, or the folder of a model")
    else:
        folder = _model_folder(path if path.is_dir() else _download(source, subfolder), subfolder)
        files = None
    config = read_config(_read_json(folder / "config.json"), str(folder / "config.json"))
    files = files or safetensors_io.weight_files(folder)
    tensors = safetensors_io.read_headers(files)
    return Source(
        name=path.resolve().name if path.exists() else source,
        config=config,
        tensors=tensors,
        read=lambda key: safetensors_io.read_tensor(tensors[key]),
        files=(folder / "config.json", *files),
    )


def _model_folder(folder: Path, subfolder: str) -> Path:
    if (folder / "config.json").is_file():
        return folder
    if (folder / subfolder / "config.json").is_file():
        return folder / subfolder
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise ConversionError(
        f"{folder}: expected config.json, or {subfolder}/config.json as in a pipeline's folder; found {found}"
    )


def _download(source: str, subfolder: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or source.startswith("."):
        raise ConversionError(f"{source}: no such file or folder, and no hub id (owner/name) either")
    wanted = [f"{subfolder}/{pattern}" for pattern in ("config.json", "*.safetensors", "*.index*.json")]
    try:
        return Path(huggingface_hub.snapshot_download(source, allow_patterns=wanted))
    except Exception as error:  # the hub's client lets its HTTP library's errors through, which change between releases
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConversionError(
            f"{source}: no such folder here, and it could not be downloaded from the hub ({reason}). "
            "Check the name and the connection, or download the repository elsewhere and give its folder"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConversionError(f"{path}: no such file. It says which variant the weights are; put it beside them")
    if safetensors_io.is_lfs_pointer(path):
        raise ConversionError(f"{path}: expected JSON, found a git-lfs pointer. Download the file itself")
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ConversionError(f"{path}: expected JSON: {error}. Download it again") from error
    if not isinstance(value, dict):
        raise ConversionError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
