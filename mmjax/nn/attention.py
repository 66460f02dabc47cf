"""Softmax attention behind one function; the back-end is chosen by platform.

`xla` writes out the score matrix and runs anywhere; `cudnn` is the fused kernel of NVIDIA GPUs (bfloat16 only);
`splash` is the fused Pallas kernel of TPUs, which CPUs run in interpret mode for the tests. All of them take the
softmax in float32 and see no mask: CogVideoX attends to its padding tokens.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention
from jaxtyping import Array, Float

from mmjax import partition
from mmjax.errors import ConfigError

SPLASH_BLOCK = 512  # tokens of a tile; sequences are padded to a multiple of it


def attention(
    q: Float[Array, "b n h k"],
    k: Float[Array, "b m h k"],
    v: Float[Array, "b m h k"],
    backend: str = "auto",
) -> Float[Array, "b n h k"]:
    """softmax(q k^T / sqrt(head_dim)) v, over all m keys.

    Raises `ConfigError` when the back-end cannot run here or with this dtype.
    """
    backend = resolve_backend(backend, q.dtype)
    return partition.per_shard_attention(_KERNELS[backend], q, k, v)


def resolve_backend(backend: str, dtype: jnp.dtype) -> str:
    """The back-end that `auto` stands for on this platform; checks one that is named."""
    platform = jax.default_backend()
    half = jnp.dtype(dtype) == jnp.bfloat16
    if backend == "auto":
        return {"gpu": "cudnn" if half else "xla", "tpu": "splash"}.get(platform, "xla")
    if backend == "cudnn" and (platform != "gpu" or not half):
        raise ConfigError(
            f"model.transformer.attention = cudnn: expected a GPU and bfloat16, found {platform} and "
            f"{jnp.dtype(dtype)}; use auto"
        )
    return backend


def _xla(q, k, v):
    """Heads before tokens, so that each product is a plain matrix product: on CPUs 2 to 3 times as fast as einsums over
    [b, n, h, k], of which `jax.nn.dot_product_attention` is made.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    scores = jnp.einsum("bhnk,bhmk->bhnm", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.swapaxes(jnp.einsum("bhnm,bhmk->bhnk", weights, v), 1, 2)


def _cudnn(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def _splash(q, k, v):
    """Pads to whole tiles, keeps the padding out of the softmax with segment ids, maps over the batch."""
    queries, keys, heads = q.shape[1], k.shape[1], q.shape[2]
    block = min(SPLASH_BLOCK, -(-max(queries, keys) // 128) * 128)
    q, k, v = (jnp.moveaxis(_pad(x, block), 2, 1) for x in (q * q.shape[-1] ** -0.5, k, v))
    mask = splash_attention.MultiHeadMask([splash_attention.FullMask((q.shape[2], k.shape[2]))] * heads)
    kernel = splash_attention.make_splash_mha(
        mask,
        head_shards=1,
        q_seq_shards=1,
        block_sizes=_splash_blocks(block),
        interpret=jax.default_backend() != "tpu",
    )
    segments = splash_attention.SegmentIds(
        q=(jnp.arange(q.shape[2]) >= queries).astype(jnp.int32), kv=(jnp.arange(k.shape[2]) >= keys).astype(jnp.int32)
    )
    out = jax.vmap(functools.partial(kernel, segment_ids=segments))(q, k, v)
    return jnp.moveaxis(out, 1, 2)[:, :queries]


def _splash_blocks(block: int):
    names = "block_q block_kv block_kv_compute block_q_dkv block_kv_dkv block_kv_dkv_compute block_q_dq block_kv_dq"
    return splash_attention.BlockSizes(**{name: block for name in names.split()})


def _pad(x, block):
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, 0), (0, 0)))


_KERNELS = {"xla": _xla, "cudnn": _cudnn, "splash": _splash}
