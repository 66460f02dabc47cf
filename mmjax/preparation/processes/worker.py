"""The life of a worker process: it reads tasks from a pipe, works on one at a time, sends results and signs of life.

The pipe is its lifeline. When it ends, for whatever reason the main process died of, the worker ends too. Nothing here
imports JAX, which would take the accelerator. `mmjax.preparation.processes.pool` is the other end.
"""

import contextlib
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from absl import logging

from mmjax.errors import DataError, MMJaxError
from mmjax.preparation.reasons import Rejected

_BEAT = 0.5  # seconds between two signs of life that are sent

_lifeline: Connection | None = None  # of this process, where it is a worker
_last_beat = 0.0


def beat() -> None:
    """A sign of life, for work that may rightly take long; without effect outside of a worker."""
    global _last_beat
    if _lifeline is not None and time.monotonic() - _last_beat > _BEAT:
        _last_beat = time.monotonic()
        with contextlib.suppress(OSError):
            _lifeline.send_bytes(b"")


class Fatal:
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
        return _send(pipe, Fatal(_mendable(error, "a worker process could not start")))
    _send(pipe, None)
    _lifeline = pipe
    while True:
        task = tasks.get()
        try:
            result = outcome(function, task)
        except MMJaxError as error:
            result = Fatal(error)
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
    with contextlib.suppress(OSError):  # the main process is gone, which `_listen` sees
        pipe.send_bytes(message)


def outcome(function: Callable, task):
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
