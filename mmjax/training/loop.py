"""The training loop: build, resume, step, look, save.

    from mmjax.training.loop import train
    train(config, "runs/mine")

A run lives in its workdir. Called again with the same workdir, it goes on from the last checkpoint: parameters,
moments, EMA, random numbers and the order of the batches are those of a run that was never stopped, bit for bit on the
same devices. (XLA may choose other kernels in another process on a GPU; where bits matter there, set
XLA_FLAGS=--xla_gpu_deterministic_ops=true.) SIGTERM and SIGINT save and end the run in good order.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import UInt8

from mmjax import config as c
from mmjax import partition
from mmjax.errors import ConfigError, MMJaxError
from mmjax.models import build, flops
from mmjax.records import pipeline
from mmjax.records.sources import Sources
from mmjax.training import checkpoints, optimizer, summary
from mmjax.training import state as states
from mmjax.training import step as steps
from mmjax.training.telemetry import Meter, Telemetry, bucket_row
from mmjax.weights import runs, start

SampleFn = Callable[[build.Params, int], UInt8[np.ndarray, "h w 3"]]


def train(
    config: c.Experiment, workdir: str | Path, sources: Sources, sample_fn: SampleFn | None = None
) -> states.TrainState:
    """Trains an experiment in a workdir, or goes on with the run that is there.

    Args:
      config: the experiment; in a workdir of an earlier run it must be the same, but for what is `free`.
      workdir: takes `config.json`, `encoders.json`, `checkpoints/`, `frozen/`, `metrics.jsonl`, `tensorboard/` and
        `samples/`.
      sources: its records, from `find_sources`.
      sample_fn: `(params, step) -> contact sheet`, called every `train.sample_every` steps by all processes.

    Returns:
      The state after the last step, or at the step where a signal stopped the run.

    Raises:
      ConfigError: settings that cannot work, or not in this workdir.
      CheckpointError: a checkpoint or base that cannot be used. DataError: records that cannot be used.
      MMJaxError: the loss is not finite any more.
    """
    config, workdir = config.validated(), Path(workdir)
    check(config, workdir)
    mesh = partition.make_mesh(config.mesh)
    runs.write_config(workdir, config)
    runs.write_encoders(workdir, sources.encoders)
    with contextlib.ExitStack() as stack:
        run = _Run(config, workdir, sources, mesh, sample_fn, stack)
        stack.enter_context(partition.use_mesh(mesh))
        run.to_the_end()
    return run.state


class _Run:
    """One process's life of a run. `stack` closes what it opens."""

    def __init__(self, config: c.Experiment, workdir: Path, sources: Sources, mesh, sample_fn: SampleFn | None, stack):
        self.config, self.workdir, self.mesh, self.sample_fn = config, workdir, mesh, sample_fn
        self.streams = states.random_streams(config.seed)
        self.tx = optimizer.make_optimizer(config.optim, config.train.steps)
        self.abstract = states.abstract_state(config, self.tx, mesh)
        self.iterator = pipeline.make_train_iterator(config, sources, jax.process_index(), jax.process_count())
        if config.data.workers:
            stack.callback(self.iterator.close)
        order = pipeline.order_fingerprint(config, sources, jax.process_count())
        self.checkpoints = checkpoints.Checkpoints(workdir, config, order)
        stack.callback(self.checkpoints.close)
        self.first = self.checkpoints.latest_step() or 0
        self.telemetry = Telemetry(workdir, self.first, config.train.steps)
        stack.callback(self.telemetry.close)
        self.state = self._initial_state()
        self.step, self.meter = self.first, Meter(config.schedule.steps)
        self._pending, self._compiled, self._saved_at, self._mark = None, {}, time.monotonic(), time.monotonic()
        self.stop = stack.enter_context(_StopSignals())

        loss_fn = steps.make_loss(config, build.make_model(config), sources.unconditional_text)
        train_step = steps.make_train_step(config, loss_fn, self.tx, self.streams.train)
        self._train_step = steps.jit_train_step(train_step, self.abstract)
        self._validation = self._make_validation(sources, loss_fn) if config.train.validate_every else {}

    def to_the_end(self) -> None:
        """Steps until the last one, a signal, or a loss that is not finite."""
        last, self._mark = self.config.train.steps, time.monotonic()
        if self.step >= last:
            self.telemetry.say(f"this run is finished: step {self.step} of {last}; raise train.steps to go on with it")
        while self.step < last:
            self._one_step()
            if self._due(self.config.train.log_every):
                self._log()
            if self.stop.now(self.step, self.checkpoints):
                self._save()
                self.telemetry.say(
                    f"stopped by a signal after step {self.step} of {last}, all is saved; the same command goes on "
                    f"from there (--workdir {self.workdir})"
                )
                return
            self._look()
            if self.step == last:
                self.telemetry.say(
                    f"finished {last} steps; make videos with python -m mmjax.sample --model {self.workdir}"
                )

    def _one_step(self) -> None:
        waiting = time.monotonic()
        batch = next(self.iterator)
        self.meter.waited += time.monotonic() - waiting
        batch = put_batch(batch, self.mesh)
        compiled, sample_flops = self._compiled_for(batch)
        self.state, metrics = compiled(self.state, batch)
        self.step += 1
        self._settle((self.step, metrics, len(batch["latents"]), sample_flops))

    def _settle(self, newer=None) -> None:
        """Takes in the figures of the step before; one step is always under way on the device meanwhile."""
        if self._pending is not None:
            number, metrics, samples, sample_flops = self._pending
            metrics = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
            self._check_finite(number, metrics)
            self.meter.add(metrics, samples, samples * sample_flops)
            self.telemetry.advance(float(metrics["loss"]))
        self._pending = newer
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.meter.seconds, self._mark = self.meter.seconds + now - self._mark, now

    def _check_finite(self, number: int, metrics: dict[str, np.ndarray]) -> None:
        wrong = [name for name in ("loss", "grad_norm", "param_norm", "update_norm") if not np.isfinite(metrics[name])]
        if wrong:
            kept = self.checkpoints.last_saved
            kept = "there is no checkpoint yet" if kept is None else f"the checkpoint of step {kept} is good"
            raise MMJaxError(
                f"step {number}: {', '.join(wrong)} not finite, so the run stops; {kept}. Start a new run with a lower "
                "optim.learning_rate or optim.clip_norm (train.adapter takes over this one's adapter), or look at the "
                f"loss by timestep in {self.workdir / 'metrics.jsonl'} for what went wrong"
            )

    def _look(self) -> None:
        """Validates, saves, samples: whatever this step is due for."""
        train = self.config.train
        if self._due(train.validate_every):
            with self._aside():
                self._validate()
        minutes = (time.monotonic() - self._saved_at) / 60
        late = train.checkpoint_minutes and self._due(train.log_every) and _agreed(minutes >= train.checkpoint_minutes)
        if late or self._due(train.checkpoint_every) or self.step == train.steps:
            self._save()
        if self.sample_fn and self._due(train.sample_every):
            with self._aside():
                self.telemetry.picture(self.step, self.sample_fn(self.state.params(), self.step))

    def _due(self, every: int) -> bool:
        """Whether it is time for what happens every so many steps (0: never), and after the last one."""
        return bool(every) and (self.step % every == 0 or self.step == self.config.train.steps)

    def _log(self) -> None:
        self._settle()
        row = self.meter.row(jax.device_count(), flops.peak_flops(jax.devices()[0].device_kind))
        if (peak := summary.measured_bytes()) is not None:
            row["memory/peak_gib"] = peak / summary.GIB
            if self.step - self.first <= self.config.train.log_every:
                self.telemetry.say(f"memory a device, measured: {summary.size_text(peak)} at the peak")
        self.telemetry.write(self.step, row)
        self.meter.clear()

    def _save(self) -> None:
        with self._aside():
            self.checkpoints.save(self.state, self.iterator)
        self._saved_at = time.monotonic()

    def _validate(self) -> None:
        """The loss at fixed noise over stratified timesteps, for each source, with the averaged parameters."""
        trained = self.state.trained if self.state.ema is None else self.state.ema
        losses = []
        for source, (validation_step, batches) in self._validation.items():
            arrays = (put_batch(batch, self.mesh) for batch in batches)
            found = [validation_step(trained, self.state.frozen, batch, batch.pop("numbers")) for batch in arrays]
            sums, counts = (
                sum(np.asarray(metrics[name]) for metrics in found) for name in ("bucket_sums", "bucket_counts")
            )
            losses.append(float(sums.sum() / counts.sum()))
            row = {f"validation/{source}/loss": losses[-1]}
            self.telemetry.write(
                self.step, row | bucket_row(f"validation/{source}", sums, counts, self.config.schedule.steps)
            )
        self.telemetry.write(self.step, {"validation/loss": float(np.mean(losses))})
        self.telemetry.say(f"step {self.step}: validation loss {np.mean(losses):.4f}")

    def _make_validation(self, sources, loss_fn) -> dict:
        """{source: (validation step, batches with the samples' `numbers`)}."""
        found, count = {}, self.config.train.validation_batches
        index, processes = jax.process_index(), jax.process_count()
        for source, size in zip(self.config.data.sources, self.config.data.batches, strict=True):
            batches = pipeline.validation_batches(self.config, sources, source, count, index, processes)
            local = size // processes
            for number, batch in enumerate(batches):
                begin = number * size + index * local
                batch["numbers"] = np.arange(begin, begin + local, dtype=np.int32)
            step = steps.make_validation_step(self.config, loss_fn, self.streams.validation, count * size)
            found[Path(source).name] = jax.jit(step), batches
        return found

    def _initial_state(self) -> states.TrainState:
        say, predicted = self.telemetry.say, summary.predicted_bytes(self.abstract)
        devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        say(f"{self.config.name}: {self.config.train.steps} steps on {devices}, workdir {self.workdir}")
        say(summary.parameter_table(self.abstract.trained, self.abstract.frozen))
        say(summary.memory_line(predicted))
        if self.first:
            say(f"going on from the checkpoint of step {self.first}")
            return self.checkpoints.restore(self.abstract, self.iterator)
        loaded = start.load_start(self.config, build.abstract_params(self.config, self.mesh))
        return states.create_state(self.config, self.tx, self.mesh, loaded)

    def _compiled_for(self, batch):
        """(the step compiled for this shape of batch, operations of one sample)."""
        shape = batch["latents"].shape
        if shape not in self._compiled:
            with self._aside():
                began = time.monotonic()
                compiled = self._train_step.lower(self.state, batch).compile()
                seconds = time.monotonic() - began
            needed = flops.sample_flops(self.config, self.abstract.trained, self.abstract.frozen, shape)
            memory = compiled.memory_analysis()
            space = (
                "" if memory is None else f", {summary.size_text(memory.temp_size_in_bytes)} a device for activations"
            )
            self.telemetry.say(
                f"step for latents {list(shape)}: compiled in {seconds:.1f} s, {needed.training * shape[0] / 1e12:.3g} "
                f"TFLOP (forward {needed.forward * shape[0] / 1e12:.3g}){space}"
            )
            self.telemetry.write(self.step, {"compile/seconds": seconds})
            self._compiled[shape] = compiled, needed.training
        return self._compiled[shape]

    @contextlib.contextmanager
    def _aside(self):
        """Work that is no part of a step: it does not count as step time."""
        self._settle()
        yield
        self._mark = time.monotonic()
        self.telemetry.unpause()


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """This process's share of a batch as arrays over the whole mesh; fields that the step does not read stay behind."""

    def put(local):
        shape = (len(local) * jax.process_count(), *local.shape[1:])
        sharding = partition.batch_sharding(mesh, shape[0])
        return jax.make_array_from_process_local_data(sharding, local, shape)

    return {name: put(value) for name, value in batch.items() if name in (*states.BATCH_FIELDS, "numbers")}


def check(config: c.Experiment, workdir: str | Path) -> None:
    """What can be said of a run before anything is read or made.

    Raises:
      ConfigError: batches that the devices cannot share, each with its own samples of every micro-batch.
      CheckpointError: a folder of weights to start from that is not there; a run that goes on needs it no more.
    """
    if checkpoints.last_step(workdir) is None:
        start.check_folders(config)
    mesh = partition.make_mesh(config.mesh)
    shares = partition.batch_shares(mesh)
    for batch in config.data.batches:
        if batch % (shares * config.train.accumulate):
            raise ConfigError(
                f"data.batches = {batch}: expected a multiple of {shares * config.train.accumulate}, since {mesh.size} "
                f"devices share it in {shares} parts and train.accumulate = {config.train.accumulate}; change the "
                "batch, or give mesh.tensor or mesh.context more of the devices"
            )


def _agreed(mine: bool) -> bool:
    """Process 0's answer, for all processes: clocks differ, and all must save together."""
    return mine if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(mine)))


class _StopSignals:
    """Listens for SIGTERM and SIGINT; a second SIGINT stops at once.

    With several processes SIGTERM is left to JAX, which brings all of them to stop at the same step.
    """

    def __init__(self):
        self._caught, self._before = False, {}

    def __enter__(self):
        for number in (signal.SIGINT, *((signal.SIGTERM,) if jax.process_count() == 1 else ())):
            with contextlib.suppress(ValueError):  # not in the main thread: the caller's signals are the caller's
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number, frame):
        if self._caught and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._caught = True

    def now(self, step: int, checkpoints: checkpoints.Checkpoints) -> bool:
        """Whether to stop after this step; all processes agree."""
        if jax.process_count() > 1:
            return checkpoints.preempted(step) or _agreed(self._caught)
        return self._caught
