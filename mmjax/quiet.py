"""Keeps back what Orbax, TensorStore and asyncio print of a checkpoint that fails: the command says it in one line.

A write that fails leaves hundreds of half-done coroutines behind, each with a traceback of its own on stderr, some of
them only when Python collects its garbage. A read that fails ends Orbax's event loop; TensorStore's other reads then
report to it from threads of their own, which Python prints one by one, the last of them after the error is told.
"""

import contextlib
import logging
import sys
import traceback as tracebacks
from collections.abc import Iterator
from types import TracebackType

_LIBRARIES = ("/orbax/", "/tensorstore/", "/asyncio/")
_OURS = "/mmjax/"
_NO_METRICS = "did not provide metrics"  # Orbax warns of each checkpoint that is saved between two evaluations


@contextlib.contextmanager
def quiet_checkpoints() -> Iterator[None]:
    """While the block runs, errors inside these libraries that nobody catches are not printed; all others are.

    Where an error ends the block, those of half-done coroutines and threads are not printed afterwards either.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    excepthook, unraisablehook = sys.excepthook, sys.unraisablehook
    for logger in loggers:
        logger.addFilter(_is_wanted)
    sys.excepthook = lambda *error: None if _is_theirs(error[2]) else excepthook(*error)
    sys.unraisablehook = lambda event: None if _is_of_coroutine(event) else unraisablehook(event)
    try:
        yield
        sys.unraisablehook = unraisablehook
    except BaseException:
        logging.getLogger("asyncio").addFilter(_is_not_late)
        raise
    finally:
        sys.excepthook = excepthook
        for logger in loggers:
            logger.removeFilter(_is_wanted)


def without_frames(error: BaseException) -> BaseException:
    """The error, and those that it came from, without what their frames keep alive: coroutines that never end."""
    seen: set[int] = set()
    open_: list[BaseException | None] = [error]
    while open_:
        each = open_.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            tracebacks.clear_frames(each.__traceback__)
            open_ += [each.__cause__, each.__context__]
    return error


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether a line of a logger is to be seen: not an error that Orbax reports, nor anything of asyncio."""
    theirs = record.name == "asyncio" or any(part in record.pathname for part in _LIBRARIES)
    return not (theirs and (record.levelno >= logging.ERROR or _NO_METRICS in record.getMessage()))


def _is_not_late(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio's logger is none about an exception that these libraries left."""
    return not (record.exc_info and _is_theirs(record.exc_info[2]))


def _is_theirs(traceback: TracebackType | None) -> bool:
    names = [frame.filename for frame in tracebacks.extract_tb(traceback)]
    return any(part in name for part in _LIBRARIES for name in names) and not any(_OURS in name for name in names)


def _is_of_coroutine(event) -> bool:
    """Of an event of `sys.unraisablehook`: whether it is about a coroutine or a thread of these libraries."""
    if issubclass(event.exc_type, KeyboardInterrupt):
        return False
    code = getattr(event.object, "cr_code", None)
    return _is_theirs(event.exc_traceback) or any(part in getattr(code, "co_filename", "") for part in _LIBRARIES)
