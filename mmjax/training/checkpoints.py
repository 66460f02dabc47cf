"""Checkpoints by Orbax: everything that a run needs to go on bit for bit, on whatever devices it finds.

    WORKDIR/frozen/                 the frozen parameters, written once: they never change
    WORKDIR/checkpoints/STEP/       state (step, trained, optimizer, EMA), meta (its origin), and metrics, the figure
                                    that `train.keep_best` chooses by, where it was found there

Where the data goes on follows from the step (`mmjax.records.pipeline`).

Both have checksums beside them (`mmjax.weights.checksums`). A step's folder takes its name only when all is written: a
run killed while saving leaves the checkpoint before it as the last. What others read of it: `mmjax.weights`.
"""

import contextlib
import gc
import math
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from mmjax.errors import CheckpointError
from mmjax.quiet import quiet_checkpoints, without_frames
from mmjax.training import resuming
from mmjax.training.state import TrainState
from mmjax.training.summary import size_text
from mmjax.training_settings import TrainingExperiment
from mmjax.weights.best import Figure, figure_of
from mmjax.weights.checksums import write_checksums
from mmjax.weights.parameters import (
    best_checkpoint,
    check_files,
    checkpoint_folder,
    complete_step,
    explained,
    read_frozen,
)
from mmjax.weights.runs import from_json

_TRIES = 20  # a tenth of a second apart


class Checkpoints:
    """The checkpoints of one workdir, for the training loop.

    Args:
      data_order: what the order of the batches depends on, from `pipeline.order_fingerprint`.
      new_data_order: a checkpoint may be of another one.
    """

    def __init__(self, workdir: Path, config: TrainingExperiment, data_order: str, new_data_order: bool = False):
        self.workdir, self.config, self.data_order = Path(workdir).resolve(), config, data_order
        self._new_data_order = new_data_order
        self.last_saved: int | None = None  # the last step that is on disk, whole
        self.best: tuple[int, Figure] | None = None  # the best checkpoint by `train.keep_best`, and its figure
        self._under_way: int | None = None  # a step that is being written behind
        self._failed: list[int] = []  # steps whose checkpoints could not be written
        self._bytes: int | None = None  # of the last checkpoint that was written
        self._saved_at = time.monotonic()
        self._frozen_saved = False
        self._writing_frozen: ocp.StandardCheckpointer | None = None
        self._quiet = contextlib.ExitStack()
        try:
            self._manager = self._open()
        except OSError as error:
            raise CheckpointError(
                f"{checkpoint_folder(self.workdir)}: expected a folder that can be written, found: {error.strerror}; "
                "give another --workdir"
            ) from error
        self._quiet.enter_context(quiet_checkpoints())
        self._quiet.callback(gc.collect)  # what a failed save left speaks up when it goes: while nobody hears it

    def latest_step(self) -> int | None:
        """The last complete checkpoint's step, or None."""
        return self._manager.latest_step()

    @property
    def minutes_since_saved(self) -> float:
        """Since this process saved, or began."""
        return (time.monotonic() - self._saved_at) / 60

    def is_better(self, figure: Figure | None) -> bool:
        """Whether a figure is better than that of any checkpoint; None is not."""
        return figure is not None and (self.best is None or figure.score > self.best[1].score)

    def begin(self, state: TrainState) -> None:
        """Saves the frozen parameters of a run that has begun, unless they are saved; writing goes on behind.

        So that the first checkpoint, which a signal may ask for, has less to wait for. Raises `CheckpointError` as
        `save` does.
        """
        if self._frozen_saved or self._writing_frozen or not state.frozen:
            return
        with self._explained(int(state.step)):
            self._writing_frozen = ocp.StandardCheckpointer()
            self._writing_frozen.save(self.workdir / "frozen", state.frozen, force=True)

    def save(self, state: TrainState, figure: Figure | None = None) -> None:
        """Saves the state under its step; writing goes on behind.

        Where the save before this one has failed, this one is waited for.

        Args:
          figure: of this state, by which the best checkpoint is kept.

        Raises:
          CheckpointError: it cannot be written, as on a full disk; says what is safe and how to go on.
        """
        step = int(state.step)
        self._saved_at = time.monotonic()
        if step in (self.last_saved, self._under_way):
            return
        failed_before = not self._ended_well()
        with self._explained(step):
            self.check_room(state)
            self.begin(state)
            self._finish_frozen()
            self._save_changing(state, figure)
        if figure is not None and not (self.best and self.best[1].score > figure.score):
            self.best = step, figure
        if failed_before:
            self.wait()

    def wait(self) -> None:
        """Returns when all that was saved is on disk. Raises `CheckpointError` as `save` does."""
        if self._under_way is None:
            return
        with self._explained(self._under_way):
            self._manager.wait_until_finished()
        self.last_saved, self._under_way = self._under_way, None

    def notes(self, step: int) -> list[str]:
        """What a run that goes on from the checkpoint of a step has to say of what changed since: a line each."""
        meta, where = self._read_meta(step), f"{checkpoint_folder(self.workdir) / str(step)}"
        return [
            *resuming.notes(from_json(meta["config"], where), self.config, step),
            *resuming.order_notes(meta, self.data_order, step),
        ]

    def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
        """The state of `step` (default: the latest) with the shardings of `abstract`.

        Raises:
          CheckpointError: damaged, incomplete, or of an experiment with other settings, which it names.
          DataError: the order of the batches depends on something that has changed, such as the records.
        """
        step = complete_step(self.workdir, step)
        with explained(self.workdir, step):
            check_files(checkpoint_folder(self.workdir) / str(step))
        meta = self._read_meta(step)
        where = f"{checkpoint_folder(self.workdir) / str(step)}"
        resuming.check_meta(meta, self.config, self.data_order, where, self._new_data_order)
        with explained(self.workdir, step):
            args = ocp.args.Composite(state=ocp.args.StandardRestore(_changing(abstract)))
            changing = self._manager.restore(step, args=args)["state"]
        frozen = read_frozen(self.workdir, abstract.frozen)
        self.last_saved, self._frozen_saved = step, True
        return TrainState(frozen=frozen, **changing)

    def check_room(self, state: TrainState) -> None:
        """Refuses a disk without room for another checkpoint (`CheckpointError`), as large as the last or as the state.

        Args:
          state: may be abstract.

        Several processes do not ask: one that refused would leave the others waiting.
        """
        needed = self._bytes or _bytes_of(_changing(state))
        if not (self._frozen_saved or self._writing_frozen) and self.latest_step() is None:
            needed += _bytes_of(state.frozen)
        if jax.process_count() == 1 and (free := free_bytes(self.workdir)) < needed:
            raise CheckpointError(
                f"{checkpoint_folder(self.workdir)}: expected room for a checkpoint, about {size_text(needed)}, found "
                f"{size_text(free)}; {self._what_is_safe()}"
            )

    def preempted(self, step: int) -> bool:
        """With several processes: whether all of them are to save and stop after this step. All must ask."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk. Raises `CheckpointError` as `save` does."""
        with self._quiet:
            self.wait()
            with contextlib.suppress(Exception):  # of a run that ends without a checkpoint: nothing needs them
                self._finish_frozen()
            self._manager.close()
            self._remove_remains()

    def _open(self) -> ocp.CheckpointManager:
        self.best = best_checkpoint(self.workdir, self.config.train.keep_best)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._preserved(),
            best_fn=self._score if self.config.train.keep_best else None,  # without, Orbax writes no metrics
            cleanup_tmp_directories=True,
            create=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        return ocp.CheckpointManager(checkpoint_folder(self.workdir), options=options)

    def _preserved(self) -> policies.PreservationPolicy:
        """The newest checkpoints, and the best one, which is the last of those that are equally good."""
        newest = policies.LatestN(self.config.train.keep_checkpoints)
        if not self.config.train.keep_best:
            return newest
        best = policies.BestN(get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False)
        return policies.AnyPreservationPolicy([newest, best])

    def _score(self, metrics: dict) -> float:
        """Of a checkpoint's metrics, more is better; those of another `train.keep_best` do not count."""
        figure = figure_of(metrics)
        return figure.score if figure.tag == self.config.train.keep_best else -math.inf

    def _read_meta(self, step: int) -> dict:
        with explained(self.workdir, step):
            return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def _save_changing(self, state: TrainState, figure: Figure | None) -> None:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_changing(state)),
            meta=ocp.args.JsonSave(resuming.make_meta(self.config, self.data_order)),
        )
        self._under_way = int(state.step)
        metrics = None if figure is None else figure.as_metrics()
        self._manager.save(self._under_way, args=args, metrics=metrics, force=True)

    def _write_checksums(self) -> None:
        """Called behind, by process 0, when all of a step is written but its folder has not taken its name yet."""
        (folder,) = self._being_written(self._under_way)
        self._bytes = write_checksums(folder)

    def _ended_well(self) -> bool:
        """Waits for the save that is under way. Where it failed, its remains are removed, so that the next one fits."""
        try:
            self.wait()
        except CheckpointError as error:
            if jax.process_count() > 1:
                raise
            logging.warning("%s", error)
            self._manager = self._open()
            return False
        return True

    def _finish_frozen(self) -> None:
        """Returns when the frozen parameters, if they are being written, are whole on disk."""
        if self._writing_frozen is None:
            return
        writing, self._writing_frozen = self._writing_frozen, None
        writing.close()  # waits
        if jax.process_index() == 0:
            write_checksums(self.workdir / "frozen")
        self._frozen_saved = True

    @contextlib.contextmanager
    def _explained(self, step: int) -> Iterator[None]:
        """Turns what is raised while the checkpoint of a step is written into one `CheckpointError`."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            self._under_way = None
            self._failed.append(step)
            self._remove_remains()
            needed = f", it takes about {size_text(self._bytes)}" if self._bytes else ""
            raise CheckpointError(
                f"{checkpoint_folder(self.workdir)}: the checkpoint of step {step} could not be written: "
                f"{_reason(error)}{needed}; {self._what_is_safe()}"
            ) from without_frames(error)

    def _remove_remains(self) -> None:
        """Makes room again after saves that failed; for a while their other files may still be written."""
        for _ in range(_TRIES):
            folders = [folder for step in self._failed for folder in self._being_written(step)]
            if jax.process_index() != 0 or not folders:
                return
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1)

    def _being_written(self, step: int) -> list[Path]:
        """Folders of a step that has not taken its name yet: one, or none."""
        return list(checkpoint_folder(self.workdir).glob(f"{step}.orbax-checkpoint-tmp*"))

    def _what_is_safe(self) -> str:
        last, again = self.latest_step(), f"python -m mmjax.train --workdir {shlex.quote(str(self.workdir))}"
        if last is None:
            return "there is no whole one yet. Make room, or give a --workdir on another disk, and start again"
        return (
            f"the one of step {last} is whole. Make room (train.keep_checkpoints keeps fewer); {again} goes on from it"
        )


def free_bytes(folder: Path) -> int:
    """Room that is left on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _changing(state: TrainState) -> dict:
    """What a checkpoint holds of a state: all but the frozen parameters."""
    return {"step": state.step, "trained": state.trained, "opt_state": state.opt_state, "ema": state.ema}


def _bytes_of(tree) -> int:
    """Of arrays, abstract or not, over all devices."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _reason(error: Exception) -> str:
    """The first line of what a library said, short; where the disk is full, or has no room for this user, just that."""
    text = str(error)
    if any(full in text for full in ("No space left on device", "Disk quota exceeded", "RESOURCE_EXHAUSTED")):
        return "the disk is full"
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
