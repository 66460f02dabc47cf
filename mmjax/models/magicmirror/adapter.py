"""The cross-modal adapter in its place (METHOD 3): a scanned pair whose even block is adapted.

Everything that the adapter adds to its base enters here: CAN's residuals and the faces' own factors, and the
cross-attention's hook. Without identity an adapted pair is a plain pair, bit for bit.
"""

import jax
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from mmjax import config as c
from mmjax.models.cogvideox.streams import Rotary, StreamMods, Streams
from mmjax.models.cogvideox.transformer import AdapterInputs, BlockPair, CrossAttention
from mmjax.models.magicmirror.can import CAN, FaceModulation
from mmjax.models.magicmirror.cross_attention import FaceCrossAttention
from mmjax.precision import Policy


class BlockAdapter(nn.Module):
    """What an adapted block adds to its base: modulation for faces, CAN's residuals, cross-attention to faces."""

    model: c.Transformer
    settings: c.Adapter
    policy: Policy

    def setup(self):
        if self.settings.structural_branch:
            self.cross = FaceCrossAttention(self.model, self.policy)
            if self.settings.face_modulation:
                self.face_modulation = FaceModulation(self.model.width, self.policy)
        if self.settings.can:
            self.can = CAN(self.model, self.settings, self.policy)

    def modulations(
        self, base: StreamMods, time: Float[Array, "b e"], inputs: AdapterInputs, with_faces: bool
    ) -> StreamMods:
        """m = m^ + phi(t, l) for text and video (eq. 7), phi_face(t, l) for faces (eq. 6)."""
        text, video = base.text, base.video
        if inputs.identity is not None:
            residual = self.can(time, video.attn.shift, inputs.identity)
            text, video = text + scaled(residual.text, inputs.scale), video + scaled(residual.video, inputs.scale)
        if not with_faces:
            return StreamMods(text, video)
        return StreamMods(text, video, self.face_modulation(time) if self.settings.face_modulation else text)


class AdaptedPair(BlockPair):
    """An adapted even block and a plain odd one, which face tokens pass by."""

    adapter_settings: c.Adapter

    def setup(self):
        super().setup()
        self.adapter = BlockAdapter(self.model, self.adapter_settings, self.policy)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        streams: Streams,
        time: Float[Array, "b e"],
        rotary: Rotary | None,
        adapter: AdapterInputs,
    ) -> tuple[Float[Array, "b n d"], None]:
        mods = self.adapter.modulations(self.even.modulations(time), time, adapter, with_faces=streams.face > 0)
        x = self.even(x, streams, mods, rotary, self._cross_attention(streams, adapter))
        return self.odd(x, streams, self.odd.modulations(time), rotary), None

    def _cross_attention(self, streams: Streams, adapter: AdapterInputs) -> CrossAttention | None:
        """T_CA of eq. 8 as the even block's hook; None without face tokens."""
        if not streams.face:
            return None

        def cross(q, normed):
            read = self.adapter.cross(q, streams.face_of(normed), self.even.attn.key_norm)
            return scaled(read, adapter.scale)

        return cross


def scaled(tree: PyTree[Float[Array, "b ..."]], scale: Float[Array, " b"] | None) -> PyTree[Float[Array, "b ..."]]:
    """Arrays [b, ...] times each sample's identity scale; None is 1."""
    if scale is None:
        return tree
    return jax.tree.map(lambda x: x * scale.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype), tree)
