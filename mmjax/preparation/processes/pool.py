"""A pool of worker processes that see items one at a time; a file that hangs or kills a worker costs only itself.

Each worker is a fresh Python that imports what its function needs and nothing else, least of all JAX, which would take
the accelerator: `multiprocessing` would import the main program into it. Its side of the pipe is
`mmjax.preparation.processes.worker`.

No pool of the standard library lives through a worker that dies, and none can tell a long video from a hang. Here a
worker gives signs of life (`worker.beat`), and its limit is the time without one.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from absl import logging

from mmjax.errors import DataError
from mmjax.preparation.processes import worker
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_START = 300.0  # seconds a worker may take to start: models are loaded, perhaps over a network
_POLL = 0.2  # seconds between two looks at the clock
_GRACE = 5.0  # seconds for a thread or a killed process to end
_TRIES = 2  # a worker that dies may have been killed by chance, as by the system for the memory of others


class WorkerPool:
    """Runs `function(task)` for many tasks in `count` processes.

        with WorkerPool(2, analyse, settings, load_models, (folder,)) as workers:
            for item, finding in workers.run(items):

    Args:
      count: of processes; 0 works in this one, without limits on time and memory, to debug.
      function: of a module that can be imported; takes a task, returns what can be pickled.
      settings: its limits `item_seconds` and `max_gibibytes` hold for each worker.
      initializer, arguments: called once in each worker before its first task.
      ahead: results for each worker that may wait for an earlier one, and as many for the main process to take them.
    """

    def __init__(
        self,
        count: int,
        function: Callable[[Any], Any],
        settings: Settings,
        initializer: Callable | None = None,
        arguments: tuple = (),
        ahead: int = 8,
    ):
        self._function = function
        self._spec = _WorkerSpec(count, ahead * count, settings, pickle.dumps((function, initializer, arguments)))
        self._processes: dict[Connection, _Process] = {}
        self._stopping = threading.Event()
        self._pump = threading.Thread()
        if not count and initializer:
            initializer(*arguments)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self) -> None:
        """Ends the workers at once, and with them what they are at."""
        self._stopping.set()
        if self._pump.is_alive():
            self._pump.join(_GRACE)
        for process in list(self._processes.values()):
            process.end()
        self._processes.clear()

    def run(self, tasks: Iterable) -> Iterator[tuple[Any, Any]]:
        """(task, result) in the order of `tasks`; the result is a `Rejected` for a task that failed.

        Workers go on while the caller is busy with a result, but only `ahead * count` tasks ahead of it; `tasks` are
        asked for in another thread. After a run the workers wait for the next one; a run that is left early closes
        them.

        Raises:
          MMJaxError: of the function or the initializer, but for `DataError`, which is the item's own trouble: no other
            item would fare better.
        """
        if self._stopping.is_set():
            raise RuntimeError("these workers were closed")
        if not self._spec.count:
            for task in tasks:
                yield task, worker.outcome(self._function, task)
            return
        dispatcher = _Dispatcher(self._processes, self._spec, self._stopping, iter(tasks))
        self._pump = threading.Thread(target=dispatcher.go, daemon=True)
        self._pump.start()
        whole = False
        try:
            while (entry := dispatcher.done.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
            whole = True
        finally:
            if not whole:
                self.close()


class _WorkerSpec(NamedTuple):
    """What all workers of a pool do. `start` is the pickled (function, initializer, arguments)."""

    count: int
    ahead: int  # tasks that may be under way or wait for an earlier one
    settings: Settings
    start: bytes


class _Assigned(NamedTuple):
    """A task, its place among all, and how many workers it may still take down."""

    number: int
    task: Any
    tries: int


class _Dispatcher:
    """One run over tasks: which worker has which task, and which results wait for earlier ones."""

    def __init__(self, processes: dict, spec: _WorkerSpec, stopping: threading.Event, tasks: Iterator):
        self._processes, self._spec = processes, spec
        self._stopping, self._tasks = stopping, tasks
        self.done: queue.Queue = queue.Queue(spec.ahead)
        self._pending: deque[_Assigned] = deque()
        self._waiting: dict[int, tuple] = {}  # (task, result) by number
        self._given = self._taken = 0
        self._exhausted = False

    def go(self) -> None:
        """Feeds workers and collects from them until all is done, an error ends the run, or `stopping` is set."""
        end = None
        try:
            while not self._stopping.is_set() and self._step():
                pass
        except BaseException as error:  # the caller is to have it
            end = error
        while not self._stopping.is_set():
            try:
                return self.done.put(end, timeout=_POLL)
            except queue.Full:
                continue

    def _step(self) -> bool:
        """False when every task is done and taken."""
        self._fetch()
        self._hand_out()
        self._pass_on()
        if self._exhausted and self._given == self._taken:
            return False
        if not self._processes:
            self._stopping.wait(_POLL)  # all is done, and the caller busy
        for pipe in wait(list(self._processes), _POLL):
            self._receive(self._processes[pipe])
        for process in list(self._processes.values()):
            self._check_time(process)
        return True

    def _fetch(self):
        while not self._exhausted and self._given - self._taken < self._spec.ahead:
            try:
                task = next(self._tasks)
            except StopIteration:
                self._exhausted = True
                return
            self._pending.append(_Assigned(self._given, task, _TRIES))
            self._given += 1

    def _hand_out(self):
        """Gives free workers a task each, and starts workers while there are more tasks."""
        for process in self._processes.values():
            if self._pending and process.ready and not process.assigned:
                process.give(self._pending.popleft())
        working = sum(process.assigned is not None for process in self._processes.values())
        while len(self._processes) < min(self._spec.count, working + len(self._pending)):
            process = _Process(self._spec)
            self._processes[process.pipe] = process

    def _pass_on(self):
        while self._taken in self._waiting and not self.done.full():  # nobody else puts
            self.done.put(self._waiting.pop(self._taken))
            self._taken += 1

    def _receive(self, process):
        """Takes a sign of life, a result, or the news that the worker is dead."""
        process.seen = time.monotonic()
        try:
            message = process.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._lost(process)
        if not message:
            return
        result = pickle.loads(message)
        if isinstance(result, worker.Fatal):
            raise result.error
        if process.ready:
            self._waiting[process.assigned.number] = (process.assigned.task, result)
        process.ready = True
        process.assigned = None

    def _lost(self, process):
        how = process.end(_GRACE)
        del self._processes[process.pipe]
        if not process.ready:
            raise DataError(f"a worker process ended before its first item ({how}); its last words are above")
        if process.assigned is None:
            return
        number, task, tries = process.assigned
        if tries > 1:
            self._pending.appendleft(_Assigned(number, task, tries - 1))
        else:
            self._waiting[number] = (task, Rejected("crashed", f"its worker process ended {_TRIES} times ({how})"))

    def _check_time(self, process):
        if process.ready and not process.assigned:
            return
        seconds, quiet = self._spec.settings.item_seconds, time.monotonic() - process.seen
        if quiet < (seconds if process.ready else _START) or process.pipe.poll():
            return
        process.end()
        del self._processes[process.pipe]
        if not process.ready:
            raise DataError(f"a worker process did not start within {_START:.0f} s; try again with fewer workers")
        late = Rejected("too_slow", f"no sign of life for {seconds:g} s", quiet)
        self._waiting[process.assigned.number] = (process.assigned.task, late)


class _Process:
    """A worker as the main process sees it. `assigned` is the task that it works on, `seen` its last sign of life."""

    def __init__(self, spec: _WorkerSpec):
        self.pipe, theirs = Pipe()
        self.ready = False
        self.assigned: _Assigned | None = None
        self.seen = time.monotonic()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {worker.__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the main process
            )
        self.pipe.send((spec.settings, spec.start))

    def give(self, assigned: _Assigned) -> None:
        self.assigned = assigned
        self.seen = time.monotonic()
        with contextlib.suppress(OSError):  # it has just died, which the end of its pipe shows
            self.pipe.send(assigned.task)

    def end(self, seconds: float = 0) -> str:
        """Ends the process unless it does so within `seconds`; returns in words how it ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.pipe.close()
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            logging.warning("worker %d cannot be ended: it waits for a disk or a network", self._process.pid)
            return "it hangs"
        return f"by the signal {signal.strsignal(-code) or -code}" if code < 0 else f"exit status {code}"
