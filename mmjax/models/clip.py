"""The CLIP vision tower and the pictures that it takes (METHOD 2).

Both of its outputs are hidden states, patches and class token, before any closing norm: the ID perceiver was trained on
the last one, the face perceiver reads the one before it, which knows less of CLIP's own task and more of the picture.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8
from PIL import Image

from mmjax.models.sizes import CLIPText, CLIPVision
from mmjax.nn.attention import attention
from mmjax.nn.layers import Dense, LayerNorm, partitioned
from mmjax.precision import Policy
from mmjax.sharding import constrain

CHANNELS = 3
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that CLIP was trained on, red, green, blue, 0..1
STD = (0.26862954, 0.26130258, 0.27577711)


def crop_picture(picture: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The picture's middle square, its shorter side resized to `side` pixels first (bicubic), as PhotoMaker does."""
    image = Image.fromarray(picture)
    short = min(image.size)
    width, height = (int(each * side / short) for each in image.size)
    resized = image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def normalize_pictures(pictures: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Pixels as CLIP takes them: scaled to 0..1, then each colour to mean 0 and deviation 1; float32."""
    pixels = jnp.asarray(pictures).astype(jnp.float32) / 255
    return (pixels - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)


def patchify(pixels: Float[Array, "n h w c"], patch: int) -> Float[Array, "n t p"]:
    """One row of values for each patch, row by row; a row's values run over channel, height, width."""
    n, height, width, channels = pixels.shape
    x = pixels.reshape(n, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, -1, channels * patch * patch)


def _activation(name: str, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    return x * jax.nn.sigmoid(1.702 * x) if name == "quick_gelu" else nn.gelu(x, approximate=False)


class CLIPBlock(nn.Module):
    """Attention, then feed-forward, each after a LayerNorm. The carry of the scan is (this state, the one before).

    causal: whether a token sees those before it alone, as in the text tower.
    """

    record: CLIPVision | CLIPText
    policy: Policy
    causal: bool = False

    @nn.compact
    def __call__(self, states: tuple[Float[Array, "n t d"], Float[Array, "n t d"]], _):
        x, eps = states[0], self.record.norm_eps
        attended = self._attend(LayerNorm(eps, name="norm_attn")(x))
        y = x + attended
        hidden = self._dense(self.record.hidden, "in", ("embed", "mlp"))(LayerNorm(eps, name="norm_ffn")(y))
        hidden = _activation(self.record.activation, hidden.astype(jnp.float32))
        y = y + self._dense(self.record.width, "out", ("mlp", "embed"))(hidden)
        return (constrain(y, "batch", None, None), x), None

    def _attend(self, x):
        width, heads = self.record.width, self.record.heads
        q, k, v = (
            self._dense(width, name, ("embed", "heads"))(x).reshape(*x.shape[:2], heads, width // heads)
            for name in ("query", "key", "value")
        )
        attended = _causal(q, k, v, self.policy) if self.causal else attention(q, k, v, self.policy.on_xla)
        attended = attended.reshape(x.shape)
        return self._dense(width, "attn_out", ("heads", "embed"))(attended)

    def _dense(self, features, name, axes):
        return Dense(features, axes, self.policy, name=name)


def _causal(
    q: Float[Array, "n t h k"], k: Float[Array, "n t h k"], v: Float[Array, "n t h k"], policy: Policy
) -> Float[Array, "n t h k"]:
    """Attention of each token over itself and those before it; the softmax in float32."""
    scores = jnp.einsum("nqhk,nmhk->nhqm", q, k, precision=policy.product, preferred_element_type=jnp.float32)
    seen = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))
    weights = jax.nn.softmax(jnp.where(seen, scores * q.shape[-1] ** -0.5, -jnp.inf), axis=-1).astype(v.dtype)
    return jnp.einsum("nhqm,nmhk->nqhk", weights, v, precision=policy.product)


class CLIPVisionTower(nn.Module):
    """Normalized pixels to the last and the last but one hidden state; the class token stands first."""

    record: CLIPVision
    policy: Policy

    @nn.compact
    def __call__(
        self, pixels: Float[Array, "n side side 3"]
    ) -> tuple[Float[Array, "n tokens d"], Float[Array, "n tokens d"]]:
        r, normal = self.record, nn.initializers.normal
        patches = Dense(r.width, ("patch", "embed"), self.policy, False, name="patch_embed")(patchify(pixels, r.patch))
        first = self.param("class_token", partitioned(normal(r.width**-0.5), "embed"), (r.width,))
        places = self.param("positions", partitioned(normal(0.02), "small", "embed"), (r.tokens, r.width))
        first = jnp.broadcast_to(first.astype(self.policy.dtype), (len(pixels), 1, r.width))
        x = jnp.concatenate([first, patches], axis=1) + places.astype(self.policy.dtype)
        x = LayerNorm(r.norm_eps, name="norm_in")(x).astype(self.policy.dtype)
        blocks = nn.scan(
            CLIPBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=r.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        (last, penultimate), _ = blocks(r, self.policy, name="blocks")((x, x), None)
        return last, penultimate
