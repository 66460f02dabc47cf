"""Decoupled cross-attention to the face tokens, T_CA of eq. 8."""

from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from mmjax import config as c
from mmjax.nn.attention import attention
from mmjax.nn.layers import ZEROS, Dense
from mmjax.precision import Policy
from mmjax.sharding import whole_samples


class FaceCrossAttention(nn.Module):
    """T_CA(Wq x, Wkv^ x_face): the block's queries read the face tokens through new key and value projections.

    Queries come normalised and rotated from the joint attention; the result is added before the block's output
    projection. Keys pass the block's own per-head norm, so that scores have the joint attention's scale [ours]. The
    value projection starts at zero, and with it the whole term.
    """

    model: c.Transformer
    policy: Policy

    def setup(self):
        width = self.model.width
        self.key = Dense(width, ("embed", "heads"), self.policy)
        self.value = Dense(width, ("embed", "heads"), self.policy, kernel_init=ZEROS)

    def __call__(
        self, q: Float[Array, "b n h k"], face: Float[Array, "b f d"], key_norm: Callable[[Array], Array]
    ) -> Float[Array, "b n h k"]:
        face = whole_samples(face)
        heads = (*face.shape[:2], self.model.heads, self.model.head_dim)
        k = key_norm(self.key(face).reshape(heads)).astype(self.policy.dtype)
        return attention(q, k, self.value(face).reshape(heads), self.policy)
