"""Parameters of a training run, read onto any mesh: the whole model's, or its adapter's alone.

    WORKDIR/frozen/                 the frozen parameters, written once: they never change
    WORKDIR/checkpoints/STEP/state  the trained ones, and their moving average

A restore always names shapes, dtypes and shardings of its own, so what eight devices saved, one device reads. Files are
compared with their checksums first (`mmjax.weights.checksums`).
"""

import shlex
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.conversion.soundness import check_params
from mmjax.errors import CheckpointError
from mmjax.models.build import Params, abstract_params
from mmjax.quiet import quiet_checkpoints
from mmjax.trainable import is_trainable
from mmjax.weights.best import Figure, read_figure
from mmjax.weights.checksums import damage
from mmjax.weights.runs import read_config, read_experiment


def load_params(
    workdir: Path | str,
    step: int | str | None = None,
    ema: bool = True,
    mesh: jax.sharding.Mesh | None = None,
    abstract: Params | None = None,
) -> Params:
    """The model's whole parameter tree of a run, for sampling or evaluation.

    Args:
      step: default `complete_step(workdir)`.
      ema: the averaged parameters, in float32, where the run kept an average.
      mesh: default the one that the run's configuration asks for.
      abstract: dtypes and shardings, in place of those that the mesh and the run's configuration give.

    Raises:
      CheckpointError: no such run or step, or one that is damaged.
    """
    config = read_config(workdir)
    abstract = abstract or abstract_params(config, mesh or sharding.make_mesh(config.mesh))
    return load_part(workdir, abstract, step, ema)


def load_part(workdir: Path | str, abstract: Params, step: int | str | None = None, ema: bool = True) -> Params:
    """The leaves that `abstract` names, some or all, whichever of them the run trains. Errors as of `load_params`."""
    config, leaves = read_experiment(workdir), trees.flatten(abstract)
    trained = {path: leaf for path, leaf in leaves.items() if is_trainable(config, path)}
    frozen = {path: leaf for path, leaf in leaves.items() if path not in trained}
    params = load_trained(workdir, trees.unflatten(trained), step, ema) if trained else {}
    return trees.merge(params, read_frozen(workdir, trees.unflatten(frozen)))


def load_trained(workdir: Path | str, abstract: Params, step: int | str | None = None, ema: bool = True) -> Params:
    """Some or all of a run's trained parameters, such as the adapter alone; only what `abstract` names is read.

    Raises `CheckpointError` as `load_params`, and for values that cannot be weights.
    """
    averaged = ema and read_experiment(workdir).train.ema_decay > 0
    workdir, name = Path(workdir), "ema" if averaged else "trained"
    step = complete_step(workdir, step)
    if averaged:
        abstract = trees.in_float32(abstract)
    folder = checkpoint_folder(workdir) / str(step)
    with explained(workdir, step):
        check_files(folder)
        params = _read(folder / "state", {name: abstract})[name]
    check_params(params, str(folder), fresh=True)
    return params


def complete_step(workdir: Path | str, step: int | str | None = None) -> int:
    """The step of a complete checkpoint, by default the last one's. Raises `CheckpointError` when there is none.

    Args:
      step: "best" asks for that of `best_checkpoint`.
    """
    folder = checkpoint_folder(workdir)
    steps = sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
    if not steps:
        raise CheckpointError(f"{workdir}: no complete checkpoint under {folder}; train first")
    if step == c.BEST:
        if (best := best_checkpoint(workdir)) is None:
            raise CheckpointError(
                f"{workdir}: expected a checkpoint that was kept as the best by a figure, found none; train with "
                f"train.keep_best=validation/loss, or choose a step: {', '.join(map(str, steps))}"
            )
        return best[0]
    if step is not None and step not in steps:
        raise CheckpointError(f"{workdir}: no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def best_checkpoint(workdir: Path | str, tag: str | None = None) -> tuple[int, Figure] | None:
    """Step and figure of the best of the checkpoints that are there, of equal ones the last; None where none has one.

    Args:
      tag: of the figure; by default that of the last checkpoint which has one, since `train.keep_best` may change.

    Raises:
      CheckpointError: a figure that cannot be read.
    """
    folder, found = checkpoint_folder(Path(workdir)), {}
    for step in sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []:
        with explained(workdir, step):
            if figure := read_figure(folder / str(step)):
                found[step] = figure
    if not found:
        return None
    wanted = found[max(found)].tag if tag is None else tag
    chosen = [(figure.score, step) for step, figure in found.items() if figure.tag == wanted]
    return (max(chosen)[1], found[max(chosen)[1]]) if chosen else None


def last_step(workdir: Path | str) -> int | None:
    """The step of the last complete checkpoint, None where there is none."""
    folder = checkpoint_folder(Path(workdir))
    return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


def checkpoint_folder(workdir: Path) -> Path:
    """Where a run's checkpoints lie, a folder for each step."""
    return Path(workdir).resolve() / "checkpoints"


def read_frozen(workdir: Path | str, abstract: Params) -> Params:
    """A run's frozen parameters. Raises `CheckpointError` where they cannot be read."""
    if not abstract:
        return {}
    folder = Path(workdir) / "frozen"
    try:
        check_files(folder)
        params = _read(folder, abstract)
    except Exception as error:
        raise CheckpointError(
            f"{folder}: the frozen parameters cannot be read ({_first_line(error)}); copy the folder again, or start a "
            "new run"
        ) from error
    check_params(params, str(folder), fresh=True)
    return params


def check_files(folder: Path) -> None:
    """Compares the files of a checkpoint or of frozen parameters with their checksums, which older ones do not have.

    Raises `CheckpointError` that says what is damaged; `explained` and `read_frozen` say what to do.
    """
    found = damage(folder)
    if found:
        raise CheckpointError(found)
    if found is None and folder.is_dir():
        logging.warning("%s has no checksums, as those of earlier versions: damage in it would not be seen", folder)


class explained:
    """Turns whatever Orbax, TensorStore, JSON or `check_files` raise while a checkpoint is read into one message."""

    def __init__(self, workdir: Path, step: int):
        self.workdir, self.step = workdir, step

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, Exception):
            return
        folder = checkpoint_folder(self.workdir) / str(self.step)
        raise CheckpointError(
            f"{folder}: the checkpoint of step {self.step} cannot be read, it is damaged, incomplete or of another "
            f"model ({_first_line(error)}); {self._advice(folder)}"
        ) from error

    def _advice(self, folder: Path) -> str:
        """The newest other checkpoint that is whole, as far as checksums say, and how to go on from it."""
        others = sorted(ocp.utils.checkpoint_steps(folder.parent), reverse=True)
        whole = [step for step in others if step != self.step and not damage(folder.parent / str(step))]
        if not whole:
            return "there is no other one: start a new run"
        aside = folder.parent.parent / f"damaged-{self.step}"
        return f"move it away to go on from step {whole[0]}: {shlex.join(['mv', str(folder), str(aside)])}"


def _read(path: Path, abstract: Params):
    """The leaves that `abstract` names, each device reading its own share."""
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
    args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
    with quiet_checkpoints(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(path.resolve(), args=args)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return line if isinstance(error, CheckpointError) else f"{type(error).__name__}: {line}"
