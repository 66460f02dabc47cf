"""The perceiver resampler that both face perceivers are made of (METHOD 2; PhotoMaker V2's and IP-Adapter's shape).

Latent queries read picture features: in each block, keys and values come from [features ; latents], projections carry
no bias, the softmax runs in float32, and a feed-forward layer follows.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mmjax.nn.attention import attention
from mmjax.nn.layers import Dense, FeedForward, LayerNorm
from mmjax.precision import Policy
from mmjax.sharding import constrain, whole_samples


class PerceiverAttention(nn.Module):
    """Cross-attention of latents to [features ; latents], both normalised first."""

    width: int
    head_dim: int
    policy: Policy

    @nn.compact
    def __call__(self, latents: Float[Array, "b q w"], features: Float[Array, "b n w"]) -> Float[Array, "b q w"]:
        features, latents = self._normed("norm_features", features), self._normed("norm_latents", latents)
        both = whole_samples(jnp.concatenate([features, latents], axis=1))
        q = self._heads(self._dense("query", 1)(latents))
        k, v = (self._heads(x) for x in jnp.split(self._dense("key_value", 2)(both), 2, axis=-1))
        out = attention(q, k, v, self.policy.on_xla).reshape(latents.shape)
        return Dense(self.width, ("face_heads", "face_width"), self.policy, use_bias=False, name="out")(out)

    def _normed(self, name, x):
        return whole_samples(LayerNorm(axis="face_width", name=name)(whole_samples(x)).astype(self.policy.dtype))

    def _dense(self, name, parts):
        return Dense(parts * self.width, ("face_width", "face_heads"), self.policy, use_bias=False, name=name)

    def _heads(self, x):
        x = x.reshape(*x.shape[:2], self.width // self.head_dim, self.head_dim)
        return constrain(x, "batch", None, "act_heads", None)


class Resampler(nn.Module):
    """`depth` blocks of perceiver attention and feed-forward, then Dense and LayerNorm; width in, width out."""

    width: int
    depth: int
    head_dim: int
    policy: Policy

    @nn.compact
    def __call__(self, latents: Float[Array, "b q w"], features: Float[Array, "b n c"]) -> Float[Array, "b q w"]:
        features = whole_samples(Dense(self.width, ("embed", "face_width"), self.policy, name="in")(features))
        latents = whole_samples(latents.astype(self.policy.dtype))
        for i in range(self.depth):
            attend = PerceiverAttention(self.width, self.head_dim, self.policy, name=f"attn_{i}")
            latents = whole_samples(latents + attend(latents, features))
            normed = whole_samples(LayerNorm(axis="face_width", name=f"norm_ffn_{i}")(latents))
            added = FeedForward(
                4 * self.width,
                self.width,
                ("face_width", "mlp"),
                self.policy,
                use_bias=False,
                tanh=False,
                name=f"ffn_{i}",
            )(normed)
            latents = whole_samples(latents + added)
        latents = whole_samples(Dense(self.width, ("face_width", "embed"), self.policy, name="out")(latents))
        return whole_samples(LayerNorm(axis="face_width", name="norm_out")(latents).astype(self.policy.dtype))
