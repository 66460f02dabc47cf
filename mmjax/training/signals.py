"""When a run is to stop before its end, and how its processes agree about it."""

import contextlib
import os
import signal
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


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
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._caught = True


def agreed(mine: bool) -> bool:
    """Process 0's answer, for all processes: clocks differ, and all must do the same."""
    return mine if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(mine)))
