"""Files that appear whole or not at all: written aside, flushed to the disk, then renamed."""

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, suffix: str = "") -> Iterator[Path]:
    """The name of a temporary file beside `path`, which takes the name `path` when the block ends without an error.

    Missing folders are made. The temporary name is nobody else's, so that two writers of one file do not meet; readers
    see the old file or the new one. After an error the temporary file is gone and `path` is as it was.

    Args:
      suffix: ending of the temporary name, for libraries that choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=f".partial{suffix}", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _flush(partial)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # of disks that cannot flush a folder
        _flush(path.parent)


def remove_partial(path: str | os.PathLike) -> None:
    """Removes what writers of `path` that were killed left beside it; for whoever alone writes that file."""
    path = Path(path)
    for partial in path.parent.glob(f".{glob.escape(path.name[:80])}.*.partial*"):
        partial.unlink(missing_ok=True)


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


def _flush(path: Path) -> None:
    """Has the disk hold what was written to a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _umask() -> int:
    """The process's mask of new files, which `tempfile` does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
