"""CLIP's text tower, and both towers together: how well a picture and a sentence go together (evaluation).

A text is read out at its end token, which has seen all the others; a picture at its class token. Both are projected
into one space, where only their direction counts.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mmjax.models.clip import CLIPBlock, CLIPVisionTower
from mmjax.models.sizes import CLIP, CLIPText
from mmjax.nn.layers import Dense, LayerNorm, partitioned
from mmjax.precision import Policy


class CLIPTextTower(nn.Module):
    """Tokens to the normed state of the first end token of each text; what stands behind it has no influence."""

    record: CLIPText
    policy: Policy

    @nn.compact
    def __call__(self, tokens: Int[Array, "n l"]) -> Float[Array, "n d"]:
        r, normal = self.record, nn.initializers.normal
        table = self.param("embed", partitioned(normal(0.02), "vocabulary", "embed"), (r.vocabulary, r.width))
        places = self.param("positions", partitioned(normal(0.01), "small", "embed"), (r.length, r.width))
        x = (table[tokens] + places[: tokens.shape[1]]).astype(self.policy.dtype)
        blocks = nn.scan(
            CLIPBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=r.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        (last, _), _ = blocks(r, self.policy, causal=True, name="blocks")((x, x), None)
        end = jnp.argmax(tokens == r.end_token, axis=1)
        return LayerNorm(r.norm_eps, name="norm_out")(last[jnp.arange(len(last)), end])


class ContrastiveCLIP(nn.Module):
    """Pictures and texts to directions in one space: float32 rows of length one, whose products are cosines."""

    record: CLIP
    policy: Policy

    def setup(self):
        r = self.record
        self.vision = CLIPVisionTower(r.vision, self.policy)
        self.text = CLIPTextTower(r.text, self.policy)
        self.vision_norm_out = LayerNorm(r.vision.norm_eps)
        self.vision_projection = Dense(r.projection, ("embed", "small"), self.policy, False)
        self.text_projection = Dense(r.projection, ("embed", "small"), self.policy, False)
        self.logit_scale = self.param("logit_scale", partitioned(nn.initializers.zeros_init(), "small"), (1,))

    def __call__(self, pixels: Float[Array, "n side side 3"], tokens: Int[Array, "m l"]) -> Float[Array, "n m"]:
        """Logits of pictures against texts: cosines times the learned scale."""
        return self.pictures(pixels) @ self.texts(tokens).T * self.scale()

    def pictures(self, pixels: Float[Array, "n side side 3"]) -> Float[Array, "n p"]:
        """Of pixels as `mmjax.models.clip.normalize_pictures` gives them."""
        last, _ = self.vision(pixels)
        return _unit(self.vision_projection(self.vision_norm_out(last[:, 0])))

    def texts(self, tokens: Int[Array, "m l"]) -> Float[Array, "m p"]:
        """Of token ids with an end token in each row."""
        return _unit(self.text_projection(self.text(tokens)))

    def scale(self) -> Float[Array, ""]:
        """What cosines are multiplied by before the softmax of training: 100 for published weights."""
        return jnp.exp(self.logit_scale.astype(jnp.float32))[0]


def _unit(x: Float[Array, "n p"]) -> Float[Array, "n p"]:
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
