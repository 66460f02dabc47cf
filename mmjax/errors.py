"""Errors that are the user's to mend, and how an entry point shows them.

Every error of this family carries one clear message: the thing, what was expected, what was found and
what to do. An entry point wrapped by `exits_cleanly` prints that message without a traceback and exits with 2.
Ctrl-C ends in one line as well, and status 130.
"""

import atexit
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

_STOPPED, _INTERRUPTED = "stopped", 130  # what Ctrl-C ends in: a line and an exit status


class MMJaxError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(MMJaxError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another one."""


class DataError(MMJaxError):
    """A record, data set, picture or clip cannot be used."""

    @classmethod
    def of_several(cls, refused: Sequence[str], count: int) -> "DataError":
        """One error for reference pictures that cannot be used: a message for each, of `count` in all."""
        if len(refused) == 1:
            return cls(refused[0])
        return cls(f"references: {len(refused)} of {count} pictures cannot be used: " + "; ".join(refused))


class MediaError(DataError):
    """A picture or video cannot be read; the message says what was found, and does not name the file.

    Attributes:
      reason: "unreadable", "too_large" or "unsupported" (it says of itself what is not read rightly).
      value: what was measured, such as megapixels; None where nothing was.
    """

    def __init__(self, reason: str, detail: str, value: float | None = None):
        super().__init__(detail)
        self.reason, self.detail, self.value = reason, detail, value


class PromptError(MMJaxError):
    """A prompt lacks what the identity needs: the class word and the trigger."""


class UnreadableError(PromptError):
    """A prompt of which the text encoder can read too little, such as one in another script."""


class CheckpointError(MMJaxError):
    """A checkpoint is missing, incomplete, or does not fit the model."""


class ConversionError(MMJaxError):
    """A source folder does not hold the tensors that the model needs."""


class OutputError(MMJaxError):
    """A file or folder cannot be written where it was asked for, or would replace what is to stay."""


class TreeError(MMJaxError):
    """Two parameter trees that should match do not."""


def error_text(error: BaseException) -> str:
    """What a library says of its trouble, in one short line."""
    text = getattr(error, "strerror", None) or str(error)  # libav's has no more to say than this
    return text.strip().partition("\n")[0][:200] or type(error).__name__


def exits_cleanly(main: Callable) -> Callable:
    """Wraps an entry point: what the user can mend becomes one message on stderr and exit status 2, Ctrl-C 130.

    That is `MMJaxError`, and an `OSError` of the system, such as a full disk, which names its file. What Ctrl-C stopped
    may be said by the text of the `KeyboardInterrupt`. A console that cannot show a letter shows its number.

    After Ctrl-C a command (`python -m mmjax.NAME`) runs none of the libraries' own farewells: JAX's takes the devices
    away from a program that XLA still compiles in a thread, waits for it, and ends in a segmentation fault.

    Set MMJAX_TRACEBACK=1 to see the traceback of an error.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError):  # of streams that are no text files
                stream.reconfigure(errors="backslashreplace")
        if signal.getsignal(signal.SIGINT) is _stop_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        hook, sys.unraisablehook = sys.unraisablehook, _not_lost
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt as stop:
            print(f"stopped; {stop}" if str(stop) else _STOPPED, file=sys.stderr, flush=True)
            if _is_command():
                atexit.register(leave, _INTERRUPTED)  # the last to be registered is the first to be called
            sys.exit(_INTERRUPTED)
        except (MMJaxError, OSError) as error:
            if os.environ.get("MMJAX_TRACEBACK") or (isinstance(error, OSError) and not error.errno):
                raise
            print(f"error: {_line(error)}", file=sys.stderr, flush=True)
            sys.exit(2)
        finally:
            sys.unraisablehook = hook

    return wrapped


def leave(status: int) -> None:
    """Ends this process and its workers now."""
    import multiprocessing

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(status)


def stop_while_imported() -> None:
    """Has Ctrl-C end a command at once while it is still being imported, which takes seconds and leaves no work behind.

    An exception would not do: some libraries lose it in callbacks. From then on `exits_cleanly` takes it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_at_once)


def _is_command() -> bool:
    """Whether this process is a command's own, and not one that has called a command's function."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.startswith("mmjax.")


def _stop_at_once(*_) -> None:
    os.write(2, f"{_STOPPED}\n".encode())
    os._exit(_INTERRUPTED)


def _not_lost(unraisable) -> None:
    """Has Ctrl-C come again where it met a callback that can raise nothing, such as JAX's at a garbage collection."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main = threading.main_thread().ident
        again = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))  # at once: in the same callback
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


def _line(error: Exception) -> str:
    """The message of an error, of the system's with the files that it names."""
    if isinstance(error, MMJaxError):
        return str(error)
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return ": ".join([*named, error.strerror or str(error)])
