"""What was given for a model where neither a converted folder nor a workdir stands, and what to do about it."""

import os
from pathlib import Path

from mmjax.conversion import store
from mmjax.conversion.recognise import ADAPTER, advice
from mmjax.errors import CheckpointError
from mmjax.pretrained.names import find, there_are
from mmjax.weights.shipped import is_shipped


def check_folder(given: str | os.PathLike, flag: str) -> None:
    """Raises `CheckpointError` for what is no folder of converted weights and no workdir, with the likeliest mistake.

    Args:
      flag: what messages call it: "--model" or "--adapter".
    """
    given = os.fspath(given)
    if flag == "--adapter" and Path(given).is_file():
        return  # `open_adapter` says what a file is
    other = {"--model": "a folder of converted weights", "--adapter": "an adapter that was exported"}[flag]
    expected = f"the workdir of a training run, or {other}"
    if flag == "--model" and is_shipped(find(given)):
        return
    if flag == "--model" and Path(given).name == given and not Path(given).exists():
        expected += f", or the name of a model that comes with mmjax ({there_are()})"
    if found := _mistake(given, Path(given), flag):
        raise CheckpointError(f"{flag} {given}: expected {expected}; {found}")


def _mistake(given: str, folder: Path, flag: str) -> str | None:
    if (folder / store.MANIFEST).is_file():
        return _other_flag(advice(folder) == f"it is a converted {ADAPTER}", flag)
    if (folder.parent / "model_index.json").is_file() and (folder / "config.json").is_file():
        return f"it is a part of a pipeline; {advice(folder.parent)}"
    if known := advice(given):
        slashes = "; a path has / here, not \\" if "\\" in given and not folder.exists() else ""
        return known + slashes
    if not folder.is_dir():
        return "it is a file; name its folder"
    if (folder / "config.json").is_file():
        return None
    if folder.name in ("checkpoints", "frozen") or folder.parent.name == "checkpoints":  # as WORKDIR/checkpoints/STEP
        for workdir in folder.parents[:2]:
            if (workdir / "config.json").is_file():
                return f"it is a part of a workdir; give {workdir}"
    for part in sorted(folder.glob(f"*/{store.MANIFEST}")):
        return f"there is no {store.MANIFEST} in it, but in {part.parent}; give that"
    return "found no config.json in it; check the path"


def _other_flag(is_adapter: bool, flag: str) -> str | None:
    """Of a converted folder, that it belongs to the other flag."""
    if is_adapter == (flag == "--adapter"):
        return None
    if is_adapter:
        return "it is an adapter; give it as --adapter, and the base that it was trained on as --model"
    return "it is converted weights; give them as --model, and a run as --adapter"
