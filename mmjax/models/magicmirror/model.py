"""MagicMirror: the CogVideoX transformer, the face branch and the cross-modal adapter, composed (METHOD 3).

Without identity (`Conditions.face` and `.identity` None) an adapted pair is a plain pair, so the base runs bit for bit
as if the adapter were not there.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mmjax import config as c
from mmjax.models.cogvideox.transformer import CogVideoXTransformer, DiTBlock, Layout, Pair, Rotary
from mmjax.models.magicmirror.can import CAN, FaceModulation
from mmjax.models.magicmirror.cross_attention import FaceCrossAttention
from mmjax.models.magicmirror.face_branch import Conditions, FaceEncoder
from mmjax.nn.modulation import BlockMods


class BlockAdapter(nn.Module):
    """What an adapted block adds to its base: modulation for faces, CAN's residuals, cross-attention to faces."""

    model: c.Model
    dtype: jnp.dtype

    def setup(self):
        adapter, transformer = self.model.adapter, self.model.transformer
        if adapter.structural_branch:
            self.cross = FaceCrossAttention(transformer, self.dtype)
            if adapter.face_modulation:
                self.face_modulation = FaceModulation(transformer.width, self.dtype)
        if adapter.can:
            self.can = CAN(self.model, self.dtype)

    def factors(
        self, text: BlockMods, video: BlockMods, time: Array, identity: Array | None, scale: Array | None
    ) -> tuple[BlockMods, BlockMods, BlockMods]:
        """(text, video, face) factors: m = m^ + phi(t, l) for text and video, phi_face(t, l) for faces."""
        if identity is not None:
            video_delta, text_delta = scaled(self.can(time, video.attn.shift, identity), scale)
            video, text = video + video_delta, text + text_delta
        has_own = self.model.adapter.structural_branch and self.model.adapter.face_modulation
        return text, video, self.face_modulation(time) if has_own else text


class AdaptedPair(Pair):
    """An adapted even block and a plain odd one, which face tokens pass by. `model` is the whole `config.Model`."""

    model: c.Model

    def setup(self):
        transformer = self.model.transformer
        self.even, self.odd = DiTBlock(transformer, self.dtype), DiTBlock(transformer, self.dtype)
        self.adapter = BlockAdapter(self.model, self.dtype)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        layout: Layout,
        time: Float[Array, "b e"],
        rotary: Rotary,
        identity: Float[Array, "b c"] | None,
        scale: Float[Array, "b"] | None,
    ):
        factors, cross = self.even.modulations(time), None
        if layout.face or identity is not None:
            factors = self.adapter.factors(*factors, time, identity, scale)[: 3 if layout.face else 2]
        if layout.face:

            def cross(q, normed):
                return scaled(self.adapter.cross(q, normed[:, layout.base :], self.even.attn.key_norm), scale)

        x = self.even(x, layout, factors, rotary, cross)
        return self.odd(x, layout, self.odd.modulations(time), rotary), None


class MagicMirror(nn.Module):
    """The trainable whole: `encode` turns a batch's features into `Conditions`, `denoise` predicts v from them."""

    model: c.Model
    precision: c.Precision

    def setup(self):
        transformer = self.model.transformer
        if self.model.adapter.enabled:
            self.face_encoder = FaceEncoder(self.model, self.precision)
            self.transformer = CogVideoXTransformer(transformer, self.precision, AdaptedPair, self.model)
        else:
            self.transformer = CogVideoXTransformer(transformer, self.precision)

    def encode(self, batch: dict[str, Array]) -> Conditions:
        """Conditions of a batch with the fields of `mmjax.records.schema`.

        `batch['keep_identity']`, [batch] booleans, withholds the identity of samples where it is False;
        `batch['identity_scale']`, [batch], makes it weaker or stronger than it was trained.
        """
        if not self.model.adapter.enabled:
            return Conditions(batch["text"])
        keep = batch.get("keep_identity", jnp.ones(len(batch["text"]), bool))
        names = ("text", "class_mask", "id_embedding", "clip_last", "clip_penultimate")
        return self.face_encoder(*(batch[name] for name in names), keep, batch.get("identity_scale"))

    def denoise(
        self, latents: Float[Array, "b T H W C"], timesteps: Int[Array, "b"], conditions: Conditions
    ) -> Float[Array, "b T H W C"]:
        """The v-prediction, float32. Conditions without identity run the base alone."""
        broadcast = (conditions.identity, conditions.scale) if self.model.adapter.enabled else ()
        return self.transformer(latents, timesteps, conditions.text, conditions.face, broadcast)

    def __call__(
        self, batch: dict[str, Array], latents: Float[Array, "b T H W C"], timesteps: Int[Array, "b"]
    ) -> Float[Array, "b T H W C"]:
        """`denoise` under the batch's own conditions: the forward pass of training."""
        return self.denoise(latents, timesteps, self.encode(batch))


def scaled(tree, scale: Float[Array, "b"] | None):
    """Arrays [b, ...] times each sample's scale; None is 1."""
    if scale is None:
        return tree
    return jax.tree.map(lambda x: x * scale.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype), tree)
