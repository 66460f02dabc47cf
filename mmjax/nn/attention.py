"""Softmax attention behind one function; the back-end is chosen by the platform of the mesh in use.

`xla` writes out the score matrix and runs anywhere; `cudnn` is the fused kernel of NVIDIA GPUs (bfloat16 only);
`splash` is the fused Pallas kernel of TPUs, which CPUs run in interpret mode for the tests. All of them take the
softmax in float32. The only mask is how many keys count: CogVideoX attends to its text's padding tokens.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention
from jaxtyping import Array, Float

from mmjax import sharding
from mmjax.errors import ConfigError
from mmjax.precision import Policy

FEW_KEYS = 256  # up to which the score matrix is written out, whatever the back-end: the face cross-attention
SPLASH_BLOCK = 512  # tokens of a tile; sequences are padded to a multiple of it
CUDNN_BLOCK = 128  # keys
CORRECTED_KEYS = 32 * CUDNN_BLOCK  # from which zero keys are few beside the real ones; see `_without_zero_keys`


def attention(
    q: Float[Array, "b n h k"],
    k: Float[Array, "b m h k"],
    v: Float[Array, "b m h k"],
    policy: Policy,
    keys: int | None = None,
) -> Float[Array, "b n h k"]:
    """softmax(q k^T / sqrt(head_dim)) v, over the first `keys` of the m keys; by default over all.

    Raises `ConfigError` when the policy's back-end cannot run here or with this dtype.
    """
    kernel, keys = _KERNELS[resolve_backend(policy.attention, q.dtype)], keys or k.shape[1]
    if keys <= FEW_KEYS:
        kernel = _xla
    return sharding.per_shard_attention(functools.partial(kernel, keys=keys, product=policy.product), q, k, v)


def resolve_backend(backend: str, dtype: jnp.dtype) -> str:
    """The back-end that `auto` stands for on the mesh's platform; checks one that is named."""
    platform = sharding.platform()
    half = jnp.dtype(dtype) == jnp.bfloat16
    if backend == "auto":
        return {"gpu": "cudnn" if half else "xla", "tpu": "splash"}.get(platform, "xla")
    if backend == "cudnn" and (platform != "gpu" or not half):
        raise ConfigError(
            f"runtime.attention = cudnn: expected a GPU and bfloat16, found {platform} and {jnp.dtype(dtype)}; use auto"
        )
    return backend


def _xla(q, k, v, keys, product):
    """Heads before tokens, so that each product is a plain matrix product: on CPUs 2 to 3 times as fast as einsums over
    [b, n, h, k], of which `jax.nn.dot_product_attention` is made.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k[:, :keys], v[:, :keys]))
    product = functools.partial(jnp.einsum, precision=product)
    scores = product("bhnk,bhmk->bhnm", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.swapaxes(product("bhnm,bhmk->bhnk", weights, v), 1, 2)


def _cudnn(q, k, v, keys, product):
    """Keys in whole blocks: 16.7 ms instead of 18.7 for 17,776 tokens (H200, batch 2, 48 heads of 64, jax 0.11.2).

    The queries' number does not matter, but the kernel's gradient wants it even.
    """
    rest = ((0, 0), (0, -keys % CUDNN_BLOCK), (0, 0), (0, 0))
    k, v = (jnp.pad(x[:, :keys], rest) for x in jax.lax.optimization_barrier((k, v)))
    odd = jnp.pad(q, ((0, 0), (0, q.shape[1] % 2), (0, 0), (0, 0)))
    return _cudnn_counted(odd, k, v, keys)[:, : q.shape[1]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _cudnn_counted(q, k, v, keys):
    """Attention over keys of which those behind the first `keys` are zero and do not count.

    Many keys are corrected, without a mask's cost; for fewer the mask costs little.
    """
    if keys == k.shape[1]:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    if keys < CORRECTED_KEYS:
        return _cudnn_masked(keys)(q, k, v)
    out, log_z = jax.nn.dot_product_attention(q, k, v, implementation="cudnn", return_residual=True)
    return _without_zero_keys(out, log_z, k.shape[1] - keys)


def _without_zero_keys(
    out: Float[Array, "b n h k"], log_z: Float[Array, "b n h"], surplus: int
) -> Float[Array, "b n h k"]:
    """Attention over the real keys alone, from that over them and `surplus` zero keys with zero values.

    A zero key has a score of 0 and its zero value adds nothing: the sum of exponentials Z, whose logarithm the kernel
    returns, is too large by their number, and the output times Z / (Z - surplus) is the attention over the others.
    That cancels where the real keys' exponentials are few or small beside the zero keys' (32 keys with scores of -16
    beside 96 zeros: nothing is left in float32). Hence `CORRECTED_KEYS`, at least 32 times as many as zeros.
    """
    share = surplus * jnp.exp(-log_z.astype(jnp.float32))
    return (out.astype(jnp.float32) / (1 - share)[..., None]).astype(out.dtype)


def _cudnn_masked(keys: int) -> Callable[[Array, Array, Array], Array]:
    """The kernel with a mask over what stands behind the first `keys`."""

    def masked(q, k, v):
        lengths = jnp.full(q.shape[0], keys, jnp.int32) if keys < k.shape[1] else None
        return jax.nn.dot_product_attention(q, k, v, key_value_seq_lengths=lengths, implementation="cudnn")

    return masked


def _cudnn_forward(q, k, v, keys):
    """Differentiated, the kernel gets a mask: it has no gradient of log Z."""
    return jax.vjp(_cudnn_masked(keys), q, k, v)


_cudnn_counted.defvjp(_cudnn_forward, lambda keys, gradient, out: gradient(out))


def _splash(q, k, v, keys, product):
    """Pads to whole tiles, keeps what does not count out of the softmax with segment ids, maps over the batch."""
    queries, heads = q.shape[1], k.shape[2]
    block = min(SPLASH_BLOCK, -(-max(queries, k.shape[1]) // 128) * 128)
    q, k, v = (jnp.moveaxis(_pad(x, block), 2, 1) for x in (q * q.shape[-1] ** -0.5, k, v))
    mask = splash_attention.MultiHeadMask([splash_attention.FullMask((q.shape[2], k.shape[2]))] * heads)
    kernel = splash_attention.make_splash_mha(
        mask,
        head_shards=1,
        q_seq_shards=1,
        block_sizes=_splash_blocks(block),
        interpret=sharding.platform() != "tpu",
    )
    segments = splash_attention.SegmentIds(
        q=jnp.zeros(q.shape[2], jnp.int32), kv=(jnp.arange(k.shape[2]) >= keys).astype(jnp.int32)
    )
    out = jax.vmap(functools.partial(kernel, segment_ids=segments))(q, k, v)
    return jnp.moveaxis(out, 1, 2)[:, :queries]


def _splash_blocks(block: int):
    names = "block_q block_kv block_kv_compute block_q_dkv block_kv_dkv block_kv_dkv_compute block_q_dq block_kv_dq"
    return splash_attention.BlockSizes(**{name: block for name in names.split()})


def _pad(x, block):
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, 0), (0, 0)))


_KERNELS = {"xla": _xla, "cudnn": _cudnn, "splash": _splash}
