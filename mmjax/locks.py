"""Locks between processes: a file that one of them holds, and that is free again when it ends, whatever it dies of."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_TRIES = 10  # a tenth of a second apart: another process may just be asking whether the lock is held


class Held(Exception):
    """Another process holds the lock; its text names that process, as "process 4711 on HOST"."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock while the block runs; the file names this process by its machine and number, and stays.

    A shared disk without locks does not keep anybody out. Raises `Held`, and `OSError` where the file cannot be made.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        if not _take(file.fileno()):
            raise Held(_named(file.read()))
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}")
        file.flush()
        yield


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
