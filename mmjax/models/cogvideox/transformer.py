"""The CogVideoX diffusion transformer (METHOD 1) in three variants: 2B, 5B and 1.5-5B.

Blocks are scanned in pairs, so compile time does not grow with depth and the adapter of the even blocks (it
enters at documented hooks only) has its place without an `if` inside. All tokens stand in one sequence; `Layout` knows
which are text, video and face.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_policies
from jaxtyping import Array, Float, Int

from mmjax import config as c
from mmjax.models.cogvideox import positions
from mmjax.nn.attention import attention
from mmjax.nn.layers import Dense, FeedForward, LayerNorm
from mmjax.nn.modulation import BlockMods, Mod, gated, mods, modulate, modulation_layer
from mmjax.partition import constrain, fetch
from mmjax.precision import compute_dtype

NORM_EPS = 1e-5
QK_NORM_EPS = 1e-6
REMAT = {"full": checkpoint_policies.nothing_saveable, "dots": checkpoint_policies.dots_with_no_batch_dims_saveable}

Rotary = tuple[Float[Array, "n k"], Float[Array, "n k"]] | None


def token_grid(model: c.Transformer, latents_shape: Sequence[int]) -> tuple[int, int, int]:
    """(t, h, w) tokens of latents [..., T, H, W, C]. Raises `ValueError` when the patch does not divide them."""
    frames, height, width = latents_shape[-4:-1]
    if frames % model.patch_t or height % model.patch or width % model.patch:
        raise ValueError(
            f"latents of {frames} x {height} x {width}: expected multiples of the patch {model.patch_t} x "
            f"{model.patch} x {model.patch}; pad the frames and choose a size on the grid"
        )
    return frames // model.patch_t, height // model.patch, width // model.patch


def patchify(latents: Float[Array, "b T H W C"], model: c.Transformer) -> Float[Array, "b v p"]:
    """Latents as one row of values for each patch; a row's values run over channel, time, height, width."""
    t, h, w = token_grid(model, latents.shape)
    p, pt = model.patch, model.patch_t
    x = latents.reshape(latents.shape[0], t, pt, h, p, w, p, latents.shape[-1])
    return x.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(latents.shape[0], t * h * w, -1)


def unpatchify(
    rows: Float[Array, "b v p"], grid: tuple[int, int, int], model: c.Transformer
) -> Float[Array, "b T H W C"]:
    """The inverse of `patchify`."""
    (t, h, w), p, pt = grid, model.patch, model.patch_t
    x = rows.reshape(rows.shape[0], t, h, w, -1, pt, p, p).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(rows.shape[0], t * pt, h * p, w * p, -1)


def pad_frames(x: Float[Array, "b T *dims"], model: c.Transformer) -> Float[Array, "b T2 *dims"]:
    """Repeats the first latent frame in front until the temporal patch divides the frames (1.5; others: x itself).

    Sampling denoises as many frames more, and cuts them off in front.
    """
    return jnp.concatenate([*[x[:, :1]] * (-x.shape[1] % model.patch_t), x], axis=1)


def sinusoid(timesteps: Int[Array, "b"], width: int) -> Float[Array, "b d"]:
    """Sinusoidal embedding of diffusion timesteps, cosines first, in float32.

    The frequencies are constants, rounded once from float64: the last-digit error of a float32 `exp` turns timestep 931
    by 1e-4. Their exponents are rounded to float32 first, as where the weights were trained.
    """
    half = width // 2
    exponents = np.float32(-np.log(10_000.0)) * np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Timestep -> sinusoid (d wide) -> Dense -> SiLU -> Dense (time_dim), all in float32."""

    width: int
    time_dim: int

    @nn.compact
    def __call__(self, timesteps: Int[Array, "b"]) -> Float[Array, "b e"]:
        x = sinusoid(timesteps, self.width)
        x = Dense(self.time_dim, ("embed", "condition"), jnp.float32, name="in")(x)
        return Dense(self.time_dim, ("condition", "condition"), jnp.float32, name="out")(nn.silu(x))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the streams stand in the one sequence: `text` tokens, `video`, `face`.

    Faces come last, so the keys of a block are always the first tokens: text and video in a plain block, faces as well
    in an adapted one. Faces that a block leaves out have gates of zero there and pass through unchanged.
    """

    text: int
    video: int
    face: int = 0

    @property
    def base(self) -> int:
        """Tokens of text and video: all that a plain block attends to."""
        return self.text + self.video

    @property
    def total(self) -> int:
        return self.base + self.face

    def join(self, text: Array, video: Array, face: Array | None) -> Float[Array, "b n d"]:
        """The sequence of the streams."""
        return jnp.concatenate([text, video] if face is None else [text, video, face], axis=1)

    def rotary(self, cos: np.ndarray, sin: np.ndarray) -> Rotary:
        """The video tokens' table for the whole sequence: what carries no position turns by nothing."""
        around = ((self.text, self.face), (0, 0))
        return np.pad(cos, around, constant_values=1), np.pad(sin, around)

    def spread(self, *factors: Mod) -> Mod:
        """Factors [b, n, d] of every token from those of text, video and, if they take part, faces; else zero."""
        zero = jnp.zeros_like(factors[0].shift)
        fields = zip(*factors, strict=True)
        return Mod(*(_spread(jnp.stack([*each, zero][:3], axis=1), self) for each in fields))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _spread(values: Float[Array, "b 3 d"], layout: Layout) -> Float[Array, "b n d"]:
    """Each token's own of the three values: one load a token, where a chain of selects makes three."""
    return values[:, np.repeat(np.arange(3), (layout.text, layout.video, layout.face))]


def _summed(layout: Layout, _, gradient: Float[Array, "b n d"]) -> tuple[Float[Array, "b 3 d"]]:
    parts = jnp.split(gradient, (layout.text, layout.base), axis=1)
    return (jnp.stack([part.sum(1) for part in parts], axis=1),)


_spread.defvjp(lambda values, layout: (_spread(values, layout), None), _summed)


class Attention(nn.Module):
    """Joint self-attention over the first `keys` tokens, with a LayerNorm of each head's queries and keys.

    `cross(q)` is the adapter's hook (eq. 8): it sees the normalised, rotated queries, and what it returns is added
    before the output projection.
    """

    model: c.Transformer
    dtype: jnp.dtype

    def setup(self):
        width = self.model.width
        self.query, self.key, self.value = (Dense(width, ("embed", "heads"), self.dtype) for _ in range(3))
        self.out = Dense(width, ("heads", "embed"), self.dtype)
        self.query_norm, self.key_norm = (LayerNorm(QK_NORM_EPS, axis="small") for _ in range(2))

    def __call__(
        self, x: Float[Array, "b n d"], keys: int, rotary: Rotary, cross: Callable[[Array], Array] | None = None
    ) -> Float[Array, "b n d"]:
        q = self._rotated(self.query_norm(self._heads(self.query(x))), rotary)
        k = self._rotated(self.key_norm(self._heads(self.key(x))), rotary)
        v = self._heads(self.value(x))
        q = constrain(q, "batch", "tokens", "act_heads", None)
        attended = attention(q, k, v, self.model.attention, keys)
        if cross is not None:
            attended = attended + cross(q)
        return self.out(attended.reshape(x.shape))

    def _heads(self, x: Float[Array, "b n d"]) -> Float[Array, "b n h k"]:
        return x.reshape(*x.shape[:2], self.model.heads, self.model.head_dim)

    def _rotated(self, x: Float[Array, "b n h k"], rotary: Rotary) -> Float[Array, "b n h k"]:
        """Turned in float32, but rounded to the compute dtype before, as where the weights were trained.

        The barrier makes two fast kernels, norm and rotation, of a slow one.
        """
        x = jax.lax.optimization_barrier(x.astype(self.dtype))
        return x if rotary is None else positions.rotate(x, *rotary)


class DiTBlock(nn.Module):
    """One expert-AdaLN block: joint attention, then a feed-forward layer, both modulated for each stream."""

    model: c.Transformer
    dtype: jnp.dtype

    def setup(self):
        width = self.model.width
        self.modulation_attn = modulation_layer(width, 6, self.dtype)
        self.modulation_ffn = modulation_layer(width, 6, self.dtype)
        self.norm_attn, self.norm_ffn = LayerNorm(NORM_EPS, apart=True), LayerNorm(NORM_EPS, apart=True)
        self.attn = Attention(self.model, self.dtype)
        self.ffn = FeedForward(4 * width, width, ("embed", "mlp"), self.dtype)

    def modulations(self, time: Float[Array, "b e"]) -> tuple[BlockMods, BlockMods]:
        """phi_txt(t, l) and phi_vid(t, l): the block's own factors for text and for video."""
        time = nn.silu(time)
        video_attn, text_attn = mods(self.modulation_attn(time), 2)
        video_ffn, text_ffn = mods(self.modulation_ffn(time), 2)
        return BlockMods(text_attn, text_ffn), BlockMods(video_attn, video_ffn)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        layout: Layout,
        factors: Sequence[BlockMods],
        rotary: Rotary,
        cross: Callable[[Float[Array, "b n h k"], Float[Array, "b n d"]], Array] | None = None,
    ) -> Float[Array, "b n d"]:
        """The sequence after the block.

        `factors` are those of text and video, and of faces where they take part. `cross(q, normed x)` is the adapter's
        cross-attention, if any.
        """
        keys = layout.base + (layout.face if len(factors) > 2 else 0)
        mod = layout.spread(*(each.attn for each in factors))
        normed = modulate(self.norm_attn(x), mod, self.dtype)
        out = self.attn(normed, keys, rotary, None if cross is None else lambda q: cross(q, normed))
        x = constrain(gated(x, out, mod), "batch", "tokens", None)
        mod = layout.spread(*(each.ffn for each in factors))
        out = self.ffn(modulate(self.norm_ffn(x), mod, self.dtype))
        return constrain(gated(x, out, mod), "batch", "tokens", None)


class Pair(nn.Module):
    """An even block and the odd one after it: the body of the scan."""

    model: c.Transformer
    dtype: jnp.dtype

    def setup(self):
        self.even, self.odd = DiTBlock(self.model, self.dtype), DiTBlock(self.model, self.dtype)

    def __call__(self, x: Float[Array, "b n d"], layout: Layout, time: Float[Array, "b e"], rotary: Rotary):
        x = self.even(x, layout, self.even.modulations(time), rotary)
        return self.odd(x, layout, self.odd.modulations(time), rotary), None


class CogVideoXTransformer(nn.Module):
    """Latents, timesteps and text embeddings to a v-prediction.

    `pair` is the class of the scanned body, made as `pair(pair_model, dtype)` and called as `pair(x, layout, time,
    rotary, *broadcast)`; MagicMirror puts its adapted pair here.
    """

    model: c.Transformer
    precision: c.Precision
    pair: type[nn.Module] = Pair
    pair_model: Any = None  # `model` where it is None

    def setup(self):
        model, dtype = self.model, compute_dtype(self.precision)
        self.patch_embed = Dense(model.width, ("patch", "embed"), dtype)
        self.text_embed = Dense(model.width, ("text", "embed"), dtype)
        self.time_embed = TimeEmbedding(model.width, model.time_dim)
        self.blocks = self._scanned()(self.pair_model or model, dtype)
        self.norm_final, self.norm_out = LayerNorm(NORM_EPS), LayerNorm(NORM_EPS)
        self.modulation_out = modulation_layer(model.width, 2, dtype)
        self.proj_out = Dense(model.latent_channels * model.patch_t * model.patch**2, ("embed", "patch"), dtype)

    def _scanned(self):
        body = self.pair
        if self.model.stream:
            body = nn.map_variables(body, "params", trans_in_fn=fetch, init=self.is_initializing(), mutable=True)
        elif self.model.remat != "none":
            body = nn.remat(body, policy=REMAT[self.model.remat], prevent_cse=False)
        return nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.model.layers // 2,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )

    def __call__(
        self,
        latents: Float[Array, "b T H W C"],
        timesteps: Int[Array, "b"],
        text: Float[Array, "b l e"],
        face: Float[Array, "b f d"] | None = None,
        broadcast: tuple[Any, ...] = (),
    ) -> Float[Array, "b T H W C"]:
        """The v-prediction, float32, in the latents' shape. Raises `ValueError` for latents off the patch grid."""
        grid, dtype = token_grid(self.model, latents.shape), compute_dtype(self.precision)
        video = self.patch_embed(patchify(latents, self.model))
        if self.model.position == "sincos":
            video = (video + positions.sincos_table(self.model, grid)).astype(dtype)
            rotary = None
        else:
            rotary = positions.rotary_table(self.model, grid)
        time, text = self.time_embed(timesteps), self.text_embed(text)
        layout = Layout(text.shape[1], video.shape[1], 0 if face is None else face.shape[1])
        x = constrain(layout.join(text, video, face), "batch", "tokens", None)
        x, _ = self.blocks(x, layout, time, rotary and layout.rotary(*rotary), *broadcast)
        return self._final(x[:, layout.text : layout.base], time, grid)

    def _final(self, video: Array, time: Array, grid: tuple[int, int, int]) -> Array:
        dtype = compute_dtype(self.precision)
        factors = constrain(self.modulation_out(nn.silu(time)), "batch", None).astype(jnp.float32)[:, None]
        shift, scale = jnp.split(factors, 2, axis=-1)
        normed = self.norm_out(self.norm_final(video).astype(dtype))
        rows = self.proj_out(modulate(normed, Mod(shift, scale, scale), dtype))
        return unpatchify(rows.astype(jnp.float32), grid, self.model)
