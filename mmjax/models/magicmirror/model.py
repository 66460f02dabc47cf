"""MagicMirror: the CogVideoX transformer, the face branch and the cross-modal adapter, composed (METHOD 2, 3).

Without identity (`Conditions.face` and `.identity` None) an adapted pair is a plain pair, so the base runs bit for bit
as if the adapter were not there.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mmjax import config as c
from mmjax.models.cogvideox.transformer import AdapterInputs, CogVideoXTransformer
from mmjax.models.magicmirror.adapter import AdaptedPair
from mmjax.models.magicmirror.face_branch import Conditions, FaceBranch
from mmjax.models.magicmirror.inputs import CONDITION_FIELDS
from mmjax.precision import Policy


class MagicMirror(nn.Module):
    """The trainable whole: `encode` turns a batch's features into `Conditions`, `denoise` predicts v from them."""

    model: c.Model
    policy: Policy
    runtime: c.Runtime = c.Runtime()

    def setup(self):
        transformer, adapter = self.model.transformer, self.model.adapter
        if adapter.enabled:
            self.face_encoder = FaceBranch(self.model, self.policy)
            self.transformer = CogVideoXTransformer(transformer, self.policy, self.runtime, AdaptedPair, adapter)
        else:
            self.transformer = CogVideoXTransformer(transformer, self.policy, self.runtime)

    def encode(self, batch: dict[str, Array]) -> Conditions:
        """Conditions of a batch with the fields of `mmjax.models.magicmirror.inputs`.

        `batch['keep_identity']`, [batch] booleans, drops the identity of samples where it is False;
        `batch['identity_scale']`, [batch], makes it weaker or stronger than it was trained.
        """
        if not self.model.adapter.enabled:
            return Conditions(batch["text"])
        keep = batch.get("keep_identity", jnp.ones(len(batch["text"]), bool))
        features = {name: batch[name] for name in CONDITION_FIELDS}
        return self.face_encoder(**features, keep=keep, scale=batch.get("identity_scale"))

    def denoise(
        self, latents: Float[Array, "b T H W C"], timesteps: Int[Array, " b"], conditions: Conditions
    ) -> Float[Array, "b T H W C"]:
        """The v-prediction, float32. Conditions without identity run the base alone."""
        adapter = AdapterInputs(conditions.identity, conditions.scale)
        return self.transformer(latents, timesteps, conditions.text, conditions.face, adapter)

    def __call__(
        self, batch: dict[str, Array], latents: Float[Array, "b T H W C"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b T H W C"]:
        """`denoise` under the batch's own conditions: the forward pass of training."""
        return self.denoise(latents, timesteps, self.encode(batch))
