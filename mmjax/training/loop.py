"""The training loop: build, then step, log, evaluate, save.

    from mmjax.records.sources import find_sources
    from mmjax.training.loop import train
    train(config, "runs/mine", find_sources(config))

A run lives in its workdir. Called again with the same workdir, it goes on from the last checkpoint: parameters,
moments, EMA, random numbers and the order of the batches are those of a run that was never stopped, bit for bit on the
same devices; on others, and in other processes, but for rounding. (XLA may choose other kernels in another process on
a GPU; where bits matter there, set XLA_FLAGS=--xla_gpu_deterministic_ops=true.) SIGTERM and SIGINT save and end the run
in good order.
"""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

import jax

from mmjax import sharding
from mmjax.errors import ConfigError
from mmjax.peers import together
from mmjax.records import pipeline
from mmjax.records.sources import RecordFolders
from mmjax.training import agreement, best, memory, optimizer, summary
from mmjax.training import state as states
from mmjax.training import step as steps
from mmjax.training.batches import batch_size, put_batch, training_batches
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.compiled import CompiledSteps
from mmjax.training.evaluators import Evaluator, ValidationLoss, figures_to_choose_by, write_evaluation
from mmjax.training.finite import FiniteCheck
from mmjax.training.progress import Progress
from mmjax.training.signals import StopSignals, agreed
from mmjax.training.tasks.registry import make_task
from mmjax.training.telemetry import Telemetry
from mmjax.training.workdir import alone, check_alone, check_run, remains, write_run
from mmjax.training_settings import Run, TrainingExperiment
from mmjax.weights.parameters import last_step


def train(
    config: TrainingExperiment,
    workdir: str | Path,
    sources: RecordFolders,
    evaluators: Sequence[Evaluator] = (),
    new_data_order: bool = False,
) -> states.TrainState:
    """Trains an experiment in a workdir, or goes on with the run that is there.

    Args:
      config: the experiment, of any kind (`mmjax.training.tasks`); in a workdir of an earlier run it must be the
        same, but for what is free to change (`mmjax.config`).
      workdir: takes `config.json`, `encoders.json`, `checkpoints/`, `frozen/`, `metrics.jsonl`, `tensorboard/` and
        `samples/`.
      sources: its records, from `find_sources`.
      evaluators: what else is done every so often, after the validation loss (`mmjax.training.evaluators`).
      new_data_order: a run may go on where the order of its data cannot be what it was (`mmjax.training.resuming`).

    Returns:
      The state after the last step, or at the step where a signal stopped the run.

    Raises:
      ConfigError: settings that cannot work, or not in this workdir.
      CheckpointError: a checkpoint or base that cannot be used. DataError: records that cannot be used.
      MMJaxError: the loss is not finite any more, `train.max_skipped` times in a row.
    """
    config, workdir = config.validated(), Path(workdir)
    check(config, workdir)
    task = make_task(config)
    criterion = best.criterion(config.train.keep_best, figures_to_choose_by(config, evaluators))

    with contextlib.ExitStack() as stack:
        peers = stack.enter_context(together())
        stack.enter_context(alone(workdir))
        agreement.check_shared(peers, workdir)
        peers.remains = functools.partial(remains, workdir)
        check_run(workdir, config, sources.encoders)
        mesh = sharding.make_mesh(config.mesh)
        streams = states.random_keys(config.seed)
        tx = optimizer.make_optimizer(config.optim, config.train.steps)
        abstract = states.abstract_state(task, tx, mesh)
        stack.enter_context(memory.explained(config, abstract))
        objective = task.objective(sources, mesh)
        judges = objective.judges
        order = pipeline.order_fingerprint(config, sources)
        agreement.check_records(peers, order, sources.encoders)
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(workdir, config, order, new_data_order)))
        first, last = checkpoints.latest_step() or 0, config.train.steps
        batches = stack.enter_context(training_batches(task, sources, mesh, first))
        if first < last:
            checkpoints.check_room(abstract)
        telemetry = stack.enter_context(contextlib.closing(Telemetry(workdir, first, last)))
        _introduce(config, workdir, abstract, telemetry)
        memory.check_state(config, abstract, judges)
        train_step = steps.make_train_step(config, objective, tx, streams.train)
        if not first:
            task.check_start(mesh)
        if first < last:  # before weights are read: a run that does not fit is refused at once
            compiled = CompiledSteps(task, train_step, (abstract, judges), mesh, telemetry, first)
        if first:
            telemetry.log(f"going on from the checkpoint of step {first}{_best_so_far(checkpoints, '; ')}")
            state = checkpoints.restore(abstract)
            for line in checkpoints.notes(first):
                telemetry.log(line)
        else:
            known = task.load_start(mesh)
            state = states.create_state(task, tx, mesh, known)
            del known  # the state's now: the step uses its memory again
        pipeline.start_workers(batches)
        evaluators = [ValidationLoss(task, sources, objective, mesh, streams.validation), *evaluators]
        stack.enter_context(sharding.use_mesh(mesh))
        stop = stack.enter_context(StopSignals(peers, checkpoints.preempted, first))
        progress = Progress(telemetry, FiniteCheck(task, telemetry, checkpoints), task.timesteps)

        for step in range(first + 1, last + 1):
            peers.step = step
            on_host = progress.next_batch(batches)
            batch = put_batch(on_host, mesh, batch_size(config, on_host))
            one_step = compiled.of(batch)
            state, metrics = one_step(state, judges, batch)
            progress.add(step, metrics, on_host, one_step)

            if step == first + 1:
                with progress.aside():  # it is done: this is a run now
                    write_run(workdir, config, sources.encoders)
                    checkpoints.begin(state)
            if _due(step, config.train.log_every, last):
                progress.log(step)
            if stop.after(step):
                with progress.aside():
                    checkpoints.save(state)
                    checkpoints.wait()
                telemetry.log(_stopped(step, last, workdir))
                return state
            figures: dict[str, float] = {}
            for evaluator in evaluators:
                if _due(step, evaluator.every, last):
                    with progress.aside():
                        report = evaluator(state, step)
                        write_evaluation(telemetry, step, evaluator.name, report)
                        figures |= report.figures
            # after the evaluators: a run that is killed among them goes on from before, and lacks none of their figures
            figure = criterion.of(figures) if criterion else None
            is_best = checkpoints.is_better(figure)
            if is_best or _due_to_save(config.train, step, checkpoints):
                with progress.aside():
                    checkpoints.save(state, figure)
            if is_best:
                telemetry.log(_best_so_far(checkpoints))

        checkpoints.wait()
        advice = task.finish(state.params, sources, workdir)
        telemetry.log(_ended(first, last, advice) + _best_so_far(checkpoints, "; ", " (--step best)"))
    return state


def check(config: TrainingExperiment, workdir: str | Path) -> None:
    """What can be said of a run before anything is read or made.

    Raises:
      ConfigError: processes with other settings; batches that the devices cannot share, each with its own samples of
        every micro-batch; a workdir in which another run trains.
      CheckpointError: a folder of weights to start from that is not there; a run that goes on needs it no more.
    """
    with together() as peers:
        agreement.check_settings(peers, config)
    check_alone(Path(workdir))
    make_task(config).check(resumes=last_step(workdir) is not None)
    mesh = sharding.make_mesh(config.mesh)
    shares = sharding.batch_shares(mesh)
    for batch in config.data.batches:
        if batch % (shares * config.train.accumulate):
            raise ConfigError(
                f"data.batches = {batch}: expected a multiple of {shares * config.train.accumulate}, since {mesh.size} "
                f"devices share it in {shares} parts and train.accumulate = {config.train.accumulate}; change the "
                "batch, or give mesh.tensor or mesh.context more of the devices"
            )


def _introduce(config: TrainingExperiment, workdir: Path, abstract: states.TrainState, telemetry: Telemetry) -> None:
    """What is trained, on what, and what it will need."""
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    telemetry.log(f"{config.name}: {config.train.steps} steps on {devices}, workdir {workdir}")
    telemetry.log(summary.parameter_table(abstract.trained, abstract.frozen))
    telemetry.log(memory.state_line(abstract))


def _due(step: int, every: int, last: int) -> bool:
    """Whether it is time for what happens every so many steps (0: never), and after the last one."""
    return bool(every) and (step % every == 0 or step == last)


def _due_to_save(train: Run, step: int, checkpoints: Checkpoints) -> bool:
    """After the last step, every so many steps, and at a row of the log where the clock says so."""
    if step == train.steps or _due(step, train.checkpoint_every, train.steps):
        return True
    by_clock = train.checkpoint_minutes and _due(step, train.log_every, train.steps)
    return bool(by_clock) and agreed(checkpoints.minutes_since_saved >= train.checkpoint_minutes)


def _best_so_far(checkpoints: Checkpoints, before: str = "", after: str = "") -> str:
    """Which checkpoint is the best by `train.keep_best`; empty where none is."""
    if checkpoints.best is None:
        return ""
    step, figure = checkpoints.best
    return f"{before}best so far: {figure} at step {step}{after}"


def _stopped(step: int, last: int, workdir: Path) -> str:
    return (
        f"stopped by a signal after step {step} of {last}, all is saved; the same command goes on from there "
        f"(--workdir {workdir})"
    )


def _ended(first: int, last: int, advice: str) -> str:
    if first >= last:
        return f"this run is finished: step {first} of {last}; raise train.steps to go on with it"
    return f"finished {last} steps; {advice}"
