"""The optimizer: its learning rate, what it decays, what it clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config as c
from mmjax.training import optimizer


def test_learning_rate_warms_up_then_follows_a_cosine():
    settings = c.Optim(learning_rate=1.0, warmup_steps=4, final_fraction=0.1)
    rate = optimizer.learning_rate(settings, steps=24)
    np.testing.assert_allclose([rate(step) for step in range(5)], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    assert rate(14) == pytest.approx(0.55, rel=1e-6)  # half of the way down
    assert rate(24) == pytest.approx(0.1, rel=1e-6) and rate(1000) == pytest.approx(0.1, rel=1e-6)


def test_no_warmup_and_a_run_shorter_than_its_warmup():
    assert optimizer.learning_rate(c.Optim(learning_rate=1.0, warmup_steps=0), 10)(0) == pytest.approx(1.0)
    short = optimizer.learning_rate(c.Optim(learning_rate=1.0, warmup_steps=99), 10)
    assert short(9) == pytest.approx(0.1, rel=1e-6)


def updates_without_gradient(settings):
    """What weight decay alone does to stacked leaves of ones."""
    params = {"blocks": {"norm": {"scale": jnp.ones((3, 4)), "bias": jnp.ones((3, 4))}, "kernel": jnp.ones((3, 4, 4))}}
    params["queries"] = jnp.ones((4, 4))
    tx = optimizer.make_optimizer(settings, 10)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    return updates


def test_weight_decay_is_for_kernels_alone():
    settings = c.Optim(learning_rate=0.5, warmup_steps=0, weight_decay=0.1)
    updates = updates_without_gradient(settings)
    np.testing.assert_allclose(updates["blocks"]["kernel"], -0.05, rtol=1e-6)
    for leaf in (updates["blocks"]["norm"]["scale"], updates["blocks"]["norm"]["bias"], updates["queries"]):
        assert not np.any(leaf)


def test_gradients_are_clipped_by_their_global_norm():
    """Adam's first step hides a gradient's size, so the moment tells: (1 - beta1) times the clipped gradient."""
    settings = c.Optim(clip_norm=2.0, beta1=0.9, beta2=0.75)
    tx, params = optimizer.make_optimizer(settings, 10), {"a": {"kernel": jnp.zeros(3)}, "b": {"kernel": jnp.zeros(1)}}
    grads = {"a": {"kernel": jnp.full(3, 30.0)}, "b": {"kernel": jnp.full(1, 30.0)}}  # norm 60
    _, state = tx.update(grads, tx.init(params), params)
    moments = next(part for part in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(part, "mu"))
    np.testing.assert_allclose(moments.mu["a"]["kernel"], 0.1 * 1.0, rtol=1e-6)
    np.testing.assert_allclose(moments.nu["a"]["kernel"], 0.25 * 1.0**2, rtol=1e-6)
