"""What is done every so many steps of a run: small evaluators with one interface, in one list.

    ValidationLoss   the loss on held-out records
    SampleSheets     samples of held-out people, drawn by whoever can sample: a picture, clips, and whom they look like

A new one is a class with `name`, `every` and `__call__`, put into the list that `mmjax.training.loop.train` takes; its
report goes to the log, `metrics.jsonl`, TensorBoard and the workdir.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from mmjax import media, sharding
from mmjax.evaluation.identity import SimilarityToPeople
from mmjax.evaluation.of_samples import MetricsOfSamples
from mmjax.evaluation.samples import Samples
from mmjax.models.build import Params
from mmjax.records import pipeline
from mmjax.records.sources import RecordFolders
from mmjax.training import step as steps
from mmjax.training.batches import put_batch, put_samples
from mmjax.training.objectives.terms import Figures
from mmjax.training.state import TrainState
from mmjax.training.tasks.task import Batch, Objective, Task
from mmjax.training.telemetry import Telemetry, add_figures, figures_row
from mmjax.training_settings import TrainingExperiment
from mmjax.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluator found at a step; any of it may be left out."""

    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)  # by tag, such as "validation/loss"
    line: str = ""  # for the reader of the log
    picture: UInt8[np.ndarray, "h w 3"] | None = None  # kept as WORKDIR/NAME/STEP.png
    clip: UInt8[np.ndarray, "frames h w 3"] | None = None  # kept as WORKDIR/NAME/STEP.mp4
    fps: float = 8.0  # frames a second of the clip


class Evaluator(Protocol):
    """Called after every `every` steps (0: never) and after the last one, by all processes at the same step.

    Those of its figures that `train.keep_best` may choose by stand in `higher_is_better`, by tag; each of its reports
    has them, NaN where one has no value.
    """

    name: str
    every: int
    higher_is_better: Mapping[str, bool]

    def __call__(self, state: TrainState, step: int) -> Evaluation: ...


def figures_to_choose_by(config: TrainingExperiment, evaluators: Sequence[Evaluator]) -> dict[str, bool]:
    """Whether more is better, by tag, of the figures that a run gives: of its validation and of more `evaluators`."""
    found = validation_figures(config)
    for evaluator in evaluators:
        found |= evaluator.higher_is_better if evaluator.every else {}
    return found


def validation_figures(config: TrainingExperiment) -> dict[str, bool]:
    """Those of `ValidationLoss`: the loss over all sources and of each of them."""
    if not config.train.validate_every:
        return {}
    names = [ValidationLoss.name, *(f"{ValidationLoss.name}/{Path(name).name}" for name in config.data.sources)]
    return {f"{name}/loss": False for name in names}


def write_evaluation(telemetry: Telemetry, step: int, name: str, report: Evaluation) -> None:
    """Hands what the evaluator `name` found to the writers of the run."""
    if report.figures:
        telemetry.write(step, report.figures)
    if report.picture is not None:
        telemetry.picture(step, report.picture, name)
    if report.clip is not None:
        telemetry.clip(step, report.clip, report.fps, name)
    if report.line:
        telemetry.log(f"step {step}: {report.line}")


class SampleSheets:
    """A contact sheet of samples and their clips; with `similarity` also how alike they are to their people.

    Args:
      every: steps from one sheet to the next.
      draw: `(params, step) -> samples`, of the model's whole tree with the averaged parameters.
      similarity: sees the clips of the sheet, so that nothing is sampled for it.
      metrics: see them as well.
    """

    name = "samples"

    def __init__(
        self,
        every: int,
        draw: Callable[[Params, int], Samples],
        similarity: SimilarityToPeople | None = None,
        metrics: MetricsOfSamples | None = None,
    ):
        self.every = every
        self.higher_is_better = similarity.higher_is_better if similarity else {}
        self.higher_is_better |= metrics.higher_is_better if metrics else {}
        self._draw, self._similarity, self._metrics = draw, similarity, metrics

    def __call__(self, state: TrainState, step: int) -> Evaluation:
        samples = self._draw(state.params(), step)
        frames = samples.videos.shape[1]
        clip = media.side_by_side(samples.videos) if frames > 1 else None
        figures = self._metrics(samples.videos, samples.fps) if self._metrics else {}
        report = Evaluation(figures, picture=samples.sheet, clip=clip, fps=samples.fps)
        if self._similarity is None:
            return report
        found = self._similarity(samples.people, samples.videos)
        doubt = "" if self._similarity.independent else " (NOT independent: this embedder has a part in the training)"
        figures |= self._similarity.figures(found)
        return dataclasses.replace(report, figures=figures, line=f"identity{doubt}: {found}")


class ValidationLoss:
    """The loss on held-out records of each source, at draws that never change, averaged parameters.

    Args:
      key: of the draws; the same for the whole run.
    """

    name = "validation"

    def __init__(
        self,
        task: Task,
        sources: RecordFolders,
        objective: Objective,
        mesh: jax.sharding.Mesh,
        key: Key[Array, ""],
    ):
        config = task.config
        self.every = config.train.validate_every
        self.higher_is_better = validation_figures(config)
        self._train_steps = task.timesteps
        self._judges, self._mesh = objective.judges, mesh
        names = config.data.sources if self.every else ()
        self._sets = [_HeldOut.of(task, sources, name, objective, mesh, key) for name in names]

    def __call__(self, state: TrainState, step: int) -> Evaluation:
        trained = state.averaged()
        figures, losses = {}, []
        for held_out in self._sets:
            loss, found = held_out.measure(trained, state.frozen, self._judges, self._mesh)
            tag = f"{self.name}/{held_out.name}"
            losses.append(loss)
            figures |= {f"{tag}/loss": loss} | figures_row(tag, found, self._train_steps)
        mean = float(np.mean(losses))
        return Evaluation(figures | {f"{self.name}/loss": mean}, f"validation loss {mean:.4f}")


@dataclasses.dataclass(frozen=True, eq=False)
class _HeldOut:
    """Batches of one source's held-out records, on the host."""

    name: str
    step: Callable[[Params, Params, Tree, Batch, Array], steps.Metrics]
    size: int  # of a batch
    batches: list[dict[str, np.ndarray]]  # this process's rows, of what the loss reads
    numbers: list[np.ndarray]  # of their samples among all that are held out

    @classmethod
    def of(
        cls,
        task: Task,
        sources: RecordFolders,
        name: str,
        objective: Objective,
        mesh: jax.sharding.Mesh,
        key: Key[Array, ""],
    ):
        config, which = task.config, task.config.data.sources.index(name)
        count, size = config.train.validation_batches, config.data.batches[which]
        rows = sharding.own_rows(mesh, size)
        fields = tuple(task.fields(config.data.frames[which]))
        batches = pipeline.validation_batches(config, sources, name, count, rows, fields)
        numbers = [np.asarray(rows, np.int32) + number * size for number in range(count)]
        step = jax.jit(steps.make_validation_step(objective, key, count * size))
        return cls(Path(name).name, step, size, batches, numbers)

    def measure(self, trained: Params, frozen: Params, judges: Tree, mesh: jax.sharding.Mesh) -> tuple[float, Figures]:
        """The mean loss, and what the terms say; nothing is dropped here."""
        losses, figures = [], {"sums": {}, "counts": {}}
        for batch, numbers in zip(self.batches, self.numbers, strict=True):
            inputs = put_batch(batch, mesh, self.size), put_samples(numbers, mesh, self.size)
            metrics = jax.device_get(self.step(trained, frozen, judges, *inputs))
            losses.append(float(metrics["loss"]))
            figures = add_figures(figures, metrics)
        said = {
            kind: {k: v for k, v in found.items() if not k.startswith("dropped/")} for kind, found in figures.items()
        }
        return float(np.mean(losses)), said
