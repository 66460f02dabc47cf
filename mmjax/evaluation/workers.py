"""Worker processes that look at videos, through Pebble: one that hangs or dies costs its own video and no other.

Workers are started afresh (not forked: libraries of the parent hold threads), take no accelerator, and ignore Ctrl-C,
which is for the parent. Each opens its tools once.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pebble

from mmjax.errors import ConfigError, DataError, MMJaxError, error_text

_GIBIBYTES = 8.0  # that a worker may allocate
_TRIES = 3  # in a row that all workers may die with no task done


@dataclasses.dataclass(frozen=True)
class Failed:
    """Why a task has no result."""

    why: str


class Workers:
    """Processes that look at things, each with tools of its own.

        with Workers(2, open_tools, settings, look, seconds=120) as workers:
            for number, found in workers.run(tasks): ...

    Args:
      count: processes; 0 works in this one, without limits.
      open_tools: `open_tools(settings)` once in each worker; like `look`, of a module that can be imported.
      look: `look(tools, task)`.
      seconds: that a task may take.
    """

    def __init__(
        self,
        count: int,
        open_tools: Callable[[Any], Any],
        settings: Any,
        look: Callable[[Any, Any], Any],
        seconds: float,
    ):
        self._count, self._open, self._look, self._seconds = count, (open_tools, settings), look, seconds
        self._pool: pebble.ProcessPool | None = None
        self._tools: Any = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._stop()

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(number of the task, its result or `Failed`), in the order in which they are done.

        A worker that dies at its task costs that task. Workers that die at none, while they open their tools or wait,
        are started afresh for the tasks that are left.

        Raises `MMJaxError` where the tools cannot be opened, `ConfigError` where workers die of opening them.
        """
        if not self._count:
            open_tools, settings = self._open
            self._tools = self._tools or (open_tools(settings) if tasks else None)
            for number, task in enumerate(tasks):
                yield number, _looked(self._look, self._tools, task)
            return
        left, tries = dict(enumerate(tasks)), 0
        while left and tries < _TRIES:
            tries += 1
            for number, found in self._results(left):
                del left[number]
                tries = 0
                yield number, found
        if left:
            raise ConfigError(
                f"workers: expected processes that open detector and embedders, found that they died of it {tries} "
                f"times in a row, with {len(left)} of {len(tasks)} files left; give fewer --workers where memory is "
                "short, or --workers 0, which shows why; a script of yours calls this below if __name__ == '__main__'"
            )

    def _results(self, left: Mapping[int, Any]) -> Iterator[tuple[int, Any]]:
        """Those that workers give until they have died at no task, or all of them."""
        futures = self._scheduled(left)
        for future in concurrent.futures.as_completed(futures):
            if isinstance(future.exception(), concurrent.futures.process.BrokenProcessPool):
                self._stop()  # what waits in its queue would wait for ever
                return
            yield futures[future], _result(future, self._seconds)

    def _scheduled(self, left: Mapping[int, Any]) -> dict[concurrent.futures.Future, int]:
        if self._pool is not None and not self._pool.active:
            self._stop()
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = pebble.ProcessPool(self._count, initializer=_start, initargs=self._open, context=context)
        with _interrupts_held():
            return {
                self._pool.schedule(_look, (self._look, task), timeout=self._seconds): number
                for number, task in left.items()
            }

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
        self._pool = None


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes and threads that are started in the block never see Ctrl-C, not even while they import."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_tools: Any = None  # of this worker: what it looks with, or the error of opening it, a `MMJaxError`


def _start(open_tools: Callable, settings: Any) -> None:
    global _tools
    os.environ |= {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}  # processes are the parallelism
    _limit_memory()
    try:
        _tools = open_tools(settings)
    except MMJaxError as error:  # told by the first task: a pool says nothing of why it does not start
        _tools = error
    except Exception as error:
        said = f"{type(error).__name__}: {error_text(error)}"
        _tools = ConfigError(f"workers: expected to open detector and embedders, found {said}; see --workers 0")


def _look(look: Callable, task: Any) -> Any:
    if isinstance(_tools, MMJaxError):
        return _tools
    return _looked(look, _tools, task)


def _looked(look: Callable, tools: Any, task: Any) -> Any:
    try:
        return look(tools, task)
    except DataError as error:
        return Failed(str(error))
    except MemoryError:
        return Failed(f"it needs more than the {_GIBIBYTES:g} GiB of memory that a worker may use")


def _result(future: concurrent.futures.Future, seconds: float) -> Any:
    try:
        found = future.result()
    except concurrent.futures.TimeoutError:
        return Failed(f"it was not done within {seconds:g} s (--seconds)")
    except pebble.ProcessExpired as error:
        return Failed(f"its worker process died (exit code {error.exitcode})")
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")
    if isinstance(found, MMJaxError):
        raise found
    return found


def _limit_memory() -> None:
    """On Linux; address space that is only reserved, as models do, is free."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(_GIBIBYTES * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
