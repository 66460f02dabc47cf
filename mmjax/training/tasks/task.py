"""What the training loop asks of a kind of experiment; all else of a training is the same for every kind.

A task says which parameters there are and where they begin, what a step reads of records, and the objective: how chance
is drawn for a batch, and the loss at it. State, optimizer, compiling, checkpoints, telemetry and resuming know no more.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
from jaxtyping import Array, Int, Key, PyTree

from mmjax.models.build import Params
from mmjax.models.flops import Flops
from mmjax.models.magicmirror.inputs import Field
from mmjax.records.sources import RecordFolders
from mmjax.training.objectives.terms import Figures
from mmjax.training_settings import TrainingExperiment
from mmjax.trees import Tree

Batch = dict[str, Array]  # fields of `mmjax.records.schema`, leading axis: samples
Draws = PyTree  # all that is random about a batch; the leading axis of each leaf: samples
LossFn = Callable[[Params, Params, Tree, Batch, Draws], tuple[Array, Figures]]


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """What a step minimises.

    draw: (key, batch) -> (the batch as the loss takes it, what is random about it), for training.
    fixed_draws: (key, numbers [B] of the samples among all that are held out, how many these are, batch) -> the same
      for validation, where nothing changes from one time to the next.
    loss: (trained, frozen, judges, batch, draws) -> (mean over the samples, figures that add up over micro-batches).
    judges: weights that the loss reads beside the parameters, {} for none.
    """

    draw: Callable[[Key[Array, ""], Batch], tuple[Batch, Draws]]
    fixed_draws: Callable[[Key[Array, ""], Int[Array, " B"], int, Batch], tuple[Batch, Draws]]
    loss: LossFn
    judges: Tree = dataclasses.field(default_factory=dict)


class Task(Protocol):
    """A kind of experiment, made of its settings alone; nothing is read or allocated before it is asked for.

    config: the experiment. timesteps: of its noise schedule, 0 for none. takes_over: how a new run may begin with the
    weights of this one, for messages.
    """

    config: TrainingExperiment
    timesteps: int
    takes_over: str

    def check(self, resumes: bool) -> None:
        """Refuses folders of weights that are not there; a run that `resumes` reads none to start from."""

    def fields(self, frames: int) -> dict[str, Field]:
        """What a step reads of a record whose clip has so many pixel frames; `latents` is among it."""

    def abstract_params(self, mesh: jax.sharding.Mesh) -> Params:
        """All parameters as `jax.ShapeDtypeStruct`s with dtypes by role and shardings."""

    def init(self, key: Key[Array, ""]) -> Any:
        """Random parameters in their logical-axis boxes, of the shapes of `abstract_params`."""

    def check_start(self, mesh: jax.sharding.Mesh) -> None:
        """Refuses a start whose frozen parameters come from nowhere (`ConfigError`)."""

    def load_start(self, mesh: jax.sharding.Mesh) -> Params:
        """The parameters that a new run loads, as `abstract_params` has them; the others are drawn."""

    def objective(self, sources: RecordFolders, mesh: jax.sharding.Mesh) -> Objective:
        """What is minimised, its judges read."""

    def operations(self, trained: Params, frozen: Params, latents: tuple[int, ...]) -> Flops | None:
        """Operations of a sample, for a batch of latents of this shape; None where they are not known."""

    def finish(self, params: Callable[[], Params], sources: RecordFolders, workdir: Path) -> str:
        """What to do next, after the last step or of a run that is finished; `params()` are the averaged parameters."""
