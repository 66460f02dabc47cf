"""What was given for a model where neither a converted folder nor a workdir stands, and what to do about it."""

import json
import os
import re
from pathlib import Path

from mmjax.conversion import store
from mmjax.errors import CheckpointError

_HUB = re.compile(r"(?:https?://)?huggingface\.co/([\w.-]+/[\w.-]+)")  # of an address, the id
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_THEIRS = ("_class_name", "architectures", "model_type")  # in a config.json of diffusers or transformers
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def check_folder(given: str | os.PathLike, flag: str) -> None:
    """Raises `CheckpointError` for what is no folder of converted weights and no workdir, with the likeliest mistake.

    Args:
      flag: what messages call it: "--model" or "--adapter".
    """
    given = os.fspath(given)
    expected = "the workdir of a training run" + (", or a folder of converted weights" if flag == "--model" else "")
    if found := _mistake(given, Path(given), flag):
        raise CheckpointError(f"{flag} {given}: expected {expected}, found {found}")


def _mistake(given: str, folder: Path, flag: str) -> str | None:
    if address := _HUB.match(given):
        return f"an address of the hub; {_convert_first(address[1], flag)}"
    if not os.path.exists(folder):
        if _HUB_ID.fullmatch(given) and not folder.parent.is_dir():
            return f"no such folder; if that is a hub id, {_convert_first(given, flag)}"
        slashes = "; a path has / here, not \\" if "\\" in given else ""
        return f"nothing there{slashes}; check the path"
    if not folder.is_dir():
        kind = "weights in a file" if folder.suffix in _WEIGHTS else "a file"
        return f"{kind}; " + (_convert_first(given, flag) if folder.suffix in _WEIGHTS else "name its folder")
    if (folder / store.MANIFEST).is_file():
        return None if flag == "--model" else "converted weights; give them as --model, and a run as --adapter"
    return _folder_mistake(folder, flag)


def _folder_mistake(folder: Path, flag: str) -> str | None:
    if (folder / "model_index.json").is_file():
        return f"a diffusers folder; {_convert_first(folder, flag)}"
    if _is_theirs(folder / "config.json"):
        whole = folder.parent if (folder.parent / "model_index.json").is_file() else "DIR"
        return f"a part of a diffusers folder; {_convert_first(whole, flag)}"
    if (folder / "config.json").is_file():
        return None
    snapshots = sorted(folder.glob("snapshots/*")) + sorted(folder.glob("models--*/snapshots/*"))
    if snapshots:
        return f"a cache of the hub; {_convert_first(snapshots[-1], flag)}"
    if folder.name in ("checkpoints", "frozen") or folder.parent.name == "checkpoints":  # as WORKDIR/checkpoints/STEP
        for workdir in folder.parents[:2]:
            if (workdir / "config.json").is_file():
                return f"a part of a workdir; give {workdir}"
    for part in sorted(folder.glob(f"*/{store.MANIFEST}")):
        return f"no {store.MANIFEST} in it, but in {part.parent}; give that"
    if any(path.suffix in _WEIGHTS for path in folder.iterdir()):
        return f"files of weights; {_convert_first(folder, flag)}"
    return "no config.json in it; check the path"


def _convert_first(source: str | os.PathLike, flag: str) -> str:
    name = Path(source).name.lower() or "model"
    command = f"python -m mmjax.convert cogvideox --source {os.fspath(source)} --output weights/{name}"
    advice = f"convert it first: {command}, and give --model weights/{name}"
    return advice if flag == "--model" else f"which is no adapter of mmjax; as a model, {advice}"


def _is_theirs(path: Path) -> bool:
    """Whether a config.json is that of a published network."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and any(key in found for key in _THEIRS)
