"""Checkpoints by Orbax: everything that a run needs to go on bit for bit, on whatever devices it finds.

    WORKDIR/config.json             the resolved experiment
    WORKDIR/encoders.json           fingerprints of the encoders that made the records
    WORKDIR/frozen/                 the frozen parameters, written once: they never change
    WORKDIR/checkpoints/STEP/       state (step, trained, optimizer, EMA), data (the iterator), meta (its origin)

A restore always names shapes, dtypes and shardings of its own, so what eight devices saved, one device reads. A step's
folder takes its name only when all is written: a run killed while saving leaves the checkpoint before it as the last.
"""

import dataclasses
import json
import platform
from importlib import metadata
from pathlib import Path

import grain.checkpoint
import jax
import orbax.checkpoint as ocp

from mmjax import config as c
from mmjax import partition, trees
from mmjax.data import pipeline
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.training.state import Params, TrainState, abstract_params, in_float32

SCHEMA = 1
PACKAGES = ("mmjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain")

# Settings that may change between the runs of one workdir: what is written when, and how the same thing is computed.
# Another `train.steps` also stretches the cosine of the learning rate from here on.
FREE = (
    r"train\.(steps|accumulate|keep_checkpoints|sample_count|validation_batches)",
    r"train\.(log|validate|sample|checkpoint)_every",
    r"train\.checkpoint_minutes",
    r"model\.transformer\.(attention|remat)",
    r"(sampling|mesh)\..*",
    r"data\.dir",
    r"encoders\.(text_encoder|photomaker|face_models)|autoencoder\.weights",  # folders; see encoders.json
)


class Checkpoints:
    """The checkpoints of one workdir, for the training loop."""

    def __init__(self, workdir: Path, config: c.Experiment):
        self.workdir, self.config = Path(workdir).resolve(), config
        self.last_saved: int | None = None
        self._frozen_saved = False
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.train.keep_checkpoints, cleanup_tmp_directories=True, create=True
        )
        self._manager = ocp.CheckpointManager(_folder(self.workdir), options=options)

    def latest_step(self) -> int | None:
        """The last complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, iterator) -> None:
        """Saves the state and the data iterator's position under the state's step; writing goes on behind."""
        step = int(state.step)
        if step == self.last_saved:
            return
        self._save_frozen(state.frozen)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(_changing(state)),
            data=grain.checkpoint.CheckpointSave(iterator),
            meta=ocp.args.JsonSave(self._meta()),
        )
        self._manager.save(step, args=args, force=True)
        self.last_saved = step

    def restore(self, abstract: TrainState, iterator, step: int | None = None) -> TrainState:
        """The state of `step` (default: the latest) with the shardings of `abstract`; sets the iterator's position.

        Raises:
          CheckpointError: damaged, incomplete, or of an experiment with other settings, which it names.
          DataError: the order of the batches depends on something that has changed, such as `data.workers`.
        """
        step = _chosen_step(self.workdir, step)
        with _explained(self.workdir, step):
            meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        check_meta(meta, self.config, f"{_folder(self.workdir) / str(step)}")
        with _explained(self.workdir, step):
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(_changing(abstract)), data=grain.checkpoint.CheckpointRestore(iterator)
            )
            changing = self._manager.restore(step, args=args)["state"]
        frozen = _read_frozen(self.workdir, abstract.frozen)
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

    def _meta(self) -> dict:
        return {
            "schema": SCHEMA,
            "config": as_json(self.config),
            "data_order": pipeline.order_fingerprint(self.config, jax.process_count()),
            "versions": versions(),
        }


def check_meta(meta: dict, config: c.Experiment, where: str) -> None:
    """Refuses a checkpoint whose experiment or data order is not `config`'s (`CheckpointError`, `DataError`)."""
    if meta.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{where}: expected checkpoint schema {SCHEMA}, found {meta.get('schema')}; start a new run"
        )
    pipeline.check_order(meta["data_order"], pipeline.order_fingerprint(config, jax.process_count()))
    changes = config_changes(meta["config"], as_json(config))
    if changes:
        raise CheckpointError(
            f"{where} was saved with other settings:\n{changes}\n  give the saved ones, or a new --workdir"
        )


def config_changes(saved: dict, now: dict) -> str:
    """One line for each setting that differs and must not (see `FREE`); empty when there is none."""
    saved, now = _settings(saved), _settings(now)
    keys = sorted(key for key in saved | now if saved.get(key) != now.get(key) and not trees.matches(FREE, key))
    return "\n".join(f"  {key}: was {saved.get(key, 'not there')}, is {now.get(key, 'not there')}" for key in keys)


def write_config(workdir: Path, config: c.Experiment) -> None:
    """Writes the resolved experiment to `config.json`. Refuses a workdir that holds another one (`ConfigError`)."""
    path = Path(workdir) / "config.json"
    if path.exists():
        changes = config_changes(as_json(read_config(workdir)), as_json(config))
        if changes:
            raise ConfigError(
                f"{workdir} holds a run with other settings:\n{changes}\n"
                "  give the same settings to go on with it, or another --workdir for a new run"
            )
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, as_json(config))


def read_config(workdir: Path | str) -> c.Experiment:
    """The experiment of a workdir. Raises `CheckpointError` when there is none, or it cannot be read."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{workdir}: expected the workdir of a training run, found no config.json in it")
    try:
        return c.Experiment.from_config_dict(json.loads(path.read_text()))
    except (ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def write_encoders(workdir: Path, encoders: dict[str, str]) -> None:
    """Writes to `encoders.json` which encoders made the records that a run is trained on, by their fingerprints.

    Refuses a workdir whose run began on records of other encoders (`DataError`).
    """
    path, before = Path(workdir) / "encoders.json", read_encoders(workdir)
    wrong = [what for what in before if before[what] != encoders.get(what)]
    if wrong:
        lines = "\n".join(f"  {what}:\n    then {before[what]}\n    now  {encoders.get(what)}" for what in wrong)
        raise DataError(
            f"{workdir}: this run began on records that other encoders had made:\n{lines}\n"
            "  go on with those records, or give another --workdir for a new run"
        )
    if jax.process_index() == 0 and not before:
        _write_json(path, encoders)


def read_encoders(workdir: Path | str) -> dict[str, str]:
    """What `write_encoders` wrote; nothing for a run without it. Raises `CheckpointError` for a damaged file."""
    path = Path(workdir) / "encoders.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; delete it, and the next run writes it anew") from error


def load_params(
    workdir: Path | str,
    step: int | None = None,
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
    config, workdir = read_config(workdir), Path(workdir)
    abstract = abstract or abstract_params(config, mesh or partition.make_mesh(config.mesh))
    trained, frozen = trees.split(abstract, config.train.trainable)
    return trees.merge(load_trained(workdir, trained, step, ema), _read_frozen(workdir, frozen))


def complete_step(workdir: Path | str, step: int | None = None) -> int:
    """The step of a complete checkpoint, by default the last one's. Raises `CheckpointError` when there is none."""
    return _chosen_step(Path(workdir), step)


def load_trained(workdir: Path | str, abstract: Params, step: int | None = None, ema: bool = True) -> Params:
    """Some or all of a run's trained parameters, such as the adapter alone; only what `abstract` names is read."""
    averaged = ema and read_config(workdir).train.ema_decay > 0
    workdir, name = Path(workdir), "ema" if averaged else "trained"
    step = _chosen_step(workdir, step)
    if averaged:
        abstract = in_float32(abstract)
    with _explained(workdir, step):
        return _read(_folder(workdir) / str(step) / "state", {name: abstract})[name]


def as_json(config: c.Experiment) -> dict:
    """The experiment as plain JSON values, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose change may change numbers."""

    def version(package):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "source checkout"

    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def _changing(state: TrainState) -> dict:
    """What a checkpoint holds of a state: all but the frozen parameters."""
    return {"step": state.step, "trained": state.trained, "opt_state": state.opt_state, "ema": state.ema}


def _folder(workdir: Path) -> Path:
    return Path(workdir).resolve() / "checkpoints"


def _chosen_step(workdir: Path, step: int | None) -> int:
    folder = _folder(workdir)
    steps = sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
    if not steps:
        raise CheckpointError(f"{workdir}: no complete checkpoint under {folder}; train first")
    if step is not None and step not in steps:
        raise CheckpointError(f"{workdir}: no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def _read(path: Path, abstract: Params):
    """The leaves that `abstract` names, each device reading its own share."""
    restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
    args = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(path.resolve(), args=args)


def _read_frozen(workdir: Path, abstract: Params) -> Params:
    if not abstract:
        return {}
    try:
        return _read(workdir / "frozen", abstract)
    except Exception as error:
        raise CheckpointError(
            f"{workdir / 'frozen'}: the frozen parameters cannot be read ({_first_line(error)}); "
            "copy the folder again, or start a new run"
        ) from error


class _explained:
    """Turns whatever Orbax, TensorStore or JSON raise while reading a checkpoint into one `CheckpointError`."""

    def __init__(self, workdir: Path, step: int):
        self.folder, self.step = _folder(workdir), step

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not isinstance(error, Exception) or isinstance(error, CheckpointError):
            return
        others = [step for step in sorted(ocp.utils.checkpoint_steps(self.folder)) if step != self.step]
        advice = f"move it away to go on from step {others[-1]}" if others else "there is no other one: start a new run"
        raise CheckpointError(
            f"{self.folder / str(self.step)}: the checkpoint of step {self.step} cannot be read, it is damaged, "
            f"incomplete or of another model ({_first_line(error)}); {advice}"
        ) from error


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:200]}"


def _write_json(path: Path, values: dict) -> None:
    """Whole or not at all: another process may read while this one writes."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    partial.replace(path)


def _settings(nested: dict, path: str = "") -> dict:
    """Nested settings as `{'train.steps': value}`."""
    flat = {}
    for key, value in nested.items():
        flat |= _settings(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat
