"""The attention back-ends against one another and against plain numpy."""

import jax
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.nn import attention as kernels
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


@pytest.fixture
def every_kernel(monkeypatch):
    """Few keys go to the named back-end too."""
    monkeypatch.setattr(kernels, "FEW_KEYS", 0)


@pytest.mark.parametrize("backend", ["xla", "splash"])
@pytest.mark.parametrize("queries,keys,counted", [(128, 128, 128), (37, 37, 37), (150, 4, 4), (150, 150, 99)])
def test_backend_equals_numpy(every_kernel, backend, queries, keys, counted):
    q, k, v = heads(2, queries, keys)
    found = jax.jit(lambda *a: attention(*a, Policy(attention=backend), counted))(q, k, v)
    error = np.abs(np.asarray(found) - in_numpy(q, k[:, :counted], v[:, :counted])).max()
    print(f"{backend}, {queries} queries, {keys} keys: max abs error {error:.1e}")
    assert error < 5e-6


def test_splash_gradient_equals_xla(every_kernel):
    q, k, v = heads(1, 40, 40)

    def gradient(backend):
        policy = Policy(attention=backend)
        return jax.jit(jax.grad(lambda *a: (attention(*a, policy) ** 2).sum(), argnums=(0, 1, 2)))(q, k, v)

    for one, other in zip(gradient("splash"), gradient("xla"), strict=True):
        np.testing.assert_allclose(one, other, atol=5e-5)


def test_a_back_end_that_cannot_run_here_is_refused():
    with pytest.raises(ConfigError, match="cudnn: expected a GPU and bfloat16, found cpu"):
        resolve_backend("cudnn", np.dtype("float32"))
    assert resolve_backend("auto", np.dtype("float32")) == "xla"


@pytest.mark.parametrize("platform, backend", [("tpu", "splash"), ("gpu", "cudnn"), ("cpu", "xla")])
def test_the_back_end_is_that_of_the_devices_that_the_program_is_for(platform, backend):
    """They need not be here: a program is compiled for a machine that is somewhere else."""
    device = jax.sharding.AbstractDevice("some kind", 1, platform)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)):
        assert resolve_backend("auto", np.dtype("bfloat16")) == backend


def padded_like_cudnn(q, k, v, keys):
    """The GPU's way in numpy: zero keys up to whole blocks, and log Z from which their share is taken out."""
    surplus = -keys % kernels.CUDNN_BLOCK
    k, v = (np.pad(x[:, :keys], ((0, 0), (0, surplus), (0, 0), (0, 0))) for x in (k, v))
    scores = np.einsum("bnhk,bmhk->bhnm", q, k).astype(np.float32) / np.sqrt(np.float32(q.shape[-1]))
    log_z = jax.scipy.special.logsumexp(scores, axis=-1).transpose(0, 2, 1)
    out = np.einsum("bhnm,bmhk->bnhk", jax.nn.softmax(scores, axis=-1), v)
    return np.asarray(kernels._without_zero_keys(out, log_z, surplus))


def low_scores(keys, score):
    """Queries and keys whose scores all lie near `score`."""
    q, k, v = heads(1, 8, keys)
    direction = np.ones(64, np.float32) / 8
    q, k = q * 0.1 + direction * 8, k * 0.1 + direction * score
    return q, k, v


@pytest.mark.parametrize("score", [0, -10, -16, -30])
def test_few_keys_are_exact_where_correcting_for_zero_keys_cancels(score):
    q, k, v = low_scores(32, score)
    expected = in_numpy(q, k, v)
    error = np.abs(np.asarray(attention(q, k, v, Policy())) - expected).max()
    cancelled = np.abs(padded_like_cudnn(q, k, v, 32) - expected).max()
    print(f"scores near {score}: plain product {error:.1e} off, corrected for 96 zero keys {cancelled:.1e}")
    assert error < 5e-6
    assert score > -16 or not cancelled < 1e-2


def test_few_keys_take_the_plain_product_on_every_back_end(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a fused kernel was asked")

    monkeypatch.setattr(kernels, "_KERNELS", dict.fromkeys(kernels._KERNELS, refuse))
    q, k, v = heads(1, 8, kernels.FEW_KEYS + 1)
    attention(q, k, v, Policy(), kernels.FEW_KEYS)
    with pytest.raises(AssertionError, match="a fused kernel"):
        attention(q, k, v, Policy(), kernels.FEW_KEYS + 1)


def test_many_keys_are_corrected_to_float32_accuracy():
    """At the fewest keys that are corrected, with scores as layer-normalised queries and keys give them."""
    keys = kernels.CORRECTED_KEYS + 1
    q, k, v = heads(1, 4, keys)
    error = np.abs(padded_like_cudnn(q, k, v, keys) - in_numpy(q, k, v)).max()
    print(f"{keys} keys beside {-keys % kernels.CUDNN_BLOCK} zero keys: max abs error {error:.1e}")
    assert error < 1e-6
