"""The folder `work/` of a preparation: what is done, so that it can be stopped and gone on with at any moment.

    process-0.lock           held by that process while it is at work; names its machine
    plan.json                what is prepared, from what, by which encoders; a later run must mean the same
    analysis/photos-00003.npz    findings of a chunk of items (`mmjax.preparation.analysis.chunks`)
    encoded/images-train-00003.json    a shard that is written: how many records, and what was dropped on the way

A file here takes its name when what it stands for is on disk. Work is cut into chunks and shards that do not depend on
how many processes there are, and process P of N does those whose number is P modulo N: a stopped preparation may go on
with more machines.
"""

import contextlib
import enum
import fcntl
import json
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmjax import locks
from mmjax.errors import ConfigError, DataError
from mmjax.files import write_json

SCHEMA = 1  # raise it when what is kept in this folder changes


class Presence(enum.Enum):
    """What the lock of a process says of it."""

    AT_WORK = "at work"
    ENDED = "not at work"
    UNKNOWN = "of unknown state"  # its disk has no locks, or only locks within one machine


class Work:
    """The folder, as process `process` of `processes` sees it."""

    def __init__(self, output: Path, process: int = 0, processes: int = 1):
        if not 0 <= process < processes:
            raise ConfigError(f"--process = {process}: expected 0 to {processes - 1}, below --processes")
        self.output, self.folder = output, output / "work"
        self.process, self.processes = process, processes

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps others from being this process meanwhile: two would write to the same files.

        The lock ends with the process that holds it, whatever it dies of. Raises `ConfigError` where another one is at
        work, or the folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locks.held(self._lock_path(self.process)))
            except locks.Held as other:
                raise ConfigError(
                    f"{self.output}: process {self.process} of this preparation is at work already, as {other}; wait "
                    "for it or end it, or give each its own --process"
                ) from None
            except OSError as error:
                raise ConfigError(
                    f"{self.output}: expected a folder that can be written, found: {error.strerror}"
                ) from error
            yield

    def check_own(self) -> None:
        """Refuses a folder with files in which no preparation was begun (`ConfigError`)."""
        if self.folder.exists() or not self.output.is_dir():
            return
        others = sorted(path.name for path in self.output.iterdir() if not path.name.startswith("."))
        if others:
            raise ConfigError(
                f"{self.output}: expected a new folder, or one in which this preparation was begun, found {others[0]}"
                f"{f' and {len(others) - 1} more' if len(others) > 1 else ''} in it; give another --output"
            )

    def begin(self, plan: dict) -> None:
        """Notes what is prepared. Raises `ConfigError` where an earlier run in this folder meant something else."""
        path, plan = self.folder / "plan.json", json.loads(json.dumps({"schema": SCHEMA, **plan}))
        try:
            if not path.is_file():
                write_json(path, plan)
            found = json.loads(path.read_text())  # what another process may have noted at the same time
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); delete the folder {self.folder} and start again") from error
        if changes := list(_changes(found, plan)):
            lines = "\n".join(f"  {line}" for line in changes)
            raise ConfigError(
                f"{self.output}: was begun with something else:\n{lines}\n"
                "  go on with what it was begun with, or give another --output"
            )

    def chunk_path(self, kind: str, number: int) -> Path:
        return self.folder / "analysis" / f"{kind}s-{number:05d}.npz"

    def shard_path(self, dataset: str, split: str, number: int) -> Path:
        return self.folder / "encoded" / f"{dataset}-{split}-{number:05d}.json"

    def own(self, things: Iterable) -> list:
        """The part of all chunks or shards that is this process's."""
        return list(things)[self.process :: self.processes]

    def presence(self, process: int) -> Presence:
        """Whether another process of this preparation is at work now, as far as its lock says.

        A lock that nobody seems to hold is no proof where its process ran on another machine: some shared disks keep
        locks within a machine.
        """
        try:
            with open(self._lock_path(process)) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                host = locks.machine_of(lock.read())
        except FileNotFoundError:
            return Presence.ENDED
        except BlockingIOError:
            return Presence.AT_WORK
        except OSError:
            return Presence.UNKNOWN
        return Presence.ENDED if host in ("", socket.gethostname()) else Presence.UNKNOWN

    def _lock_path(self, process: int) -> Path:
        return self.folder / f"process-{process}.lock"


def _changes(found, plan, path: str = ""):
    if not isinstance(found, dict) or not isinstance(plan, dict):
        if found != plan:
            yield f"{path.rstrip('.')}: then {found}, now {plan}"
        return
    for key in sorted({*found, *plan}):
        yield from _changes(found.get(key), plan.get(key), f"{path}{key}.")
