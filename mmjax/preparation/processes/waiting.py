"""Waiting for what other processes of a preparation do, without waiting for one that is gone.

A process is given up when nothing new has come from it for a while. That while is short where its lock says that it is
not at work, and `settings.wait_hours` where it may be: it holds its lock, or the shared disk's locks do not say.
"""

import dataclasses
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from mmjax.errors import DataError
from mmjax.preparation.processes.work import Presence, Work

_POLL = 2.0  # seconds
_START = 600.0  # seconds that a process may take to list its input and to begin after this one


@dataclasses.dataclass(frozen=True)
class Patience:
    """Seconds without anything new from a process, after which it is given up: one not at work, and one that may be."""

    ended: float = _START
    at_work: float = 6 * 3600.0
    poll: float = _POLL


def wait_for(
    work: Work, paths: Sequence[Path], what: str, patience: Patience, log: Callable[[str], None] = print
) -> None:
    """Returns when the files of all chunks or shards are there, of which other processes write some.

    Args:
      paths: of all; process P of N writes those at P, P + N, ...
      what: they are, in the plural, for messages.

    Raises:
      DataError: of some process nothing came for as long as `patience` allows; names it and the command that starts it
        again.
    """
    seen: dict[int, _Seen] = {}
    logged = None
    while missing := _missing(paths, work.processes):
        left = sum(missing.values())
        if left != logged:
            log(f"waiting for process {', '.join(map(str, sorted(missing)))}: {left} of {len(paths)} {what} left")
            logged = left
        for process, count in missing.items():
            if process not in seen or seen[process].missing != count:
                seen[process] = _Seen(count, time.monotonic())
            _check(work, process, seen[process], what, patience)
        time.sleep(patience.poll)


@dataclasses.dataclass(frozen=True)
class _Seen:
    """How many of a process's files were missing when that last changed, and when it did."""

    missing: int
    since: float


def _missing(paths: Sequence[Path], processes: int) -> dict[int, int]:
    """How many files of each process are not there."""
    missing: dict[int, int] = defaultdict(int)
    for number, path in enumerate(paths):
        if not path.is_file():
            missing[number % processes] += 1
    return dict(missing)


def _check(work: Work, process: int, seen: _Seen, what: str, patience: Patience) -> None:
    quiet = time.monotonic() - seen.since
    if quiet < min(patience.ended, patience.at_work):
        return  # without a look at the lock, which could be taken for its holder
    presence = work.presence(process)
    if quiet < (patience.ended if presence is Presence.ENDED else patience.at_work):
        return
    raise DataError(
        f"{work.output}: waited for {seen.missing} {what} of process {process}, of which nothing came for "
        f"{quiet / 60:.0f} min (it is {presence.value}). What is done is kept. Start it again, and then this one: "
        f"{command_line(process)}"
    )


def command_line(process: int | None = None) -> str:
    """The line that runs this program again, as another process where a number is given."""
    own = [] if process is None else [f"--process={process}"]
    return shlex.join(["python", "-m", "mmjax.prepare", *_without(sys.argv[1:], "process" if own else ""), *own])


def _without(arguments: Sequence[str], flag: str) -> list[str]:
    """Arguments but for a flag, given as `--flag=value` or as `--flag value`."""
    kept, skip = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif flag and name in (f"--{flag}", f"-{flag}"):
            skip = not equals
        else:
            kept.append(argument)
    return kept
