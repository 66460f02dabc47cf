"""The CogVideoX diffusion transformer (SPEC 1) in three variants: 2B, 5B and 1.5-5B.

Blocks are scanned in pairs, so compile time does not grow with depth and the adapter of the even blocks (HOUSE: it
enters at documented hooks only) has its place without an `if` inside. A block works on *streams*: text and video here;
text, face and video in an adapted block.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_policies
from jaxtyping import Array, Float, Int

from mmjax import config as c
from mmjax.nn import rope
from mmjax.nn.attention import attention
from mmjax.nn.layers import Dense, FeedForward, LayerNorm, split_tokens
from mmjax.nn.modulation import BlockMods, Mod, gated, mods, modulate, modulation_layer
from mmjax.partition import constrain
from mmjax.precision import compute_dtype

NORM_EPS = 1e-5
QK_NORM_EPS = 1e-6
REMAT = {"full": checkpoint_policies.nothing_saveable, "dots": checkpoint_policies.dots_with_no_batch_dims_saveable}

Rotary = tuple[Float[np.ndarray, "v k/2"], Float[np.ndarray, "v k/2"]] | None


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


class Attention(nn.Module):
    """Joint self-attention over all streams, with a LayerNorm of each head's queries and keys.

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
        self, x: Float[Array, "b n d"], rotary: Rotary, cross: Callable[[Array], Array] | None = None
    ) -> Float[Array, "b n d"]:
        q = self.rotated(self.query_norm(self.heads(self.query(x))), rotary)
        k = self.rotated(self.key_norm(self.heads(self.key(x))), rotary)
        v = self.heads(self.value(x))
        q = constrain(q, "batch", "tokens", "act_heads", None)
        attended = attention(q, k, v, self.model.attention)
        if cross is not None:
            attended = attended + cross(q)
        return self.out(attended.reshape(x.shape))

    def heads(self, x: Float[Array, "b n d"]) -> Float[Array, "b n h k"]:
        return x.reshape(*x.shape[:2], self.model.heads, self.model.head_dim)

    def rotated(self, x: Float[Array, "b n h k"], rotary: Rotary) -> Float[Array, "b n h k"]:
        """Rotates the video tokens, which stand last; text and face tokens carry no position."""
        if rotary is None:
            return x.astype(self.dtype)
        others, video = split_tokens(x, (x.shape[1] - len(rotary[0]), len(rotary[0])))
        return jnp.concatenate([others.astype(self.dtype), rope.rotate(video, *rotary).astype(self.dtype)], axis=1)


class DiTBlock(nn.Module):
    """One expert-AdaLN block: joint attention, then a feed-forward layer, both modulated for each stream."""

    model: c.Transformer
    dtype: jnp.dtype

    def setup(self):
        width = self.model.width
        self.modulation_attn = modulation_layer(width, 6, self.dtype)
        self.modulation_ffn = modulation_layer(width, 6, self.dtype)
        self.norm_attn, self.norm_ffn = LayerNorm(NORM_EPS), LayerNorm(NORM_EPS)
        self.attn = Attention(self.model, self.dtype)
        self.ffn = FeedForward(4 * width, width, ("embed", "mlp"), self.dtype)

    def modulations(self, time: Float[Array, "b e"]) -> tuple[BlockMods, BlockMods]:
        """phi_vid(t, l) and phi_txt(t, l): the block's own factors for video and for text."""
        time = nn.silu(time)
        video_attn, text_attn = mods(self.modulation_attn(time), 2)
        video_ffn, text_ffn = mods(self.modulation_ffn(time), 2)
        return BlockMods(video_attn, video_ffn), BlockMods(text_attn, text_ffn)

    def __call__(
        self,
        streams: Sequence[Float[Array, "b n d"]],
        factors: Sequence[BlockMods],
        rotary: Rotary,
        cross: Callable[[Float[Array, "b n h k"], Sequence[Array]], Array] | None = None,
    ) -> list[Float[Array, "b n d"]]:
        """The streams, after the block. `cross(q, normed streams)` is the adapter's cross-attention, if any."""
        lengths = [x.shape[1] for x in streams]
        normed = self._modulated(self.norm_attn, streams, [f.attn for f in factors])
        hook = None if cross is None else lambda q: cross(q, normed)
        out = self.attn(jnp.concatenate(normed, axis=1), rotary, hook)
        streams = self._residual(streams, split_tokens(out, lengths), [f.attn for f in factors])
        normed = self._modulated(self.norm_ffn, streams, [f.ffn for f in factors])
        out = self.ffn(jnp.concatenate(normed, axis=1))
        return self._residual(streams, split_tokens(out, lengths), [f.ffn for f in factors])

    def _modulated(self, norm: LayerNorm, streams: Sequence[Array], factors: Sequence[Mod]) -> list[Array]:
        return [modulate(norm(x), mod, self.dtype) for x, mod in zip(streams, factors, strict=True)]

    def _residual(self, streams: Sequence[Array], changes: Sequence[Array], factors: Sequence[Mod]) -> list[Array]:
        changed = [gated(x, change, mod) for x, change, mod in zip(streams, changes, factors, strict=True)]
        return [constrain(x, "batch", "tokens", None) for x in changed]


class Pair(nn.Module):
    """An even block and the odd one after it: the body of the scan. The carry is (text, face or None, video)."""

    model: c.Transformer
    dtype: jnp.dtype

    def setup(self):
        self.even, self.odd = DiTBlock(self.model, self.dtype), DiTBlock(self.model, self.dtype)

    def plain(self, block: DiTBlock, text: Array, video: Array, time: Array, rotary: Rotary) -> list[Array]:
        """A block without adapter, on [text, video]."""
        video_mods, text_mods = block.modulations(time)
        return block((text, video), (text_mods, video_mods), rotary)

    def __call__(self, carry, time: Float[Array, "b e"], rotary: Rotary):
        text, face, video = carry
        text, video = self.plain(self.even, text, video, time, rotary)
        text, video = self.plain(self.odd, text, video, time, rotary)
        return (text, face, video), None


class CogVideoXTransformer(nn.Module):
    """Latents, timesteps and text embeddings to a v-prediction.

    `pair` is the class of the scanned body, made as `pair(pair_model, dtype)` and called as `pair(carry, time, rotary,
    *broadcast)`; MagicMirror puts its adapted pair here.
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
        if self.model.remat != "none":
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
            video = (video + rope.sincos_table(self.model, grid)).astype(dtype)
            rotary = None
        else:
            rotary = rope.rotary_table(self.model, grid)
        time = self.time_embed(timesteps)
        carry = (self.text_embed(text), face, constrain(video, "batch", "tokens", None))
        (_, _, video), _ = self.blocks(carry, time, rotary, *broadcast)
        return self._final(video, time, grid)

    def _final(self, video: Array, time: Array, grid: tuple[int, int, int]) -> Array:
        dtype = compute_dtype(self.precision)
        shift, scale = jnp.split(self.modulation_out(nn.silu(time)).astype(jnp.float32), 2, axis=-1)
        normed = self.norm_out(self.norm_final(video).astype(dtype))
        rows = self.proj_out(modulate(normed, Mod(shift, scale, scale), dtype))
        return unpatchify(rows.astype(jnp.float32), grid, self.model)
