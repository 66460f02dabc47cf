"""The folder that a conversion writes: it appears whole or not at all, and nothing else in it is touched.

`--overwrite` replaces the component that was converted there before, file by file, and leaves what else lies in the
folder: notes, other components, another model's parts. What mmjax wrote is known by its manifest or, of a folder that
was written back as published, by the notice in its weights.
"""

import contextlib
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmjax import outputs
from mmjax.conversion.recognise import MANIFEST, PIPELINE
from mmjax.errors import ConversionError

PARAMS = "params"
NOTICE = outputs.MARK  # in the first bytes of every file of published weights that mmjax writes
_HEAD_BYTES = 2**20
_LAST = (MANIFEST, "model_index.json", "config.json")  # what says that a folder is complete


@contextlib.contextmanager
def new_folder(
    output: Path, needed_bytes: int, overwrite: bool, component: str, published: bool = False
) -> Iterator[Path]:
    """A folder to fill, whose files go to `output` when the block ends well; it vanishes when it does not.

    Args:
      component: what is written; an `output` that holds another one is refused.
      published: it is written as its publishers write it, not for mmjax.

    Raises:
      ConversionError: before anything is written, where `output` is taken or the disk too small; later, where it
        cannot be written.
    """
    try:
        _check_free(output, overwrite, component, published)
        _check_room(output, needed_bytes)
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.parent / f"{output.name[:100]}.partial-{secrets.token_hex(8)}"
        partial.mkdir()
    except OSError as error:
        raise ConversionError(f"{output} could not be written: {error}") from error
    try:
        yield partial
        if output.is_dir():
            _replace(partial, output, published)
        else:
            partial.rename(output)
    except OSError as error:
        raise ConversionError(f"{output} could not be written: {error}; what stood there is as it was") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def own_files(folder: Path, published: bool = False) -> set[Path]:
    """The files in a folder that a conversion wrote there, by their paths in it."""
    return _published_files(folder) if published else _converted_files(folder)


def _converted_files(folder: Path) -> set[Path]:
    if not (folder / MANIFEST).is_file():
        return set()
    manifest = _manifest(folder)
    listed = manifest.get("files") if isinstance(manifest.get("files"), dict) else {}
    found = {Path(MANIFEST), *map(Path, listed)}
    data = [path for path in (folder / PARAMS).rglob("*") if not path.is_dir()]
    if manifest:  # what Orbax calls its data files; of a damaged manifest, all that lies there
        data = [path for path in data if path.parent.name == "d"]
    found |= {path.relative_to(folder) for path in data}
    parts = manifest.get("parts") if isinstance(manifest.get("parts"), list) else []
    found |= {Path(part) / name for part in map(str, parts) for name in _converted_files(folder / part)}
    return {path for path in found if not path.is_absolute() and ".." not in path.parts}


def _published_files(folder: Path) -> set[Path]:
    """Weights with our notice and what lies beside them by name; nothing where other weights lie there too."""
    weights = [each for kind in ("*", "*/*") for end in (".safetensors", ".onnx") for each in folder.glob(kind + end)]
    own = [each for each in weights if _has_notice(each)]
    if not own or len(own) < len(weights):
        return set()
    found = {each.relative_to(folder) for each in own}
    for place in {each.parent for each in own}:
        beside = (place / "config.json", *place.glob("*.index.json"), *(place / "tokenizer").glob("*"))
        found |= {each.relative_to(folder) for each in beside if each.is_file()}
    whole = ("model_index.json", "scheduler/scheduler_config.json")
    whole = (*(folder / name for name in whole), *(folder / "tokenizer").glob("*"))
    return found | {each.relative_to(folder) for each in whole if each.is_file()}


def _check_free(output: Path, overwrite: bool, component: str, published: bool) -> None:
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not overwrite and not (output.is_dir() and _apart(output, component, published)):
        raise ConversionError(f"{output} is there already: give another --output, or --overwrite to replace it")
    if not output.is_dir():
        raise ConversionError(f"{output} is a file, which mmjax did not write; it is not overwritten")
    own = own_files(output, published)
    if not own and not _apart(output, component, published):
        what = "weights of its own" if published else MANIFEST
        raise ConversionError(f"{output} holds no {what}, so mmjax did not write it; it is not overwritten")
    there = _manifest(output).get("component", component)
    if own and not published and there != component:
        raise ConversionError(
            f"{output} holds a converted {there}, which a {component} would replace; give another --output, such as "
            f"{output / component}"
        )


def _apart(output: Path, component: str, published: bool) -> bool:
    """Whether nothing but other converted components stands there, each in a folder of its own name."""
    parts = {"transformer", "vae", "text_encoder"} if component == PIPELINE else {PARAMS, "tokenizer"}
    there = list(output.iterdir())
    return not published and all((each / MANIFEST).is_file() and each.name not in parts for each in there)


def _check_room(output: Path, needed_bytes: int) -> None:
    parent = next(parent for parent in output.resolve().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if free < needed_bytes:
        left = ", ".join(path.name for path in output.parent.glob(f"{glob.escape(output.name[:100])}.partial-*"))
        hint = f". Interrupted conversions left {left} there: delete them" if left else ""
        raise ConversionError(
            f"{output} needs {needed_bytes / 1e9:.1f} GB, {parent} has {free / 1e9:.1f} GB free{hint}"
        )


def _replace(partial: Path, output: Path, published: bool) -> None:
    """Moves what was written into `output`, in the place of what a conversion wrote there before.

    What says that the folder is complete is replaced last: stopped in between, it is known to be incomplete.
    """
    new = [path.relative_to(partial) for path in sorted(partial.rglob("*")) if not path.is_dir()]
    own = {path for path in own_files(output, published) if os.path.lexists(output / path)}
    taken = [path for path in new if path not in own and os.path.lexists(output / path)]
    if taken:
        raise ConversionError(
            f"{output / taken[0]} is there already, and mmjax did not write it; it is not overwritten"
        )
    new.sort(key=lambda path: (path.name in _LAST, -len(path.parts)))
    aside = partial.with_name(f"{partial.name}.replaced")
    moved: list[tuple[Path, Path]] = []
    try:
        for path in sorted(own - {path for path in new if path.name in _LAST}):
            _move(output / path, aside / path, moved)
        for path in new:
            if path in own and path.name in _LAST:
                _move(output / path, aside / path, moved)
            _move(partial / path, output / path, moved)
    except BaseException:
        for source, target in reversed(moved):
            with contextlib.suppress(OSError):
                source.parent.mkdir(parents=True, exist_ok=True)
                target.rename(source)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for folder in sorted({parent for path in own for parent in path.parents if parent.parts}, reverse=True):
        with contextlib.suppress(OSError):  # that something else lies in
            (output / folder).rmdir()


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    moved.append((source, target))


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a converted folder, {} where it is damaged."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _has_notice(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return NOTICE.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False
