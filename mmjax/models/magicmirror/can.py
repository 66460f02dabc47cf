"""Conditioned adaptive normalization (eq. 7) and the face stream's own modulation (eq. 6)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mmjax import config as c
from mmjax.nn.layers import ZEROS, Dense
from mmjax.nn.modulation import BlockMods, mods, modulation_layer
from mmjax.precision import Policy


class CANResidual(NamedTuple):
    """What identity adds to a block's factors of text and of video."""

    text: BlockMods
    video: BlockMods


class CAN(nn.Module):
    """m^_vid, m^_txt = phi_cond(t, l, mu1_vid, x_id): what identity adds to a block's video and text factors.

    Dense, SiLU, Dense over [time embedding, the block's own attention shift for video, projected x_id]. The last layer
    starts at zero: predicting the factors themselves, rather than this residual, ruins the start (METHOD 3).
    """

    model: c.Transformer
    adapter: c.Adapter
    policy: Policy

    @nn.compact
    def __call__(
        self, time: Float[Array, "b e"], shift: Float[Array, "b d"], identity: Float[Array, "b c"]
    ) -> CANResidual:
        """m^ of eq. 7, from the time embedding, mu1_vid and the projected x_id."""
        width = self.model.width
        x = jnp.concatenate([part.astype(self.policy.dtype) for part in (time, shift, identity)], axis=-1)
        x = nn.silu(Dense(self.adapter.can_hidden, ("small", "condition"), self.policy, name="in")(x))
        x = Dense(12 * width, ("condition", "modulation"), self.policy, kernel_init=ZEROS, name="out")(x)
        video_attn, text_attn, video_ffn, text_ffn = mods(x, 4)
        return CANResidual(text=BlockMods(text_attn, text_ffn), video=BlockMods(video_attn, video_ffn))


class FaceModulation(nn.Module):
    """m_face = phi_face(t, l), eq. 6: shift, scale, gate for both halves of a block, zero at initialization."""

    width: int
    policy: Policy

    @nn.compact
    def __call__(self, time: Float[Array, "b e"]) -> BlockMods:
        time = nn.silu(time)
        (attn,) = mods(modulation_layer(self.width, 3, self.policy, name="attn")(time), 1)
        (ffn,) = mods(modulation_layer(self.width, 3, self.policy, name="ffn")(time), 1)
        return BlockMods(attn, ffn)
