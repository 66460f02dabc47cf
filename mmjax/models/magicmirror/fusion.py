"""Fusion of the identity into the prompt: x_txt' = m MLP_fuse(x_id, m x_txt) + (1 - m) x_txt, eq. 5 (METHOD 2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from mmjax.nn.layers import ZEROS, Dense, LayerNorm
from mmjax.precision import Policy
from mmjax.sharding import whole_samples


class ResidualMLP(nn.Module):
    """LayerNorm, Dense, GELU, Dense; the last layer is zero at initialization, so the sum starts as `residual`."""

    width: int
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b t i"], residual: Float[Array, "b t e"]) -> Float[Array, "b t e"]:
        x = whole_samples(LayerNorm(axis="text", name="norm")(whole_samples(x)))
        x = nn.gelu(
            Dense(self.width, ("text", "mlp"), self.policy, name="in")(x).astype(jnp.float32), approximate=False
        )
        return whole_samples(
            residual + Dense(self.width, ("mlp", "text"), self.policy, kernel_init=ZEROS, name="out")(x)
        )


class Fusion(nn.Module):
    """x_txt' = m MLP_fuse(x_id, m x_txt) + (1 - m) x_txt, eq. 5; starts as the text itself."""

    policy: Policy

    @nn.compact
    def __call__(
        self, text: Float[Array, "b l e"], x_id: Float[Array, "b k w"], mask: Bool[Array, "b l"]
    ) -> Float[Array, "b l e"]:
        """Fuses the k identity tokens, in order, into the first k positions where `mask` is true."""
        width = text.shape[-1]
        positions = jnp.argsort(~mask, axis=-1, stable=True)[:, : x_id.shape[1]]
        words = whole_samples(jax.vmap(lambda text, at: text[at])(text, positions))
        chosen = jnp.take_along_axis(mask, positions, axis=1)[..., None]
        projected = whole_samples(Dense(width, ("face_width", "text"), self.policy, name="project")(x_id))
        fused = ResidualMLP(width, self.policy, name="mlp")(jnp.concatenate([words, projected], axis=-1), words)
        fused = ResidualMLP(width, self.policy, name="mlp_residual")(fused, fused)
        return jax.vmap(lambda text, at, new: text.at[at].set(new))(text, positions, jnp.where(chosen, fused, words))
