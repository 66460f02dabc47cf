"""When a run is to stop before its end, and how its processes agree about it."""

import contextlib
import os
import signal
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

_INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
_AGAIN = " (Ctrl-C again stops at once)"


class StopSignals:
    """Listens for SIGTERM and SIGINT while it is entered; a second SIGINT stops at once.

    With several processes SIGTERM is left to JAX, which brings all of them to stop at the same step.

    Args:
      preempted: of a step, whether JAX was told to stop all processes after it; asked where there are several.
    """

    def __init__(self, preempted: Callable[[int], bool]):
        self._preempted = preempted
        self._caught = False
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, *((signal.SIGTERM,) if jax.process_count() == 1 else ())):
            with contextlib.suppress(ValueError):  # not in the main thread: the caller's signals are the caller's
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def after(self, step: int) -> bool:
        """Whether to stop after this step; all processes must ask, and all get the same answer."""
        if jax.process_count() > 1:
            return self._preempted(step) or agreed(self._caught)
        return self._caught

    def _catch(self, number, frame):
        if self._caught and number == signal.SIGINT:
            _say("stopped at once; --workdir goes on from the last complete checkpoint")
            os._exit(_INTERRUPTED)
        if not self._caught:
            _say("stopping after this step; what is trained is saved first" + _AGAIN * (number == signal.SIGINT))
        self._caught = True


def _say(text: str) -> None:
    """A line on stderr, past Python's buffers, in which the signal may have come."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def agreed(mine: bool) -> bool:
    """Process 0's answer, for all processes: clocks differ, and all must do the same."""
    return mine if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(mine)))
