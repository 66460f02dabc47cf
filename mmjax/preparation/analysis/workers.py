"""Worker processes that look at items, one at a time; a file that hangs or kills a worker costs only itself.

Each worker is a fresh Python that imports what its function needs and nothing else, least of all JAX, which would take
the accelerator: `multiprocessing` would import the main program into it. Its lifeline is one pipe. When the pipe ends,
for whatever reason the main process died of, the worker ends too.

No pool of the standard library lives through a worker that dies, and none can tell a long video from a hang. Here a
worker gives signs of life (`beat`), and its limit is the time without one.
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
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from absl import logging

from mmjax.errors import DataError, MMJaxError
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings

_BEAT = 0.5  # seconds between two beats that are sent
_START = 300.0  # seconds a worker may take to start: models are loaded, perhaps over a network
_POLL = 0.2  # seconds between two looks at the clock
_GRACE = 5.0  # seconds for a thread or a killed process to end
_TRIES = 2  # a worker that dies may have been killed by chance, as by the system for the memory of others

_lifeline: Connection | None = None  # of this process, where it is a worker
_last_beat = 0.0


def beat() -> None:
    """A sign of life, for work that may rightly take long; without effect outside of a worker."""
    global _last_beat
    if _lifeline is not None and time.monotonic() - _last_beat > _BEAT:
        _last_beat = time.monotonic()
        with contextlib.suppress(OSError):
            _lifeline.send_bytes(b"")


class Workers:
    """Runs `function(task)` for many tasks in `count` processes.

        with Workers(2, analyse, settings, load_models, (folder,)) as workers:
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
        self.count, self._ahead, self._settings, self._start = (
            count,
            ahead,
            settings,
            (function, initializer, arguments),
        )
        self._processes: dict[Connection, _Process] = {}
        self._stopping, self._pump = threading.Event(), threading.Thread()
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
        if not self.count:
            for task in tasks:
                yield task, _outcome(self._start[0], task)
            return
        run = _Run(
            self._processes,
            self.count,
            self._ahead * self.count,
            self._settings,
            self._start,
            self._stopping,
            iter(tasks),
        )
        self._pump = threading.Thread(target=run.go, daemon=True)
        self._pump.start()
        whole = False
        try:
            while (entry := run.done.get()) is not None:
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
            whole = True
        finally:
            if not whole:
                self.close()


class _Run:
    """One run over tasks: which worker has which task, and which results wait for earlier ones."""

    def __init__(self, processes, count: int, ahead: int, settings: Settings, start, stopping, tasks: Iterator):
        self._processes, self._count, self._ahead = processes, count, ahead
        self._settings, self._start = settings, start
        self._stopping, self._tasks = stopping, tasks
        self.done: queue.Queue = queue.Queue(ahead)
        self._pending: deque = deque()  # (number, task, how many workers it may take down)
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
        while not self._exhausted and self._given - self._taken < self._ahead:
            try:
                task = next(self._tasks)
            except StopIteration:
                self._exhausted = True
                return
            self._pending.append((self._given, task, _TRIES))
            self._given += 1

    def _hand_out(self):
        """Gives free workers a task each, and starts workers while there are more tasks."""
        for process in self._processes.values():
            if self._pending and process.ready and not process.task:
                process.give(self._pending.popleft())
        working = sum(process.task is not None for process in self._processes.values())
        while len(self._processes) < min(self._count, working + len(self._pending)):
            process = _Process(self._start, self._settings)
            self._processes[process.pipe] = process

    def _pass_on(self):
        while self._taken in self._waiting and not self.done.full():  # nobody else puts
            self.done.put(self._waiting.pop(self._taken))
            self._taken += 1

    def _receive(self, process):
        """Takes a beat, a result, or the news that the worker is dead."""
        process.seen = time.monotonic()
        try:
            message = process.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._lost(process)
        if not message:
            return
        result = pickle.loads(message)
        if isinstance(result, _Fatal):
            raise result.error
        if process.ready:
            self._waiting[process.task[0]] = (process.task[1], result)
        process.ready, process.task = True, None

    def _lost(self, process):
        how = process.end(_GRACE)
        del self._processes[process.pipe]
        if not process.ready:
            raise DataError(f"a worker process ended before its first item ({how}); its last words are above")
        if process.task is None:
            return
        number, task, tries = process.task
        if tries > 1:
            self._pending.appendleft((number, task, tries - 1))
        else:
            self._waiting[number] = (task, Rejected("crashed", f"its worker process ended {_TRIES} times ({how})"))

    def _check_time(self, process):
        if process.ready and not process.task:
            return
        seconds, quiet = self._settings.item_seconds, time.monotonic() - process.seen
        if quiet < (seconds if process.ready else _START) or process.pipe.poll():
            return
        process.end()
        del self._processes[process.pipe]
        if not process.ready:
            raise DataError(f"a worker process did not start within {_START:.0f} s; try again with fewer workers")
        number, task, _ = process.task
        self._waiting[number] = (task, Rejected("too_slow", f"no sign of life for {seconds:g} s", quiet))


class _Process:
    """A worker as the main process sees it. `task` is (number, task, tries) or None."""

    def __init__(self, start, settings: Settings):
        self.pipe, theirs = Pipe()
        self.ready, self.task, self.seen = False, None, time.monotonic()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the main process
            )
        self.pipe.send((settings, pickle.dumps(start)))

    def give(self, task) -> None:
        self.task, self.seen = task, time.monotonic()
        with contextlib.suppress(OSError):  # it has just died, which the end of its pipe tells
            self.pipe.send(task[1])

    def end(self, seconds: float = 0) -> str:
        """Ends the process unless it does so within `seconds`, and tells how it ended."""
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


class _Fatal:
    """An error of a worker that ends the run."""

    def __init__(self, error: Exception):
        self.error = error


def serve(descriptor: int) -> None:
    """The life of a worker process; `descriptor` is its end of the pipe."""
    global _lifeline
    pipe = Connection(descriptor)
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    settings, start = pipe.recv()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    _limit_memory(settings.max_gibibytes)
    try:
        function, initializer, arguments = pickle.loads(start)
        if initializer:
            initializer(*arguments)
    except Exception as error:
        return _send(pipe, _Fatal(_mendable(error, "a worker process could not start")))
    _send(pipe, None)
    _lifeline = pipe
    while True:
        task = tasks.get()
        try:
            result = _outcome(function, task)
        except MMJaxError as error:
            result = _Fatal(error)
        _send(pipe, result)


def _listen(pipe: Connection, tasks: queue.SimpleQueue) -> None:
    """Reads ahead of the work, so that the end of the main process is seen during it."""
    try:
        while True:
            tasks.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


def _send(pipe: Connection, result) -> None:
    message = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    with contextlib.suppress(OSError):  # the main process is gone, which `_listen` tells
        pipe.send_bytes(message)


def _outcome(function: Callable, task):
    """The result, or `Rejected` for whatever goes wrong with the task; errors of the whole run are raised."""
    try:
        return function(task)
    except Rejected as error:
        return Rejected(error.reason, error.detail, error.value)  # without the frames that hold its pixels
    except DataError as error:
        return Rejected("unreadable", str(error))
    except MMJaxError:
        raise
    except MemoryError:
        return Rejected("too_large", "it does not fit into the memory that a worker may use")
    except Exception as error:
        logging.error("%s: %s", task, traceback.format_exc())
        return Rejected("crashed", f"{type(error).__name__}: {error}")


def _mendable(error: Exception, what: str) -> Exception:
    return error if isinstance(error, MMJaxError) else DataError(f"{what}: {type(error).__name__}: {error}")


def _limit_memory(gibibytes: float) -> None:
    """Bounds what the process may allocate, on Linux; address space that is only reserved, as models do, is free."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
