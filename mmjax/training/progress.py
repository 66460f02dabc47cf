"""The figures of the steps, taken in one step late, so that one step is always under way on the device.

The clock of the log runs here as well: what is no step (compiling, evaluating, saving) is left out of the step time,
and the time that the loop stands waiting for a batch is counted apart.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from mmjax import device_memory
from mmjax.models import flops
from mmjax.training import summary
from mmjax.training.compiled import CompiledStep
from mmjax.training.finite import FiniteCheck
from mmjax.training.step import Metrics
from mmjax.training.telemetry import Meter, Telemetry


class _UnderWay(NamedTuple):
    """A step that the device may still be working on."""

    step: int
    metrics: Metrics
    batch: dict[str, np.ndarray]  # on the host
    work: CompiledStep


class Progress:
    """How far a run has come, for its telemetry.

    Args:
      check: stops the run at a step that is not finite.
      timesteps: of the noise schedule.
    """

    def __init__(self, telemetry: Telemetry, check: FiniteCheck, timesteps: int):
        self._telemetry = telemetry
        self._check = check
        self._meter = Meter(timesteps)
        self._under_way: _UnderWay | None = None
        self._memory_is_logged = False
        self._mark = time.monotonic()

    def next_batch(self, batches: Iterator) -> dict[str, np.ndarray]:
        """The next batch; the time until it is there counts as waiting."""
        began = time.monotonic()
        batch = next(batches)
        self._meter.waited += time.monotonic() - began
        return batch

    def add(self, step: int, metrics: Metrics, batch: dict[str, np.ndarray], work: CompiledStep) -> None:
        """Notes a step that was just handed to the device, and takes in the figures of the one before.

        Args:
          batch: of the step, as `next_batch` gave it.
          work: what was handed over, with its samples and floating-point operations.

        Raises:
          MMJaxError: the step before was not finite.
        """
        before, self._under_way = self._under_way, _UnderWay(step, metrics, batch, work)
        self._take_in(before)

    def settle(self) -> None:
        """Waits for the step that is under way and takes in its figures. Raises `MMJaxError` as `add` does."""
        before, self._under_way = self._under_way, None
        self._take_in(before)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Work that is no part of a step: it does not count as step time."""
        self.settle()
        yield
        self._mark = time.monotonic()
        self._telemetry.unpause()

    def log(self, step: int) -> None:
        """Writes the row of the log for the steps since the last one."""
        self.settle()
        figures = self._meter.row(jax.device_count(), flops.peak_flops(jax.devices()[0].device_kind))
        peak = device_memory.peak_bytes()
        if peak is not None:
            figures["memory/peak_gib"] = peak / summary.GIB
            if not self._memory_is_logged:
                self._telemetry.log(f"memory a device, measured: {summary.size_text(peak)} at the peak")
                self._memory_is_logged = True
        self._telemetry.write(step, figures)
        self._meter.clear()

    def _take_in(self, done: _UnderWay | None) -> None:
        if done is not None:
            metrics = jax.device_get(done.metrics)
            self._check(done.step, metrics, done.batch)
            self._meter.add(metrics, done.work.samples, done.work.operations)
            self._telemetry.advance(float(metrics["loss"]))
        now = time.monotonic()
        self._meter.seconds += now - self._mark
        self._mark = now
