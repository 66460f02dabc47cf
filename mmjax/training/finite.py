"""Stops a run whose loss or weights are not finite any more, and says where to look: records, or the optimizer."""

import contextlib
from collections import deque

import numpy as np

from mmjax import config as c
from mmjax.errors import CheckpointError, MMJaxError
from mmjax.records import pipeline
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.state import BATCH_FIELDS

_WATCHED = ("loss", "grad_norm", "param_norm", "update_norm")
_BEFORE = 20  # steps that are remembered
_GREW = 10.0  # a gradient this many times larger than it was is on its way to infinity
_STANDS_OUT = 20.0  # a record whose largest number is this many times that of the others


class FiniteCheck:
    """Looks at the metrics of each step.

    Args:
      checkpoints: where the last good state is, for the message.
    """

    def __init__(self, config: c.Experiment, checkpoints: Checkpoints):
        self._config = config
        self._checkpoints = checkpoints
        self._norms: deque[float] = deque(maxlen=_BEFORE)  # of the gradients of the steps before

    def __call__(self, step: int, metrics: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> None:
        """Raises `MMJaxError` for a step that is not finite: its records, the likelier cause, what is good, what to do.

        Args:
          batch: of the step, this process's share, on the host.
        """
        wrong = [name for name in _WATCHED if not np.isfinite(metrics[name])]
        if not wrong:
            self._norms.append(float(metrics["grad_norm"]))
            return
        records = pipeline.name_records(self._config, batch)
        with contextlib.suppress(CheckpointError):  # of one that is still being written
            self._checkpoints.wait()
        last = self._checkpoints.last_saved
        kept = "there is no checkpoint yet" if last is None else f"the checkpoint of step {last} is good"
        raise MMJaxError(
            f"step {step}: {', '.join(wrong)} not finite, so the run stops; {kept}. {self._cause(batch)}. The step's "
            f"records were {records}. The loss by timestep is in {self._checkpoints.workdir / 'metrics.jsonl'}"
        )

    def _cause(self, batch: dict[str, np.ndarray]) -> str:
        """Whether data or optimisation is the likelier cause, why, and what to do about it."""
        advice = (
            "start a new run with a lower optim.learning_rate or optim.clip_norm (train.adapter takes over this one's "
            "adapter)"
        )
        if outlier := self._outlier(batch):
            return f"Data is the likelier cause: {outlier}; look at this record, or leave it out"
        if self._norms and self._norms[-1] > _GREW * np.median(self._norms):
            grew = f"the norm of the gradient had grown from {np.median(self._norms):.3g} to {self._norms[-1]:.3g}"
            return f"Optimisation is the likelier cause: {grew}; {advice}"
        return (
            "Optimisation is the likelier cause: no record of the step stands out, and none holds NaN, infinity or "
            f"absurd numbers; {advice}"
        )

    def _outlier(self, batch: dict[str, np.ndarray]) -> str:
        """The record that is most unlike the others of the batch in some field, in words; "" where none is."""
        found = (0.0, "")
        for name in BATCH_FIELDS:
            value = batch[name]
            if value.dtype.kind in "biu" or len(value) < 2:
                continue
            sizes = np.abs(value.astype(np.float32)).reshape(len(value), -1).max(1)
            row, typical = int(np.argmax(sizes)), float(np.median(sizes))
            share = sizes[row] / max(typical, 1.0)
            if share > max(found[0], _STANDS_OUT):
                where = pipeline.name_records(self._config, batch, [row])
                found = (share, f"{name} of {where} reach {sizes[row]:.3g}, those of the others {typical:.3g}")
        return found[1]
