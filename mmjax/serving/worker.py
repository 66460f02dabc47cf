"""The thread that makes the videos of the queue, one job after the other, and cleans up behind people."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from mmjax.errors import ConfigError, DataError, PromptError
from mmjax.serving.form import AskedVideo, Form
from mmjax.serving.jobs import Cancelled, Job, JobStore, MadeVideo, State
from mmjax.serving.pictures import jpeg

_LOG = logging.getLogger("mmjax.serving")
_TIDY = 1.0  # seconds between two looks at what is too old
_RECENT = 0.7  # weight of what is known in the average of a step's seconds


class Watch(Protocol):
    """How a video that is being made tells of itself. Both raise `Cancelled` where nobody wants it any more."""

    def doing(self, what: str) -> None: ...

    def step(self, done: int, total: int) -> None: ...

    def preview(self, frame: UInt8[np.ndarray, "h w 3"]) -> None: ...


class Maker(Protocol):
    """Makes one video of a form into a folder, whose files are `mmjax.serving.jobs.FILES`."""

    def make(self, form: Form, video: AskedVideo, folder: Path, watch: Watch) -> MadeVideo: ...


class Worker:
    """Makes what is in the store until it is stopped.

    Args:
      tidy: called about once a second, and between jobs.
    """

    def __init__(self, store: JobStore, maker: Maker, tidy: Callable[[], None] = lambda: None):
        self._store, self._maker, self._tidy = store, maker, tidy
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._work, self._keep_tidy)]

    def start(self) -> "Worker":
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """Ends after the step that is being computed."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout)

    def _work(self) -> None:
        while not self._stopped.is_set():
            job = self._store.next(timeout=0.2)
            if job:
                self._run(job)

    def _run(self, job: Job) -> None:
        watch = _JobWatch(job, self._stopped)
        try:
            for number, video in enumerate(job.videos):
                watch.begin(number)
                self._store.add_made(job, self._maker.make(job.form, video, job.folder / str(number), watch))
            self._store.finish(job, State.DONE)
        except Cancelled:
            self._store.finish(job, State.CANCELLED)
        except (ConfigError, DataError, PromptError) as error:
            self._store.finish(job, State.FAILED, str(error))
        except Exception as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                said = "the device ran out of memory: fewer frames or a smaller size take less"
            else:
                said = f"something broke at the server, whose log has more; it is job {job.id[:6]}"
                _LOG.exception("job %s failed", job.id[:6])
            self._store.finish(job, State.FAILED, said)

    def _keep_tidy(self) -> None:
        while not self._stopped.wait(_TIDY):
            try:
                self._tidy()
            except Exception:
                _LOG.exception("cleaning up failed")


class _JobWatch:
    """Writes how a job goes on into it."""

    def __init__(self, job: Job, stopped: threading.Event):
        self._job, self._stopped = job, stopped
        self._before, self._last = 0, None

    def begin(self, number: int) -> None:
        self._before, self._last = number * self._job.form.steps, None
        self._check()

    def doing(self, what: str) -> None:
        self._job.doing = what
        self._check()

    def step(self, done: int, total: int) -> None:
        job, now = self._job, time.monotonic()
        if self._last is not None:
            took = now - self._last
            job.step_seconds = _RECENT * job.step_seconds + (1 - _RECENT) * took if job.step_seconds else took
        self._last, job.step = now, self._before + done
        self._check()

    def preview(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        self._job.preview = jpeg(frame)
        self._job.previews += 1

    def _check(self) -> None:
        if self._job.unwanted or self._stopped.is_set():
            raise Cancelled
