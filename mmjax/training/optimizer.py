"""The optimizer: AdamW, a linear warm-up into a cosine decay, clipping by the global norm (METHOD 4).

With `optim.moments = bfloat16` both moments rest in bfloat16, half as large, and are float32 while they are used. Its
numbers are 0.4 to 0.8 % apart, and at beta2 = 0.95 the second moment falls by up to 5 % a step: what is rounded off are
steps toward squares that are within 8 % of it already. Much slower averages would stand still, so they are refused.
Measured on `configs/tiny.py`, 400 steps, seeds 0 and 1 (`--config.train.steps=400 --config.train.validation_batches=8
--config.optim.moments=bfloat16`): the validation loss ends at 0.1653 and 0.1642, in float32 at 0.1662 and 0.1642; the
training loss differs by 0.4 and 0.1 % on average, by 1.4 % at most. That says nothing of a run of 30,000 steps.

optax 0.2.8 has no 8-bit optimizer, and its `mu_dtype` is the first moment's alone.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from mmjax import config as c
from mmjax import trees
from mmjax.training.offload import update_in_parts

DECAYED = (r"(.*/)?kernel",)  # matrices; stacked blocks give their biases and norm scales two axes as well


def learning_rate(optim: c.Optim, steps: int) -> optax.Schedule:
    """Learning rate of each step, counted from 0: linear up to the peak, then a cosine down to `final_fraction` of it.

    The first step already has a share of the peak, so none is wasted. A run shorter than `warmup_steps` only warms up.
    """
    warmup = optim.warmup_steps
    up = optax.linear_schedule(optim.learning_rate / (warmup + 1), optim.learning_rate, warmup)
    down = optax.cosine_decay_schedule(optim.learning_rate, max(steps - warmup, 1), alpha=optim.final_fraction)
    return optax.join_schedules([up, down], [warmup])


def make_optimizer(optim: c.Optim, steps: int) -> optax.GradientTransformation:
    """The update rule. Give it float32 parameters and gradients (`float32` below).

    Weight decay is for matrices only, told by their name: a scan over blocks stacks biases and norm scales into
    two-dimensional arrays, so that the usual rule "decay what has two axes" would decay them too.
    """
    adamw = optax.adamw(
        learning_rate(optim, steps),
        b1=optim.beta1,
        b2=optim.beta2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        mask=lambda params: trees.match(DECAYED, params),
    )
    return optax.chain(
        optax.clip_by_global_norm(optim.clip_norm),
        resting(adamw, jnp.dtype(optim.moments)),
    )


def resting(tx: optax.GradientTransformation, dtype: jnp.dtype) -> optax.GradientTransformationExtraArgs:
    """`tx` with its moments in `dtype` between steps, in device or in host memory; it computes with them in float32.

    Its update takes `finite`: where it is False, the state stays what it was.
    """

    def init(params):
        return _moments_in(dtype, tx.init(params))

    def update(grads, state, params, *, finite=True, **_):
        def update_leaves(state, grads, params):
            updates, new = tx.update(grads, _moments_in(jnp.float32, state), params)
            return kept(finite, _moments_in(dtype, new), state), updates

        state, updates = update_in_parts(update_leaves, state, grads, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


def kept(finite: Bool[Array, ""], new, old):
    """The new leaves where a step is finite, else the old ones."""
    return jax.tree.map(lambda one, other: jnp.where(finite, one, other), new, old)


def _moments_in(dtype: jnp.dtype, state: optax.OptState) -> optax.OptState:
    """The optimizer's state with its moments in `dtype`; what counts steps stays whole."""

    def cast(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, state)


def float32(tree):
    """The tree's arrays in float32, the dtype of gradients, moments and moving averages."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
