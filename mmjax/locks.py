"""Locks between processes: a file that one of them holds, and that is free again when it ends, whatever it dies of."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_TRIES = 10  # a tenth of a second apart: another process may just be asking whether the lock is held


class Held(Exception):
    """Another process holds the lock; its text names that process, as "process 4711 on HOST"."""


@contextlib.contextmanager
def held(path: Path, temporary: bool = False) -> Iterator[None]:
    """Holds the lock while the block runs; the file names this process by its machine and number.

    A shared disk without locks does not keep anybody out. Raises `Held`, and `OSError` where the file cannot be made.

    Args:
      temporary: the file is gone afterwards, in place of staying.
    """
    with _taken(path) as file:
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}")
        file.flush()
        try:
            yield
        finally:
            if temporary:  # while it is held: who waits looks whether the file is still the one that he locked
                path.unlink(missing_ok=True)


def _taken(path: Path) -> TextIO:
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        if not _take(file.fileno()):
            with file:
                raise Held(_named(file.read()))
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()  # its holder removed it before it was locked here: once more


def holder(path: Path) -> str | None:
    """Which process holds the lock now, as `Held` names it; None where it is free, or nothing can be said."""
    try:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _named(file.read())
    except OSError:
        pass
    return None


def machine_of(text: str) -> str:
    """The machine that is named in the file of a lock; empty where none is."""
    return text.partition(" ")[0]


def _named(text: str) -> str:
    host, _, number = text.partition(" ")
    return f"process {number or '?'} on {host or 'an unknown machine'}"


def _take(descriptor: int) -> bool:
    """False where another process holds it."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return True
    return False
