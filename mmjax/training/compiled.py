"""The training step compiled ahead of time, once for each shape of batch, before any weight is read."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from mmjax import device_memory, sharding
from mmjax.training import memory
from mmjax.training.batches import abstract_batches
from mmjax.training.state import TrainState
from mmjax.training.step import Metrics, jit_train_step
from mmjax.training.tasks.task import Batch, Task
from mmjax.training.telemetry import Telemetry
from mmjax.trees import Tree


class CompiledStep(NamedTuple):
    """A step for one shape of batch."""

    program: jax.stages.Compiled
    samples: int  # of the batch
    operations: float  # floating-point operations of the step; 0 where they are not known

    def __call__(self, state: TrainState, judges: Tree, batch: Batch) -> tuple[TrainState, Metrics]:
        return self.program(state, judges, batch)


class CompiledSteps:
    """Compiles the step for the batches of every source, and says what each costs in time and memory.

    Args:
      train_step: from `step.make_train_step`.
      abstract: what the step takes before the batch: the state as shapes with shardings, and its judges.
      done: steps that the run has behind it, for the log.

    Raises `ConfigError` for a step that does not fit into a device's memory.
    """

    def __init__(
        self,
        task: Task,
        train_step: Callable,
        abstract: tuple[TrainState, Tree],
        mesh: jax.sharding.Mesh,
        telemetry: Telemetry,
        done: int = 0,
    ):
        self._task, self._abstract, self._telemetry, self._done = task, abstract, telemetry, done
        self._jitted = jit_train_step(train_step, abstract[0])
        self._compiled: dict[tuple[int, ...], CompiledStep] = {}
        with sharding.use_mesh(mesh):
            for batch in abstract_batches(task, mesh):
                shape = batch["latents"].shape
                if shape not in self._compiled:
                    self._compiled[shape] = self._compile(batch)

    def of(self, batch: Batch) -> CompiledStep:
        """The step for this batch."""
        return self._compiled[batch["latents"].shape]

    def _compile(self, batch: dict[str, jax.ShapeDtypeStruct]) -> CompiledStep:
        shape, state = batch["latents"].shape, self._abstract[0]
        began = time.monotonic()
        program = self._jitted.lower(*self._abstract, batch).compile()
        seconds = time.monotonic() - began
        needed = self._task.operations(state.trained, state.frozen, shape)
        held = device_memory.held_bytes(program)
        work = needed and (
            f", {needed.training * shape[0] / 1e12:.3g} TFLOP (forward {needed.forward * shape[0] / 1e12:.3g})"
        )
        self._telemetry.log(
            f"step for latents {list(shape)}: compiled in {seconds:.1f} s{work or ''}"
            + ("" if held is None else f", {memory.step_line(held, *self._abstract)}")
        )
        self._telemetry.write(self._done, {"compile/seconds": seconds})
        if held is not None:
            memory.check_step(self._task.config, state, held, shape)
        return CompiledStep(program, shape[0], needed.training * shape[0] if needed else 0.0)
