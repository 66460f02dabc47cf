"""What a run reports while it runs: JSON lines, TensorBoard, a progress bar. Process 0 alone writes.

`metrics.jsonl` holds one object a line, `{"step": 10, "train/loss": ...}`, with the tags that TensorBoard shows. A
resumed run drops the rows past the step it goes on from, so that no step is there twice. What cannot be written, as on
a full disk, is said once and left out: no figure is worth the run. TensorBoard's writer and the progress bar are
imported when a run begins.
"""

import contextlib
import json
import math
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from mmjax import files, media
from mmjax.training.objectives.terms import Figures

_FLUSH = 30.0  # seconds between two times that TensorBoard's file is brought to the disk


class Telemetry:
    """The writers of one run.

    Args:
      workdir: of the run.
      first: the step that it goes on from; 0 for a new one.
      total: the steps in all.
    """

    def __init__(self, workdir: Path, first: int, total: int):
        from tqdm import tqdm

        self.workdir = Path(workdir)
        self.total = total
        self.active = jax.process_index() == 0
        self._watched = self.active and sys.stderr.isatty()
        self._bar = tqdm(
            initial=first, total=total, unit="step", disable=not self._watched, mininterval=0.5, dynamic_ncols=True
        )
        self._unwritten: set[str] = set()  # what could not be written, and was said
        self._board: _Board | None = None
        if self.active:
            self.workdir.mkdir(parents=True, exist_ok=True)
            with self._going_on("metrics.jsonl"):
                if lost := drop_rows_after(self._rows, first):
                    self.log(f"{self._rows}: {lost} lines could not be read and are left out")
            with self._going_on("tensorboard"):
                self._board = _Board(self.workdir / "tensorboard", first + 1)

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
            with contextlib.suppress(OSError, UnicodeError):  # a reader who has gone, a console of few letters
                self._bar.write(text, file=sys.stdout)
                sys.stdout.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One row of figures, by tag. A figure that is not finite is left out: JSON has none.

        Where no terminal shows the progress bar, a row of the training loss is a line of text as well.
        """
        if not self.active:
            return
        row = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        with self._going_on("metrics.jsonl"):
            _append_line(self._rows, json.dumps({"step": step} | row))
        self._on_board(lambda board: board.scalars(row, step))
        if not self._watched and "speed/seconds_per_step" in row:
            pace = row["speed/seconds_per_step"]
            left = self._bar.format_interval((self.total - step) * pace)
            loss = f"loss {row['train/loss']:.4f}" if "train/loss" in row else "no loss"
            self.log(f"step {step} of {self.total}: {loss}, {pace:.3g} s a step, {left} left")

    def picture(self, step: int, picture: UInt8[np.ndarray, "h w 3"], name: str = "samples") -> None:
        """A picture such as a contact sheet of samples: `NAME/STEP.png`, and TensorBoard."""
        if not self.active:
            return
        with self._going_on(name):
            media.write_png(self.workdir / name / f"{step}.png", picture)
        self._on_board(lambda board: board.picture(name, np.asarray(picture), step))

    def clip(self, step: int, frames: UInt8[np.ndarray, "frames h w 3"], fps: float, name: str = "samples") -> None:
        """A video: `NAME/STEP.mp4`, and in TensorBoard, as an animated picture that plays there, `NAME/clip`."""
        if not self.active:
            return
        with self._going_on(name):
            media.write_video(self.workdir / name / f"{step}.mp4", frames, fps)
        self._on_board(lambda board: board.clip(f"{name}/clip", frames, fps, step))

    def close(self) -> None:
        """Writes out what is left."""
        self._bar.close()
        self._on_board(lambda board: board.close())

    def _on_board(self, write: Callable[["_Board"], None]) -> None:
        """Writes to TensorBoard's file, which is of no more use once an event in it was broken off."""
        board, self._board = self._board, None
        if board:
            with self._going_on("tensorboard"):
                write(board)
                self._board = board

    @contextlib.contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Says once of each thing in the workdir that it cannot be written (`OSError`), and goes on."""
        try:
            yield
            self._unwritten.discard(what)
        except OSError as error:
            if what not in self._unwritten:
                self._unwritten.add(what)
                reason = error.strerror or error
                self.log(f"{self.workdir / what} cannot be written ({reason}); training goes on without it")


class _Board:
    """TensorBoard's events, written at once: tensorboardX's own writer has a thread, whose errors nobody would see.

    Args:
      first: step from which on events of an earlier run in this folder no longer count.
    """

    def __init__(self, folder: Path, first: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = 0.0
        self._write(first, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboardX import summary

        for tag, value in values.items():
            self._write(step, summary=summary.scalar(tag, value))
        self._flush_in_time()

    def picture(self, tag: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        from tensorboardX import summary

        self._write(step, summary=summary.image(tag, picture, dataformats="HWC"))
        self._flush_in_time()

    def clip(self, tag: str, frames: UInt8[np.ndarray, "frames h w 3"], fps: float, step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        content = media.encode_gif(frames, fps)
        width, height = struct.unpack("<HH", content[6:10])  # in a GIF's head
        shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._write(step, summary=Summary(value=[Summary.Value(tag=tag, image=shown)]))
        self._flush_in_time()

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int, **content) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def _flush_in_time(self) -> None:
        if time.monotonic() - self._flushed > _FLUSH:
            self._writer.flush()
            self._flushed = time.monotonic()


class Meter:
    """Means over the steps between two rows of the log."""

    def __init__(self, train_steps: int):
        self.train_steps = train_steps  # timesteps of the noise schedule, for the names of the buckets; 0 for none
        self.clear()

    def clear(self) -> None:
        self.steps = 0
        self.samples = 0
        self.flops = 0.0
        self.seconds = 0.0
        self.waited = 0.0  # seconds, for batches
        self._loss = 0.0  # sum over the steps that were not skipped
        self._skipped = 0
        self._last: dict[str, float] = {}
        self._figures: dict[str, dict[str, np.ndarray]] = {"sums": {}, "counts": {}}

    def add(self, metrics: dict[str, np.ndarray], samples: int, flops: float) -> None:
        """The metrics of one step, on the host, with its batch size and floating-point operations, 0 if not known."""
        self.steps += 1
        self.samples += samples
        self.flops += flops
        if metrics["skipped"]:
            self._skipped += 1
            return
        self._loss += float(metrics["loss"])
        self._figures = add_figures(self._figures, metrics)
        scalars = {name: value for name, value in metrics.items() if name not in ("sums", "counts", "skipped")}
        self._last = {name: float(value) for name, value in scalars.items()}

    def row(self, devices: int, peak: float | None) -> dict[str, float]:
        """Tags and figures; `peak` is one device's FLOP/s, None leaves out MFU.

        The loss, its terms and what is split by timestep are means over the window, without the steps that were skipped
        (their share is `skipped`); norms and learning rate are the last step's.
        `data_wait` is the share of the time that the loop stood waiting for a batch; the device may have been busy
        meanwhile with the step before, so it is an upper bound of what faster data would save.
        """
        row = {f"train/{name}": value for name, value in self._last.items()}
        row["train/skipped"] = self._skipped / self.steps
        if counted := self.steps - self._skipped:
            row |= {"train/loss": self._loss / counted} | figures_row("train", self._figures, self.train_steps)
        if self.seconds:
            row |= {
                "speed/seconds_per_step": self.seconds / self.steps,
                "speed/samples_per_second": self.samples / self.seconds,
                "speed/data_wait": self.waited / self.seconds,
            }
        if self.seconds and self.flops:
            rate = self.flops / self.seconds / devices
            row |= {"speed/tflops_per_device": rate / 1e12} | ({} if peak is None else {"speed/mfu": rate / peak})
        return row


def add_figures(one: Figures, other: Figures) -> Figures:
    """The sums and counts of both; `one` may be empty."""
    return {
        kind: {name: one[kind].get(name, 0.0) + np.asarray(value) for name, value in other[kind].items()}
        for kind in ("sums", "counts")
    }


def figures_row(prefix: str, figures: Figures, train_steps: int) -> dict[str, float]:
    """Means of what was counted: `train/identity`, and by timestep `train/loss_t000-099`."""
    row = {}
    for name, sums in figures["sums"].items():
        counts = figures["counts"][name]
        width = train_steps // np.size(sums)
        for i, (total, count) in enumerate(zip(np.ravel(sums), np.ravel(counts), strict=True)):
            if count:
                place = f"_t{i * width:03d}-{(i + 1) * width - 1:03d}" if np.ndim(sums) else ""
                row[f"{prefix}/{name}{place}"] = float(total / count)
    return row


def drop_rows_after(path: Path, step: int) -> int:
    """Drops the rows of a `metrics.jsonl` past `step`, and lines that are none; returns how many of these there were.

    A run that was killed leaves such a line where it was writing. Raises `OSError` where the file cannot be read.
    """
    if not path.exists():
        return 0
    kept, lost = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            number = json.loads(line)["step"]
            kept += [line + b"\n"] if number <= step else []
        except (ValueError, TypeError, KeyError, RecursionError):
            lost += 1
    files.write_bytes(path, b"".join(kept))
    return lost


def _append_line(path: Path, line: str) -> None:
    """Appends a line, and first ends one that was broken off."""
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            broken_off = file.read(1) != b"\n"
            line = "\n" + line if broken_off else line
        file.write(line.encode() + b"\n")
