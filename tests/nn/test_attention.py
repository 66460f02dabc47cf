"""The attention back-ends against one another and against plain numpy."""

import jax
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.nn.attention import attention, resolve_backend
from mmjax.precision import Policy


def heads(batch, queries, keys, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, queries, 2, 64), (batch, keys, 2, 64), (batch, keys, 2, 64)]
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def in_numpy(q, k, v):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = np.einsum("bnhk,bmhk->bhnm", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhnm,bmhk->bnhk", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("backend", ["xla", "splash"])
@pytest.mark.parametrize("queries,keys,counted", [(128, 128, 128), (37, 37, 37), (150, 4, 4), (150, 150, 99)])
def test_backend_equals_numpy(backend, queries, keys, counted):
    q, k, v = heads(2, queries, keys)
    found = jax.jit(lambda *a: attention(*a, Policy(attention=backend), counted))(q, k, v)
    error = np.abs(np.asarray(found) - in_numpy(q, k[:, :counted], v[:, :counted])).max()
    print(f"{backend}, {queries} queries, {keys} keys: max abs error {error:.1e}")
    assert error < 5e-6


def test_splash_gradient_equals_xla():
    q, k, v = heads(1, 40, 40)

    def gradient(backend):
        return jax.jit(jax.grad(lambda *a: (attention(*a, Policy(attention=backend)) ** 2).sum(), argnums=(0, 1, 2)))(
            q, k, v
        )

    for one, other in zip(gradient("splash"), gradient("xla"), strict=True):
        np.testing.assert_allclose(one, other, atol=5e-5)


def test_a_back_end_that_cannot_run_here_is_refused():
    with pytest.raises(ConfigError, match="cudnn: expected a GPU and bfloat16, found cpu"):
        resolve_backend("cudnn", np.dtype("float32"))
    assert resolve_backend("auto", np.dtype("float32")) == "xla"
