"""What a run reports while it runs: JSON lines, TensorBoard, a progress bar. Process 0 alone writes.

`metrics.jsonl` holds one object a line, `{"step": 10, "train/loss": ...}`, with the tags that TensorBoard shows. A
resumed run drops the rows past the step it goes on from, so that no step is there twice. TensorBoard's writer and the
progress bar are imported when a run begins.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from mmjax import files, media


class Telemetry:
    """The writers of one run.

    Args:
      workdir: of the run.
      first: the step that it goes on from; 0 for a new one.
      total: the steps in all.
    """

    def __init__(self, workdir: Path, first: int, total: int):
        from tensorboardX import SummaryWriter
        from tqdm import tqdm

        self.workdir = Path(workdir)
        self.total = total
        self.active = jax.process_index() == 0
        self._watched = self.active and sys.stderr.isatty()
        self._bar = tqdm(
            initial=first, total=total, unit="step", disable=not self._watched, mininterval=0.5, dynamic_ncols=True
        )
        if self.active:
            self.workdir.mkdir(parents=True, exist_ok=True)
            drop_rows_after(self._rows, first)
            self._board = SummaryWriter(str(self.workdir / "tensorboard"), purge_step=first + 1, flush_secs=30)

    @property
    def _rows(self) -> Path:
        return self.workdir / "metrics.jsonl"

    def advance(self, loss: float) -> None:
        """One step is done."""
        self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._bar.update()

    def unpause(self) -> None:
        """The time since the last step was no step: the bar's estimate of what is left leaves it out."""
        if self._watched:
            self._bar.unpause()

    def log(self, text: str) -> None:
        """A line for the reader, above the progress bar."""
        if self.active:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row of figures, by tag. A figure that is not finite is left out: JSON has none.

        Where no terminal shows the progress bar, a row of the training loss is a line of text as well.
        """
        if not self.active:
            return
        row = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        with open(self._rows, "a") as file:
            file.write(json.dumps({"step": step} | row) + "\n")
        for tag, value in row.items():
            self._board.add_scalar(tag, value, step)
        if not self._watched and "speed/seconds_per_step" in row:
            pace = row["speed/seconds_per_step"]
            left = self._bar.format_interval((self.total - step) * pace)
            self.log(f"step {step} of {self.total}: loss {row['train/loss']:.4f}, {pace:.3g} s a step, {left} left")

    def picture(self, step: int, picture: UInt8[np.ndarray, "h w 3"], name: str = "samples") -> None:
        """A picture such as a contact sheet of samples: `NAME/STEP.png`, and TensorBoard."""
        if not self.active:
            return
        media.write_png(self.workdir / name / f"{step}.png", picture)
        self._board.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is left."""
        self._bar.close()
        if self.active:
            self._board.close()


class Meter:
    """Means over the steps between two rows of the log."""

    def __init__(self, train_steps: int):
        self.train_steps = train_steps  # timesteps of the noise schedule, for the names of the buckets
        self.clear()

    def clear(self) -> None:
        self.steps = 0
        self.samples = 0
        self.flops = 0.0
        self.seconds = 0.0
        self.waited = 0.0  # seconds, for batches
        self._loss = 0.0  # sum over the steps
        self._last: dict[str, float] = {}
        self._sums = 0.0  # of the losses by timestep
        self._counts = 0.0

    def add(self, metrics: dict[str, np.ndarray], samples: int, flops: float) -> None:
        """The metrics of one step, on the host, with its batch size and floating-point operations."""
        self.steps += 1
        self.samples += samples
        self.flops += flops
        self._loss += float(metrics["loss"])
        self._sums = self._sums + metrics["bucket_sums"]
        self._counts = self._counts + metrics["bucket_counts"]
        self._last = {name: float(value) for name, value in metrics.items() if np.ndim(value) == 0}

    def row(self, devices: int, peak: float | None) -> dict[str, float]:
        """Tags and figures; `peak` is one device's FLOP/s, None leaves out MFU.

        The loss and its split by timestep are means over the window, norms and learning rate are the last step's.
        `data_wait` is the share of the time that the loop stood waiting for a batch; the device may have been busy
        meanwhile with the step before, so it is an upper bound of what faster data would save.
        """
        row = {f"train/{name}": value for name, value in self._last.items()}
        row |= {"train/loss": self._loss / self.steps} | bucket_row("train", self._sums, self._counts, self.train_steps)
        if self.seconds:
            rate = self.flops / self.seconds / devices
            row |= {
                "speed/seconds_per_step": self.seconds / self.steps,
                "speed/samples_per_second": self.samples / self.seconds,
                "speed/data_wait": self.waited / self.seconds,
                "speed/tflops_per_device": rate / 1e12,
            }
            row |= {} if peak is None else {"speed/mfu": rate / peak}
        return row


def bucket_row(prefix: str, sums: np.ndarray, counts: np.ndarray, train_steps: int) -> dict[str, float]:
    """The loss by timestep, `{"train/loss_t000-099": ...}`, for the buckets that have samples."""
    width = train_steps // len(sums)
    return {
        f"{prefix}/loss_t{i * width:03d}-{(i + 1) * width - 1:03d}": float(total / count)
        for i, (total, count) in enumerate(zip(sums, counts, strict=True))
        if count
    }


def drop_rows_after(path: Path, step: int) -> None:
    """Drops the rows of a `metrics.jsonl` past `step`, and a last line that a killed run left half written."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line + "\n")
    files.write_text(path, "".join(kept))
