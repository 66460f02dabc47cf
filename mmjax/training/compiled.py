"""The training step compiled ahead of time, once for each shape of batch."""

import time
from typing import NamedTuple

import jax

from mmjax import config as c
from mmjax.models import flops
from mmjax.training import summary
from mmjax.training.progress import Progress
from mmjax.training.state import TrainState
from mmjax.training.step import Batch, Metrics, jit_train_step
from mmjax.training.telemetry import Telemetry
from mmjax.trees import Tree


class CompiledStep(NamedTuple):
    """A step for one shape of batch."""

    program: jax.stages.Compiled
    operations: float  # floating-point operations of the step

    def __call__(self, state: TrainState, judges: Tree, batch: Batch) -> tuple[TrainState, Metrics]:
        return self.program(state, judges, batch)


class CompiledSteps:
    """Compiles the step when the first batch of a shape comes, and says what it costs.

    Args:
      train_step: from `step.make_train_step`.
      abstract: the state as shapes with shardings.
      progress: leaves compiling out of the step time.
    """

    def __init__(
        self, config: c.Experiment, train_step, abstract: TrainState, telemetry: Telemetry, progress: Progress
    ):
        self._config = config
        self._jitted = jit_train_step(train_step, abstract)
        self._abstract = abstract
        self._telemetry = telemetry
        self._progress = progress
        self._compiled: dict[tuple[int, ...], CompiledStep] = {}

    def of(self, state: TrainState, judges: Tree, batch: Batch, done: int) -> CompiledStep:
        """The step for this batch, after `done` steps."""
        shape = batch["latents"].shape
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(state, judges, batch, done)
        return self._compiled[shape]

    def _compile(self, state: TrainState, judges: Tree, batch: Batch, done: int) -> CompiledStep:
        shape = batch["latents"].shape
        with self._progress.aside():
            began = time.monotonic()
            program = self._jitted.lower(state, judges, batch).compile()
            seconds = time.monotonic() - began
        needed = flops.sample_flops(self._config, self._abstract.trained, self._abstract.frozen, shape)
        memory = program.memory_analysis()
        space = "" if memory is None else f", {summary.size_text(memory.temp_size_in_bytes)} a device for activations"
        self._telemetry.log(
            f"step for latents {list(shape)}: compiled in {seconds:.1f} s, {needed.training * shape[0] / 1e12:.3g} "
            f"TFLOP (forward {needed.forward * shape[0] / 1e12:.3g}){space}"
        )
        self._telemetry.write(done, {"compile/seconds": seconds})
        return CompiledStep(program, needed.training * shape[0])
