"""The training step compiled ahead of time, once for each shape of batch, before any weight is read."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from mmjax import config as c
from mmjax import device_memory, sharding
from mmjax.models import flops
from mmjax.training import memory
from mmjax.training.batches import abstract_batches
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
    """Compiles the step for the batches of every source, and says what each costs in time and memory.

    Args:
      train_step: from `step.make_train_step`.
      abstract: what the step takes before the batch: the state as shapes with shardings, and its judges.
      done: steps that the run has behind it, for the log.

    Raises `ConfigError` for a step that does not fit into a device's memory.
    """

    def __init__(
        self,
        config: c.Experiment,
        train_step: Callable,
        abstract: tuple[TrainState, Tree],
        mesh: jax.sharding.Mesh,
        telemetry: Telemetry,
        done: int = 0,
    ):
        self._config, self._abstract, self._telemetry, self._done = config, abstract, telemetry, done
        self._jitted = jit_train_step(train_step, abstract[0])
        self._compiled: dict[tuple[int, ...], CompiledStep] = {}
        with sharding.use_mesh(mesh):
            for batch in abstract_batches(config, mesh):
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
        needed = flops.sample_flops(self._config, state.trained, state.frozen, shape)
        held = device_memory.held_bytes(program)
        self._telemetry.log(
            f"step for latents {list(shape)}: compiled in {seconds:.1f} s, {needed.training * shape[0] / 1e12:.3g} "
            f"TFLOP (forward {needed.forward * shape[0] / 1e12:.3g})"
            + ("" if held is None else f", {memory.step_line(held, *self._abstract)}")
        )
        self._telemetry.write(self._done, {"compile/seconds": seconds})
        if held is not None:
            memory.check_step(self._config, state, held, shape)
        return CompiledStep(program, needed.training * shape[0])
