"""The terms of the objective: one interface, the two forms of the denoising loss, their weighted sum.

A term gives each sample of a batch a loss and says for which samples it counts. The objective is the mean over all
samples of the weighted sum of what counts, so that micro-batches and devices add up to the same. A new term is a class
with `name`, `weight` and `__call__`, put into the list that `mmjax.training.step.make_loss` takes; its mean is logged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmjax.diffusion import loss as diffusion_loss
from mmjax.diffusion import schedule as noise_schedule
from mmjax.trees import Tree

Figures = dict[str, dict[str, Array]]  # {"sums": by tag, "counts": by tag}; they add up over micro-batches and devices


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model made of a batch. T, H, W, C are the latents' sizes, float32."""

    batch: Mapping[str, Array]  # fields of `mmjax.records.schema`, with their true conditions
    draws: diffusion_loss.Draws
    schedule: noise_schedule.NoiseSchedule
    noisy: Float[Array, "B T H W C"]
    v: Float[Array, "B T H W C"]
    target: Float[Array, "B T H W C"]

    @property
    def x0(self) -> Float[Array, "B T H W C"]:
        """The clean latents that the prediction stands for."""
        return noise_schedule.predict_x0(self.schedule, self.v, self.noisy, self.draws.timesteps)


class Judged(NamedTuple):
    """What a term says of each sample."""

    losses: Float[Array, " B"]
    counts: Bool[Array, " B"]  # False: the sample has no part in the term, and its loss may be any finite number
    by_timestep: Mapping[str, Float[Array, " B"]] = {}  # further figures of the samples that count, to log
    each_for: Float[Array, ""] | float = 1.0  # samples that each of them stands for, where not all were looked at


class Term(Protocol):
    """A part of the objective. `judges` are the weights of the networks that judge (`objectives.judges`), or {}."""

    name: str
    weight: float

    def __call__(self, prediction: Prediction, judges: Tree) -> Judged: ...


@dataclasses.dataclass(frozen=True)
class Denoising:
    """The velocity's mean squared error over whole latents."""

    name: str = "denoising"
    weight: float = 1.0

    def __call__(self, prediction: Prediction, judges: Tree) -> Judged:
        losses, face_alone = _denoising(prediction)
        return Judged(losses, ~face_alone)


@dataclasses.dataclass(frozen=True)
class FaceRegion:
    """The velocity's mean squared error over the face, for the samples that chance restricts to it."""

    name: str = "face_region"
    weight: float = 1.0

    def __call__(self, prediction: Prediction, judges: Tree) -> Judged:
        losses, face_alone = _denoising(prediction)
        return Judged(losses, face_alone)


DENOISING: tuple[Term, ...] = (Denoising(), FaceRegion())


def objective(terms: Sequence[Term], prediction: Prediction, judges: Tree) -> tuple[Float[Array, ""], Figures]:
    """The mean over the samples of the weighted sum of all terms, and what is logged of it.

    Figures: of each term the sum over the samples that count and their number; the denoising loss, and whatever terms
    give `by_timestep`, in ten ranges of timesteps; which conditions were dropped.
    """
    draws, steps = prediction.draws, prediction.schedule.steps
    total, sums, counts = jnp.zeros_like(draws.frame), {}, {}
    for term in terms:
        judged = term(prediction, judges)
        counted = jnp.where(judged.counts, judged.losses, 0.0)
        total += term.weight * judged.each_for * counted
        sums[term.name], counts[term.name] = counted.sum(), judged.counts.sum(dtype=jnp.float32)
        for name, values in judged.by_timestep.items():
            found = diffusion_loss.bucket_losses(values, draws.timesteps, steps, counted=judged.counts)
            sums[name], counts[name] = found
    losses, _ = _denoising(prediction)
    sums["loss"], counts["loss"] = diffusion_loss.bucket_losses(losses, draws.timesteps, steps)
    for name, dropped in _dropped(draws).items():
        sums[f"dropped/{name}"] = dropped.sum(dtype=jnp.float32)
        counts[f"dropped/{name}"] = jnp.float32(len(dropped))
    return jnp.mean(total), {"sums": sums, "counts": counts}


def _denoising(prediction: Prediction) -> tuple[Float[Array, " B"], Bool[Array, " B"]]:
    """Of each sample the loss, and whether its face alone counts."""
    mask, face_region = prediction.batch["face_mask"], prediction.draws.face_region
    losses = diffusion_loss.denoising_loss(prediction.v, prediction.target, mask, face_region)
    return losses, diffusion_loss.counts_face_alone(mask, face_region)


def _dropped(draws: diffusion_loss.Draws) -> dict[str, Any]:
    """Which samples train without what; each of them excludes the others."""
    text, identity = ~draws.keep_text, ~draws.keep_identity
    return {"text": text & ~identity, "identity": identity & ~text, "both": text & identity}
