"""Steps that were not finite: which records they had, and when so many are no accident any more.

The step itself changes nothing where its loss or its gradient is not finite (`mmjax.training.step`): one bad batch
costs a step. Each is written down, a line `{"step": 7, "loss": "nan", "records": ...}`, and after `train.max_skipped`
of them in a row the run stops and says where to look: records, or the optimizer.
"""

import contextlib
import json
from collections import deque

import jax
import numpy as np

from mmjax.errors import CheckpointError, MMJaxError
from mmjax.records import pipeline
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.step import Metrics
from mmjax.training.tasks.task import Task
from mmjax.training.telemetry import Telemetry

_BEFORE = 20  # steps that are remembered
_GREW = 10.0  # a gradient this many times larger than it was is on its way to infinity
_STANDS_OUT = 20.0  # a record whose largest number is this many times that of the others


class FiniteCheck:
    """Looks at the metrics of each step.

    Args:
      telemetry: of the run, to tell of a step that was skipped.
      checkpoints: where the last good state is, for the message.
    """

    def __init__(self, task: Task, telemetry: Telemetry, checkpoints: Checkpoints):
        self._task, self._config = task, task.config
        self._telemetry = telemetry
        self._checkpoints = checkpoints
        self._norms: deque[float] = deque(maxlen=_BEFORE)  # of the gradients of the steps before
        self._in_a_row = 0  # steps that were skipped

    def __call__(self, step: int, metrics: Metrics, batch: dict[str, np.ndarray]) -> None:
        """Notes a step that was skipped.

        Args:
          metrics: of the step, on the host.
          batch: of the step, this process's share, on the host.

        Raises:
          MMJaxError: `train.max_skipped` in a row, or weights that are not finite: the records of the last one, the
            likelier cause, what is good, what to do.
        """
        if not metrics["skipped"] and np.isfinite(metrics["param_norm"]):
            self._norms.append(float(metrics["grad_norm"]))
            self._in_a_row = 0
            return
        self._in_a_row += 1
        records = pipeline.name_records(self._config, batch)
        wrong = [name for name in ("loss", "grad_norm", "param_norm") if not np.isfinite(metrics[name])]
        self._write_down({"step": step, **{name: str(metrics[name]) for name in wrong}, "records": records})
        what = f"step {step}: {', '.join(wrong)} not finite"
        if "param_norm" in wrong or self._in_a_row >= self._config.train.max_skipped:
            raise MMJaxError(self._stopped(what, records, batch))
        self._telemetry.log(f"{what}; the step is skipped ({self._in_a_row} in a row). Its records were {records}")

    def _write_down(self, row: dict) -> None:
        """Each process writes of its own share of the batch."""
        number = jax.process_index()
        path = self._checkpoints.workdir / (f"skipped-{number}.jsonl" if number else "skipped.jsonl")
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:  # no line is worth the run
            file.write(json.dumps(row) + "\n")

    def _stopped(self, what: str, records: str, batch: dict[str, np.ndarray]) -> str:
        with contextlib.suppress(CheckpointError):  # of one that is still being written
            self._checkpoints.wait()
        last, workdir = self._checkpoints.last_saved, self._checkpoints.workdir
        kept = "there is no checkpoint yet" if last is None else f"the checkpoint of step {last} is good"
        times = f", {self._in_a_row} times in a row" if self._in_a_row > 1 else ""
        return (
            f"{what}{times}, so the run stops; {kept}. {self._cause(batch)}. The step's records were {records}; those "
            f"of each step that was skipped are in {workdir / 'skipped.jsonl'}, the loss by timestep is in "
            f"{workdir / 'metrics.jsonl'}"
        )

    def _cause(self, batch: dict[str, np.ndarray]) -> str:
        """Whether data or optimisation is the likelier cause, why, and what to do about it."""
        advice = f"start a new run with a lower optim.learning_rate or optim.clip_norm ({self._task.takes_over})"
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
        for name, value in batch.items():
            if value.dtype.kind in "biu" or len(value) < 2:
                continue
            sizes = np.abs(value.astype(np.float32)).reshape(len(value), -1).max(1)
            row, typical = int(np.argmax(sizes)), float(np.median(sizes))
            share = sizes[row] / max(typical, 1.0)
            if share > max(found[0], _STANDS_OUT):
                where = pipeline.name_records(self._config, batch, [row])
                found = (share, f"{name} of {where} reach {sizes[row]:.3g}, those of the others {typical:.3g}")
        return found[1]
