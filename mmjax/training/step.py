"""One training step, on one page: draw, predict, differentiate, update.

The loss is a function of the trained leaves alone; the frozen ones stand beside them as a constant, so no gradient,
moment or average of a frozen leaf is ever made. All chance comes from `fold_in(key, step)`: a step repeated after a
resume sees the same noise.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, Key, PyTree

from mmjax import sharding, trees
from mmjax.models.build import Params
from mmjax.training import optimizer
from mmjax.training.offload import update_in_parts
from mmjax.training.state import TrainState
from mmjax.training.summary import subtree
from mmjax.training.tasks.task import Batch, Objective
from mmjax.training_settings import TrainingExperiment
from mmjax.trees import Tree

Metrics = dict[str, Any]  # arrays by name, and the `terms.Figures`


def make_train_step(
    config: TrainingExperiment, objective: Objective, tx: optax.GradientTransformation, key: Key[Array, ""]
) -> Callable[[TrainState, Tree, Batch], tuple[TrainState, Metrics]]:
    """`step(state, judges, batch) -> (state, metrics)`; jit it with `jit_train_step`.

    The batch is worked through in `train.accumulate` micro-batches. Everything random is drawn for the whole batch
    first, and each sample weighs the same, so their number changes nothing but memory and rounding. A step whose loss
    or gradient is not finite changes nothing but the step's number: the next one sees other records.

    Metrics: loss; whether the step was skipped; norms of the gradient (before clipping, also by subtree), of the
    trained parameters and of their change; the learning rate; `sums` and `counts` of the terms' figures.
    """
    rate, pieces = optimizer.learning_rate(config.optim, config.train.steps), config.train.accumulate
    gradient, tx = jax.value_and_grad(objective.loss, has_aux=True), optax.with_extra_args_support(tx)

    def train_step(state: TrainState, judges: Tree, batch: Batch):
        batch, draws = objective.draw(jax.random.fold_in(key, state.step), batch)

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
    objective: Objective, key: Key[Array, ""], total: int
) -> Callable[[Params, Params, Tree, Batch, Array], Metrics]:
    """`step(trained, frozen, judges, batch, numbers) -> metrics`: the loss at draws that never change.

    Args:
      key: of validation; the same for the whole run.
      total: samples in the validation set; `numbers` [B] says which of them the batch holds.
    """

    def validation_step(trained: Params, frozen: Params, judges: Tree, batch: Batch, numbers: Int[Array, " B"]):
        batch, draws = objective.fixed_draws(key, numbers, total, batch)
        loss, figures = objective.loss(trained, frozen, judges, batch, draws)
        return figures | {"loss": loss}

    return validation_step


def _subtrees(tree: Params) -> dict[str, list[Array]]:
    """The leaves of a tree by the part of the model that they belong to."""
    parts: dict[str, list[Array]] = {}
    for path, leaf in trees.flatten(tree).items():
        parts.setdefault(subtree(path), []).append(leaf)
    return parts


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
