"""When a run is to stop before its end, and how its processes agree about it."""

import contextlib
import os
import signal
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax import peers
from mmjax.errors import leave
from mmjax.peers import Peers

_INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
_AGAIN = " (Ctrl-C again stops at once)"


class StopSignals:
    """Listens for SIGTERM and SIGINT while it is entered; a second SIGINT stops at once.

    With several processes SIGTERM is JAX's preemption notice: they agree through its store, beside the devices, on the
    step after which all stop; none waits for the others in a step without a signal. SIGINT is passed on as such.

    Args:
      preempted: of a step, whether it is the one that JAX has agreed on; asked where there are several processes.
      first: the last step that is done already, 0 in a new run.
    """

    def __init__(self, peers: Peers, preempted: Callable[[int], bool], first: int):
        self._peers, self._preempted, self._first = peers, preempted, first
        self._caught = False
        self._came_before = False  # a notice, before the first step
        self._several = peers.count > 1
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, *(() if self._several else (signal.SIGTERM,))):
            with contextlib.suppress(ValueError):  # not in the main thread: the caller's signals are the caller's
                self._before[number] = signal.signal(number, self._catch)
        if self._several:
            # JAX agrees on the step after the latest that any process asked about. A notice that came while none had
            # asked gives step 1, which a run that goes on is past: it stops after its first step instead.
            self._preempted(self._first)
            self._came_before = bool(self._peers.agree("notice", "", lambda said: self._peers.notice()))
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def after(self, step: int) -> bool:
        """Whether to stop after this step; all processes must ask after each, and all get the same answer."""
        if self._several:
            return self._preempted(step) or self._came_before
        return self._caught

    def _catch(self, number, frame):
        if self._caught and number == signal.SIGINT:
            _say("stopped at once; --workdir goes on from the last complete checkpoint")
            peers.tell("it was stopped at once by a second Ctrl-C")
            leave(_INTERRUPTED)
        if not self._caught:
            _say("stopping after this step; what is trained is saved first" + _AGAIN * (number == signal.SIGINT))
            if self._several:
                os.kill(os.getpid(), signal.SIGTERM)
        self._caught = True


def _say(text: str) -> None:
    """A line on stderr, past Python's buffers, in which the signal may have come."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def agreed(mine: bool) -> bool:
    """Process 0's answer, for all processes: clocks differ, and all must do the same."""
    return mine if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(mine)))
