"""The folder `work/` of a preparation: what is done, so that it can be stopped and gone on with at any moment.

    process-0.lock           held by that process while it is at work
    plan.json                what is prepared, from what, by which encoders; a later run must mean the same
    analysis/photos-00003.npz    findings of a chunk of items (`mmjax.preparation.analysis.findings`)
    encoded/images-train-00003.json    a shard that is written: how many records, and what was dropped on the way

A file here takes its name when what it stands for is on disk. Work is cut into chunks and shards that do not depend on
how many processes there are, and process P of N does those whose number is P modulo N: a stopped preparation may go on
with more machines.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmjax.errors import ConfigError, DataError
from mmjax.preparation.items import Item
from mmjax.preparation.settings import Settings

SCHEMA = 1  # raise it when what is kept in this folder changes
_POLL = 2.0  # seconds


class Work:
    """The folder, as process `process` of `processes` sees it."""

    def __init__(self, output: Path, process: int = 0, processes: int = 1):
        if not 0 <= process < processes:
            raise ConfigError(f"--process = {process}: expected 0 to {processes - 1}, below --processes")
        self.folder, self.process, self.processes = output / "work", process, processes

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps others from being this process meanwhile: two would write to the same files.

        The lock ends with the process that holds it, whatever it dies of. Raises `ConfigError` where another one is at
        work, or the folder cannot be written.
        """
        output = self.folder.parent
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / f"process-{self.process}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ConfigError(f"{output}: expected a folder that can be written, found: {error.strerror}") from error
        with os.fdopen(lock):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{output}: process {self.process} of this preparation is at work already; wait for it or end it, "
                    "or give each its own --process"
                ) from error
            except OSError:
                pass  # a shared disk without locks
            yield

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
                f"{self.folder.parent}: was begun with something else:\n{lines}\n"
                "  go on with what it was begun with, or give another --output"
            )

    def chunk_path(self, kind: str, number: int) -> Path:
        return self.folder / "analysis" / f"{kind}s-{number:05d}.npz"

    def shard_path(self, dataset: str, split: str, number: int) -> Path:
        return self.folder / "encoded" / f"{dataset}-{split}-{number:05d}.json"

    def mine(self, things: Iterable) -> list:
        """The part of some chunks or shards that is this process's."""
        return list(things)[self.process :: self.processes]

    def wait_for(self, paths: Sequence[Path], what: str) -> None:
        """Returns when the files of all chunks or shards are there, of which other processes write some."""
        told = None
        while missing := [number for number, path in enumerate(paths) if not path.is_file()]:
            if len(missing) != told:
                others = ", ".join(map(str, sorted({number % self.processes for number in missing})))
                print(f"waiting for process {others}: {len(missing)} of {len(paths)} {what} left", flush=True)
                told = len(missing)
            time.sleep(_POLL)


def chunks(items: Sequence[Item], settings: Settings) -> list[tuple[str, int, list[Item]]]:
    """(kind, number, items) in the order of the items; a chunk is what is lost at most when a process is killed."""
    found = []
    for kind, size in (("photo", settings.chunk_photos), ("video", settings.chunk_videos)):
        own = [item for item in items if item.kind == kind]
        found += [(kind, start // size, own[start : start + size]) for start in range(0, len(own), size)]
    return found


def listing_digest(items: Sequence[Item]) -> str:
    """A short hash of what is to be looked at: names, sizes, captions and people."""
    digest = hashlib.sha256()
    for item in items:
        size = item.size
        if size is None and not item.dataset:
            try:
                size = os.stat(item.path).st_size
            except OSError:
                size = None
        row = [item.key, item.kind, item.collection, size, item.dataset, item.caption, item.person, item.role]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


def write_json(path: Path, values) -> None:
    """Writes a file that takes its name when all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _changes(found, plan, path: str = ""):
    if not isinstance(found, dict) or not isinstance(plan, dict):
        if found != plan:
            yield f"{path.rstrip('.')}: then {found}, now {plan}"
        return
    for key in sorted({*found, *plan}):
        yield from _changes(found.get(key), plan.get(key), f"{path}{key}.")
