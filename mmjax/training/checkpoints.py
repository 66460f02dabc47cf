"""Checkpoints by Orbax: everything that a run needs to go on bit for bit, on whatever devices it finds.

    WORKDIR/frozen/                 the frozen parameters, written once: they never change
    WORKDIR/checkpoints/STEP/       state (step, trained, optimizer, EMA), data (the iterator), meta (its origin)

A step's folder takes its name only when all is written: a run killed while saving leaves the checkpoint before it as
the last. What others read of it: `mmjax.weights`.
"""

import time
from pathlib import Path

import orbax.checkpoint as ocp

from mmjax import config as c
from mmjax.models.build import Params
from mmjax.training import resuming
from mmjax.training.state import TrainState
from mmjax.weights.parameters import checkpoint_folder, complete_step, explained, read_frozen


class Checkpoints:
    """The checkpoints of one workdir, for the training loop.

    Args:
      data_order: what the order of the batches depends on, from `pipeline.order_fingerprint`.
    """

    def __init__(self, workdir: Path, config: c.Experiment, data_order: str):
        self.workdir, self.config, self.data_order = Path(workdir).resolve(), config, data_order
        self.last_saved: int | None = None
        self._saved_at = time.monotonic()
        self._frozen_saved = False
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.train.keep_checkpoints, cleanup_tmp_directories=True, create=True
        )
        self._manager = ocp.CheckpointManager(checkpoint_folder(self.workdir), options=options)

    def latest_step(self) -> int | None:
        """The last complete checkpoint's step, or None."""
        return self._manager.latest_step()

    @property
    def minutes_since_saved(self) -> float:
        """Since this process saved, or began."""
        return (time.monotonic() - self._saved_at) / 60

    def save(self, state: TrainState, iterator) -> None:
        """Saves the state and the data iterator's position under the state's step; writing goes on behind."""
        import grain.checkpoint

        step = int(state.step)
        self._saved_at = time.monotonic()
        if step == self.last_saved:
            return
        self._save_frozen(state.frozen)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_changing(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=ocp.args.JsonSave(resuming.make_meta(self.config, self.data_order)),
        )
        self._manager.save(step, args=args, force=True)
        self.last_saved = step

    def restore(self, abstract: TrainState, iterator, step: int | None = None) -> TrainState:
        """The state of `step` (default: the latest) with the shardings of `abstract`; sets the iterator's position.

        Raises:
          CheckpointError: damaged, incomplete, or of an experiment with other settings, which it names.
          DataError: the order of the batches depends on something that has changed, such as `data.workers`.
        """
        import grain.checkpoint

        step = complete_step(self.workdir, step)
        with explained(self.workdir, step):
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        resuming.check_meta(meta, self.config, self.data_order, f"{checkpoint_folder(self.workdir) / str(step)}")
        with explained(self.workdir, step):
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(_changing(abstract)), data=grain.checkpoint.CheckpointRestore(iterator)
            )
            changing = self._manager.restore(step, args=args)["state"]
        frozen = read_frozen(self.workdir, abstract.frozen)
        self.last_saved, self._frozen_saved = step, True
        return TrainState(frozen=frozen, **changing)

    def preempted(self, step: int) -> bool:
        """With several processes: whether all of them are to save and stop after this step. All must ask."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._manager.close()

    def _save_frozen(self, frozen: Params) -> None:
        if self._frozen_saved or not frozen:
            return
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self.workdir / "frozen", frozen, force=True)
        self._frozen_saved = True


def last_step(workdir: Path | str) -> int | None:
    """The step of a workdir's last complete checkpoint, or None; makes no folder."""
    folder = checkpoint_folder(Path(workdir))
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


def _changing(state: TrainState) -> dict:
    """What a checkpoint holds of a state: all but the frozen parameters."""
    return {"step": state.step, "trained": state.trained, "opt_state": state.opt_state, "ema": state.ema}
