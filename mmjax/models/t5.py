"""The T5 v1.1 encoder, which turns prompts into what the transformer reads (METHOD 1).

T5's own ways: attention scores are not scaled by the head's width; the position of a key relative to its query adds a
learned bias, one table for all blocks; norms have a scale and neither mean nor bias; the feed-forward layer is gated.
There is no mask, since CogVideoX reads its padding tokens and was trained to.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mmjax.models.sizes import T5
from mmjax.nn.layers import Dense, partitioned
from mmjax.precision import Policy
from mmjax.sharding import constrain


def relative_buckets(length: int, buckets: int, max_distance: int) -> Int[np.ndarray, "query key"]:
    """The bucket of each key seen from each query.

    Half of the buckets are for keys behind the query; of each half, one half are single distances and the other half
    grow like a logarithm up to `max_distance`, beyond which all distances share one. The logarithm is taken in float32,
    as where the weights were trained: distances that lie on a border keep their side.
    """
    place = np.arange(length)
    offset = place[None, :] - place[:, None]
    side = buckets // 2
    exact = side // 2
    distance = np.abs(offset)
    ratio = np.log(np.maximum(distance, exact).astype(np.float32) / np.float32(exact))
    coarse = exact + (ratio / np.float32(math.log(max_distance / exact)) * np.float32(side - exact)).astype(np.int64)
    return np.where(offset > 0, side, 0) + np.where(distance < exact, distance, np.minimum(coarse, side - 1))


class RMSNorm(nn.Module):
    """Scales each token to a root mean square of one, in float32; returns float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", partitioned(nn.initializers.ones_init(), "text"), (x.shape[-1],))
        x = x.astype(jnp.float32)
        normed = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.epsilon)
        return normed * scale.astype(jnp.float32)


class T5Attention(nn.Module):
    """softmax(q k^T + bias) v, heads before tokens; the softmax in float32."""

    record: T5
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], bias: Float[Array, "h l l"]) -> Float[Array, "b l d"]:
        r = self.record
        q, k, v = (self._heads(self._dense(name)(x)) for name in ("query", "key", "value"))
        scores = jnp.einsum("bhqk,bhmk->bhqm", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores + bias, axis=-1).astype(self.policy.dtype)
        out = jnp.swapaxes(jnp.einsum("bhqm,bhmk->bhqk", weights, v), 1, 2)
        out = out.reshape(*x.shape[:2], r.heads * r.head_dim)
        return Dense(r.width, ("heads", "text"), self.policy, False, name="out")(out)

    def _dense(self, name):
        return Dense(self.record.heads * self.record.head_dim, ("text", "heads"), self.policy, False, name=name)

    def _heads(self, x):
        x = x.reshape(*x.shape[:2], self.record.heads, self.record.head_dim)
        return constrain(jnp.swapaxes(x, 1, 2), "batch", "act_heads", None, None)


class GatedFeedForward(nn.Module):
    """`out(gelu(gate(x)) * in(x))`, with the tanh form of GELU, no biases."""

    record: T5
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        r = self.record
        gate = Dense(r.hidden, ("text", "mlp"), self.policy, False, name="gate")(x).astype(jnp.float32)
        x = nn.gelu(gate, approximate=True) * Dense(r.hidden, ("text", "mlp"), self.policy, False, name="in")(x)
        return Dense(r.width, ("mlp", "text"), self.policy, False, name="out")(x)


class T5Block(nn.Module):
    """Attention, then the feed-forward layer; the body of the scan. The residual stream is float32.

    For a prompt that costs nothing, and it halves the error of bfloat16 products: after 12 small random blocks 0.7 % of
    the output, where transformers in bfloat16 has 1.3 %.
    """

    record: T5
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], bias: Float[Array, "h l l"]):
        eps = self.record.norm_eps
        x = x + T5Attention(self.record, self.policy, name="attn")(RMSNorm(eps, name="norm_attn")(x), bias)
        x = x + GatedFeedForward(self.record, self.policy, name="ffn")(RMSNorm(eps, name="norm_ffn")(x))
        return constrain(x, "batch", None, None), None


class T5Encoder(nn.Module):
    """Token ids, padded, to embeddings in float32. Matrix products run as the policy says."""

    record: T5
    policy: Policy

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"]) -> Float[Array, "b l d"]:
        r, normal = self.record, nn.initializers.normal
        table = self.param("embed", partitioned(normal(1.0), "vocabulary", "text"), (r.vocabulary, r.width))
        biases = self.param("relative_bias", partitioned(normal(0.1), "small", "heads"), (r.buckets, r.heads))
        bias = biases.astype(jnp.float32)[relative_buckets(tokens.shape[1], r.buckets, r.max_distance)]
        blocks = nn.scan(
            T5Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=r.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = blocks(r, self.policy, name="blocks")(table[tokens].astype(jnp.float32), bias.transpose(2, 0, 1))
        return RMSNorm(r.norm_eps, name="norm_out")(x)
