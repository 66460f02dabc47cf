"""The face branch: from reference pictures' features to identity tokens, face tokens and a fused text (METHOD 2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float

from mmjax import config as c
from mmjax.models.magicmirror.fusion import Fusion
from mmjax.nn.layers import Dense, LayerNorm, partitioned
from mmjax.nn.perceiver import Resampler
from mmjax.precision import Policy
from mmjax.sharding import whole_samples


@struct.dataclass
class Conditions:
    """What the denoiser is conditioned on, for a batch of samples.

    text: prompt embeddings, the class word's tokens fused with the identity (eq. 5).
    face: x_face, `queries` tokens for each reference picture; None without structural branch or identity.
    identity: x_id through CAN's global projection; None without CAN or identity.
    scale: of what the identity adds to text, factors and cross-attention [ours]; None is 1, as trained.
    """

    text: Float[Array, "b l e"]
    face: Float[Array, "b f d"] | None = None
    identity: Float[Array, "b c"] | None = None
    scale: Float[Array, " b"] | None = None


class IdPerceiver(nn.Module):
    """x_id = tau_id(q_id, f), eq. 3: PhotoMaker V2's identity encoder, tokens plus what they read in the picture."""

    adapter: c.Adapter
    policy: Policy

    @nn.compact
    def __call__(self, q_id: Float[Array, "b i"], features: Float[Array, "b n c"]) -> Float[Array, "b t w"]:
        a = self.adapter
        x = Dense(a.perceiver_width, ("embed", "face_width"), self.policy, name="token_in")(q_id)
        x = whole_samples(nn.gelu(x.astype(jnp.float32), approximate=False))
        x = Dense(a.id_tokens * a.perceiver_width, ("face_width", "face_heads"), self.policy, name="token_out")(x)
        tokens = whole_samples(whole_samples(x).reshape(-1, a.id_tokens, a.perceiver_width))
        tokens = whole_samples(LayerNorm(axis="face_width", name="token_norm")(tokens).astype(self.policy.dtype))
        resampler = Resampler(a.perceiver_width, a.perceiver_depth, a.perceiver_head_dim, self.policy, name="resampler")
        return tokens + resampler(tokens, features)


class FacePerceiver(nn.Module):
    """x_face = tau_face(q_face, f), eq. 4: learned queries through the same resampler, projected to the model width."""

    adapter: c.Adapter
    width: int
    policy: Policy

    @nn.compact
    def __call__(self, features: Float[Array, "b n c"]) -> Float[Array, "b q d"]:
        a = self.adapter
        init = partitioned(nn.initializers.normal(a.perceiver_width**-0.5), "small", "face_width")
        queries = self.param("queries", init, (a.queries, a.perceiver_width))
        latents = jnp.broadcast_to(queries, (features.shape[0], *queries.shape))
        resampler = Resampler(a.perceiver_width, a.perceiver_depth, a.perceiver_head_dim, self.policy, name="resampler")
        return whole_samples(
            Dense(self.width, ("face_width", "embed"), self.policy, name="out")(resampler(latents, features))
        )


class FaceBranch(nn.Module):
    """Reference pictures' features -> `Conditions`. Several pictures of one person stand along the token axis."""

    model: c.Model
    policy: Policy

    @nn.compact
    def __call__(
        self,
        text: Float[Array, "b l e"],
        class_mask: Bool[Array, "b l"],
        id_embedding: Float[Array, "b r i"],
        clip_last: Float[Array, "b r n c"],
        clip_penultimate: Float[Array, "b r n c"],
        keep: Bool[Array, " b"],
        scale: Float[Array, " b"] | None = None,
    ) -> Conditions:
        """`keep` is False for samples without identity: their tokens are zero and their text is untouched.

        `scale` is explained at `Conditions`.

        [ours] Zero tokens stay in the sequence, so one batch can hold both kinds. They are what conditioning dropout
        trains as "nobody", not the bare base; for that, give the denoiser `Conditions(text)`.
        """
        adapter, policy = self.model.adapter, self.policy
        batch, references = id_embedding.shape[:2]
        text, here = jnp.asarray(text, policy.dtype), jnp.asarray(keep)[:, None, None]
        face = identity = None
        if adapter.structural_branch:
            encoder = FacePerceiver(adapter, self.model.transformer.width, policy, name="face_perceiver")
            tokens = encoder(_merge(clip_penultimate))
            face = jnp.where(here, tokens.reshape(batch, references * adapter.queries, -1), 0)
        if adapter.identity_branch:
            x_id = IdPerceiver(adapter, policy, name="id_perceiver")(_merge(id_embedding), _merge(clip_last))
            x_id = jnp.where(here[..., None], x_id.reshape(batch, references, adapter.id_tokens, -1), 0)
            tokens = x_id.reshape(batch, references * adapter.id_tokens, -1)
            fused = Fusion(policy, name="fusion")(text, tokens, jnp.asarray(class_mask) & here[..., 0])
            text = fused if scale is None else text + scale[:, None, None].astype(policy.dtype) * (fused - text)
            if adapter.can:
                mean = x_id.mean(axis=1).reshape(batch, -1)  # [ours] several pictures: their mean conditions CAN
                project = Dense(adapter.can_condition_dim, ("face_width", "condition"), policy, name="can_project")
                identity = whole_samples(project(mean))
        return Conditions(text, face, identity, scale)


def _merge(x: Array) -> Array:
    """[batch, references, ...] -> [batch * references, ...]."""
    return jax.lax.collapse(x, 0, 2)
