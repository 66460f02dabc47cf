"""One training step, on one page: draw, corrupt, predict, differentiate, update.

The loss is a function of the trained leaves alone; the frozen ones stand beside them as a constant, so no gradient,
moment or average of a frozen leaf is ever made. All chance comes from `fold_in(key, step)`: a step repeated after a
resume sees the same noise.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.diffusion import loss as diffusion_loss
from mmjax.diffusion import schedule as noise_schedule
from mmjax.diffusion.conditioning_dropout import drop_conditions
from mmjax.models.build import Params
from mmjax.models.cogvideox.patches import pad_frames
from mmjax.training import optimizer
from mmjax.training.objectives.terms import DENOISING, Figures, Prediction, Term, objective
from mmjax.training.offload import update_in_parts
from mmjax.training.state import TrainState
from mmjax.training.summary import subtree
from mmjax.trees import Tree

Batch = dict[str, Array]  # fields of `mmjax.records.schema`, leading axis: samples
Metrics = dict[str, Any]  # arrays by name, and the `terms.Figures`
LossFn = Callable[[Params, Params, Tree, Batch, diffusion_loss.Draws], tuple[Array, Figures]]


def make_loss(
    config: c.Experiment,
    model: nn.Module,
    unconditional_text: Float[Array, "L text_dim"],
    terms: Sequence[Term] = DENOISING,
) -> LossFn:
    """`loss(trained, frozen, judges, batch, draws) -> (mean loss, figures)`, for training and for validation alike.

    Args:
      unconditional_text: embedding of the empty prompt, in place of the text that `draws` drops.
      terms: of the objective, see `objectives.terms`; `judges` are the weights that they ask, {} where none does.
    """
    schedule = noise_schedule.make_schedule(config.schedule)

    def loss_fn(trained: Params, frozen: Params, judges: Tree, batch: Batch, draws: diffusion_loss.Draws):
        params, t = trees.merge(trained, frozen), draws.timesteps
        noisy = noise_schedule.add_noise(schedule, batch["latents"], draws.noise, t)
        target = noise_schedule.velocity(schedule, batch["latents"], draws.noise, t)
        kept = drop_conditions(batch, draws.keep_text, draws.keep_identity, unconditional_text)
        v = model.apply({"params": params}, kept, noisy, t)
        return objective(terms, Prediction(batch, draws, schedule, noisy, v, target), judges)

    return loss_fn


def make_train_step(
    config: c.Experiment, loss_fn: LossFn, tx: optax.GradientTransformation, key: Key[Array, ""]
) -> Callable[[TrainState, Tree, Batch], tuple[TrainState, Metrics]]:
    """`step(state, judges, batch) -> (state, metrics)`; jit it with `jit_train_step`.

    The batch is worked through in `train.accumulate` micro-batches. Everything random is drawn for the whole batch
    first, and each sample weighs the same, so their number changes nothing but memory and rounding. A step whose loss
    or gradient is not finite changes nothing but the step's number: the next one sees other records.

    Metrics: loss; whether the step was skipped; norms of the gradient (before clipping, also by subtree), of the
    trained parameters and of their change; the learning rate; `sums` and `counts` of the terms' figures.
    """
    rate, pieces = optimizer.learning_rate(config.optim, config.train.steps), config.train.accumulate
    gradient, tx = jax.value_and_grad(loss_fn, has_aux=True), optax.with_extra_args_support(tx)

    def train_step(state: TrainState, judges: Tree, batch: Batch):
        batch = _whole_patches(config, batch)
        rng = jax.random.fold_in(key, state.step)
        draws = diffusion_loss.draw(rng, batch["latents"].shape, config.schedule.steps, config.loss)

        def of_micro_batch(piece):
            (loss, figures), grads = gradient(state.trained, state.frozen, judges, *piece)
            return (loss / pieces, jax.tree.map(lambda leaf: leaf / pieces, optimizer.float32(grads))), figures

        (loss, grads), figures = _scan_sum(of_micro_batch, _split_batch((batch, draws), pieces))
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        weights = optimizer.float32(state.trained)
        updates, opt_state = tx.update(grads, state.opt_state, weights, finite=finite)
        trained = optimizer.kept(finite, optax.apply_updates(state.trained, updates), state.trained)
        metrics = {
            "loss": loss,
            "skipped": ~finite,
            "grad_norm": grad_norm,
            "param_norm": optax.tree.norm(weights),
            "update_norm": jnp.where(finite, optax.tree.norm(updates), 0.0),
            "learning_rate": rate(state.step),
            **{f"grad_norm/{name}": optax.tree.norm(part) for name, part in _subtrees(grads).items()},
            **figures,
        }
        after = TrainState(
            step=state.step + 1,
            trained=trained,
            frozen=state.frozen,
            opt_state=opt_state,
            ema=_average(state.ema, trained, state.step, config.train.ema_decay, finite),
        )
        return after, metrics

    return train_step


def jit_train_step(train_step, abstract: TrainState):
    """The step jitted: the state keeps its shardings and its memory is used again for the new one."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, None))


def make_validation_step(
    config: c.Experiment, loss_fn: LossFn, key: Key[Array, ""], total: int
) -> Callable[[Params, Params, Tree, Batch, Array], Metrics]:
    """`step(trained, frozen, judges, batch, numbers) -> metrics`: the loss at noise and timesteps that never change.

    Args:
      key: of validation; the same for the whole run.
      total: samples in the validation set, over whose numbers the timesteps are stratified.

    `numbers` [B] says which of them the batch holds. No condition is dropped, and the loss counts whole latents.
    """

    def validation_step(trained: Params, frozen: Params, judges: Tree, batch: Batch, numbers: Int[Array, " B"]):
        batch = _whole_patches(config, batch)
        shape = batch["latents"].shape
        draws = diffusion_loss.fixed_draws(key, numbers, total, shape, config.schedule.steps)
        loss, figures = loss_fn(trained, frozen, judges, batch, draws)
        return figures | {"loss": loss}

    return validation_step


def _subtrees(tree: Params) -> dict[str, list[Array]]:
    """The leaves of a tree by the part of the model that they belong to."""
    parts: dict[str, list[Array]] = {}
    for path, leaf in trees.flatten(tree).items():
        parts.setdefault(subtree(path), []).append(leaf)
    return parts


def _whole_patches(config: c.Experiment, batch: Batch) -> Batch:
    """The batch with as many latent frames as temporal patches can hold."""
    padded = ("latents", "face_mask")
    return batch | {name: pad_frames(batch[name], config.model.transformer) for name in padded}


def _split_batch(tree: PyTree, pieces: int) -> PyTree:
    """[B, ...] -> [pieces, B / pieces, ...]; every device keeps its own samples in each piece."""

    def split(leaf):
        leaf = leaf.reshape(leaf.shape[0] // pieces, pieces, *leaf.shape[1:]).swapaxes(0, 1)
        return sharding.constrain(leaf, None, "batch", *(None,) * (leaf.ndim - 2))

    return jax.tree.map(split, tree)


def _scan_sum(function: Callable, pieces: PyTree) -> PyTree:
    """Sum of `function(piece)` over the leading axis of `pieces`, one piece in memory at a time."""
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], pieces))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(lambda total, piece: (jax.tree.map(jnp.add, total, function(piece)), None), zeros, pieces)[0]


def _average(
    ema: Params | None, trained: Params, step: Int[Array, ""], decay: float, finite: Bool[Array, ""] | bool = True
) -> Params | None:
    """Moving average of the trained leaves. Early steps decay less, so that it does not remember the random start."""
    if ema is None:
        return None
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    def averaged(ema, trained):
        new = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, ema, trained)
        return optimizer.kept(finite, new, ema), {}

    return update_in_parts(averaged, ema, trained)[0]
