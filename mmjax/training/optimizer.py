"""The optimizer: AdamW, a linear warm-up into a cosine decay, clipping by the global norm (METHOD 4)."""

import jax
import jax.numpy as jnp
import optax

from mmjax import config as c
from mmjax import trees

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
    """The update rule. Give it float32 parameters and gradients (`float32` below): its moments take their dtype.

    Weight decay is for matrices only, told by their name: a scan over blocks stacks biases and norm scales into
    two-dimensional arrays, so that the usual rule "decay what has two axes" would decay them too.
    """
    return optax.chain(
        optax.clip_by_global_norm(optim.clip_norm),
        optax.adamw(
            learning_rate(optim, steps),
            b1=optim.beta1,
            b2=optim.beta2,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            mask=lambda params: trees.match(DECAYED, params),
        ),
    )


def float32(tree):
    """The tree's arrays in float32, the dtype of gradients, moments and moving averages."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
