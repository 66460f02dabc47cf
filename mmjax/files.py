"""Files that appear whole or not at all: written aside, flushed to the disk, then renamed."""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

_STEM_BYTES = 100  # of a temporary name, which has room for 255: letters take up to four
_MODE = 0o666  # less the process's mask, as of any new file


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, suffix: str = "") -> Iterator[Path]:
    """The name of a temporary file beside `path`, which takes the name `path` when the block ends without an error.

    Missing folders are made. The temporary name is nobody else's, so that two writers of one file do not meet; readers
    see the old file or the new one. After an error the temporary file is gone and `path` is as it was; an `OSError`
    of the system, such as a full disk's, names `path`.

    Args:
      suffix: ending of the temporary name, for libraries that choose a format by it.
    """
    path = Path(os.path.realpath(path) if os.path.islink(path) else path)  # of a link, what it leads to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path, f"{secrets.token_hex(8)}.partial{suffix}")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _MODE))
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error  # the name that people know
        raise
    with contextlib.suppress(OSError):  # of disks that cannot flush a folder
        _flush(path.parent)


def remove_partial(path: str | os.PathLike) -> None:
    """Removes what writers of `path` that were killed left beside it; for whoever alone writes that file."""
    path = Path(path)
    ours = re.compile(re.escape(_stem(path)) + r"\.[0-9a-f]{16}\.partial.*")
    for beside in path.parent.glob(".*.partial*"):
        if ours.fullmatch(beside.name):
            beside.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> Path:
    """Writes a file whole or not at all; see `written_whole`."""
    with written_whole(path) as partial:
        partial.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes a UTF-8 file whole or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, values, indent: int | None = 2) -> Path:
    """Writes plain values as a JSON file, whole or not at all."""
    return write_text(path, json.dumps(values, indent=indent) + "\n")


def beside(path: str | os.PathLike, ending: str) -> Path:
    """The hidden name `.NAME.ENDING` in the folder of `path`, NAME being its own, cut where it is long."""
    path = Path(path)
    return path.with_name(f"{_stem(path)}.{ending}")


def _stem(path: Path) -> str:
    """How the temporary names of a file begin; a long name is cut, and its hash stands for the rest."""
    name = path.name.encode(errors="surrogateescape")
    if len(name) <= _STEM_BYTES:
        return f".{path.name}"
    return f".{name[:_STEM_BYTES].decode(errors='ignore')}-{hashlib.sha256(name).hexdigest()[:16]}"


def _flush(path: Path) -> None:
    """Has the disk hold what was written to a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
