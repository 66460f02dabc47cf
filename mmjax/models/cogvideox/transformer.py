"""The CogVideoX diffusion transformer (METHOD 1) in three variants: 2B, 5B and 1.5-5B.

Blocks are scanned in pairs, so compile time does not grow with depth, and the adapter of the even blocks has its place
without an `if` inside: MagicMirror hands in a pair of its own (`mmjax.models.magicmirror.adapter`).
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_policies
from jaxtyping import Array, Float, Int

from mmjax import config as c
from mmjax.models.cogvideox import positions
from mmjax.models.cogvideox.patches import patchify, token_grid, unpatchify
from mmjax.models.cogvideox.streams import Rotary, StreamMods, Streams
from mmjax.nn.attention import attention
from mmjax.nn.layers import Dense, FeedForward, LayerNorm
from mmjax.nn.modulation import BlockMods, Mod, gated, mods, modulate, modulation_layer
from mmjax.precision import Policy
from mmjax.sharding import constrain, fetch, whole_samples

NORM_EPS = 1e-5
QK_NORM_EPS = 1e-6
REMAT = {"full": checkpoint_policies.nothing_saveable, "dots": checkpoint_policies.dots_with_no_batch_dims_saveable}


class CrossAttention(Protocol):
    """The adapter's hook in a block's attention (eq. 8): what it returns is added before the output projection."""

    def __call__(self, q: Float[Array, "b n h k"], normed: Float[Array, "b n d"]) -> Float[Array, "b n h k"]:
        """`q` are the normalised, rotated queries; `normed` is the sequence as the attention reads it."""
        ...


class AdapterInputs(NamedTuple):
    """What every pair hands to its adapter, the same for all of them; the base's pair has none and leaves it alone."""

    identity: Float[Array, "b c"] | None = None  # x_id through CAN's global projection
    scale: Float[Array, " b"] | None = None  # of what the identity adds; None is 1


def sinusoid(timesteps: Int[Array, " b"], width: int) -> Float[Array, "b d"]:
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

    model: c.Transformer
    policy: Policy

    @nn.compact
    def __call__(self, timesteps: Int[Array, " b"]) -> Float[Array, "b e"]:
        width, policy = self.model.time_dim, self.policy.in_float32
        x = Dense(width, ("embed", "condition"), policy, name="in")(sinusoid(timesteps, self.model.width))
        return Dense(width, ("condition", "condition"), policy, name="out")(nn.silu(x))


class Attention(nn.Module):
    """Joint self-attention over the first `keys` tokens, with a LayerNorm of each head's queries and keys."""

    model: c.Transformer
    policy: Policy

    def setup(self):
        width = self.model.width
        self.query, self.key, self.value = (Dense(width, ("embed", "heads"), self.policy) for _ in range(3))
        self.out = Dense(width, ("heads", "embed"), self.policy)
        self.query_norm, self.key_norm = (LayerNorm(QK_NORM_EPS, axis="small") for _ in range(2))

    def __call__(
        self, x: Float[Array, "b n d"], keys: int, rotary: Rotary | None, cross: CrossAttention | None = None
    ) -> Float[Array, "b n d"]:
        q = self._rotated(self.query_norm(self._heads(self.query(x))), rotary)
        k = self._rotated(self.key_norm(self._heads(self.key(x))), rotary)
        v = self._heads(self.value(x))
        q = constrain(q, "batch", "tokens", "act_heads", None)
        attended = attention(q, k, v, self.policy, keys)
        if cross is not None:
            attended = attended + cross(q, x)
        return self.out(attended.reshape(x.shape))

    def _heads(self, x: Float[Array, "b n d"]) -> Float[Array, "b n h k"]:
        return x.reshape(*x.shape[:2], self.model.heads, self.model.head_dim)

    def _rotated(self, x: Float[Array, "b n h k"], rotary: Rotary | None) -> Float[Array, "b n h k"]:
        """Turned in float32, but rounded to the compute dtype before, as where the weights were trained.

        The barrier makes two fast kernels, norm and rotation, of a slow one.
        """
        x = jax.lax.optimization_barrier(x.astype(self.policy.dtype))
        return x if rotary is None else positions.rotate(x, *rotary)


class Block(nn.Module):
    """One expert-AdaLN block: joint attention, then a feed-forward layer, both modulated for each stream."""

    model: c.Transformer
    policy: Policy

    def setup(self):
        width = self.model.width
        self.modulation_attn = modulation_layer(width, 6, self.policy)
        self.modulation_ffn = modulation_layer(width, 6, self.policy)
        self.norm_attn, self.norm_ffn = LayerNorm(NORM_EPS, apart=True), LayerNorm(NORM_EPS, apart=True)
        self.attn = Attention(self.model, self.policy)
        self.ffn = FeedForward(4 * width, width, ("embed", "mlp"), self.policy)

    def modulations(self, time: Float[Array, "b e"]) -> StreamMods:
        """phi_txt(t, l) and phi_vid(t, l): the block's own factors for text and for video."""
        time = nn.silu(time)
        video_attn, text_attn = mods(self.modulation_attn(time), 2)
        video_ffn, text_ffn = mods(self.modulation_ffn(time), 2)
        return StreamMods(text=BlockMods(text_attn, text_ffn), video=BlockMods(video_attn, video_ffn))

    def __call__(
        self,
        x: Float[Array, "b n d"],
        streams: Streams,
        mods: StreamMods,
        rotary: Rotary | None,
        cross: CrossAttention | None = None,
    ) -> Float[Array, "b n d"]:
        """The sequence after the block."""
        attn = streams.of_tokens(mods.text.attn, mods.video.attn, mods.face and mods.face.attn)
        normed = modulate(self.norm_attn(x), attn, self.policy.dtype)
        x = gated(x, self.attn(normed, streams.keys(mods), rotary, cross), attn)
        x = constrain(x, "batch", "tokens", None)

        ffn = streams.of_tokens(mods.text.ffn, mods.video.ffn, mods.face and mods.face.ffn)
        x = gated(x, self.ffn(modulate(self.norm_ffn(x), ffn, self.policy.dtype)), ffn)
        return constrain(x, "batch", "tokens", None)


class BlockPair(nn.Module):
    """An even block and the odd one after it: the body of the scan. `adapter` is for pairs that have one."""

    model: c.Transformer
    adapter_settings: c.Adapter | None
    policy: Policy

    def setup(self):
        self.even, self.odd = Block(self.model, self.policy), Block(self.model, self.policy)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        streams: Streams,
        time: Float[Array, "b e"],
        rotary: Rotary | None,
        adapter: AdapterInputs,
    ) -> tuple[Float[Array, "b n d"], None]:
        x = self.even(x, streams, self.even.modulations(time), rotary)
        return self.odd(x, streams, self.odd.modulations(time), rotary), None


class CogVideoXTransformer(nn.Module):
    """Latents, timesteps and text embeddings to a v-prediction. `pair` is the class of the scanned body."""

    model: c.Transformer
    policy: Policy
    runtime: c.Runtime = c.Runtime()
    pair: type[BlockPair] = BlockPair
    adapter_settings: c.Adapter | None = None

    def setup(self):
        model, policy = self.model, self.policy
        self.patch_embed = Dense(model.width, ("patch", "embed"), policy)
        self.text_embed = Dense(model.width, ("text", "embed"), policy)
        self.time_embed = TimeEmbedding(model, policy)
        self.blocks = self._scanned_pairs()(model, self.adapter_settings, policy)
        self.norm_final, self.norm_out = LayerNorm(NORM_EPS), LayerNorm(NORM_EPS)
        self.modulation_out = modulation_layer(model.width, 2, policy)
        self.proj_out = Dense(model.latent_channels * model.patch_t * model.patch**2, ("embed", "patch"), policy)

    def __call__(
        self,
        latents: Float[Array, "b T H W C"],
        timesteps: Int[Array, " b"],
        text: Float[Array, "b l e"],
        face: Float[Array, "b f d"] | None = None,
        adapter: AdapterInputs = AdapterInputs(),  # noqa: B008 - a tuple of None
    ) -> Float[Array, "b T H W C"]:
        """The v-prediction, float32, in the latents' shape. Raises `ValueError` for latents off the patch grid."""
        grid = token_grid(self.model, latents.shape)
        time, text = self.time_embed(timesteps), self.text_embed(text)
        video = self.patch_embed(patchify(latents, self.model))
        streams = Streams(text.shape[1], video.shape[1], 0 if face is None else face.shape[1])
        video, rotary = self._placed(video, grid, streams)

        x = whole_samples(streams.join(text, video, face))  # each device joins them all and goes on with its tokens
        x = constrain(x, "batch", "tokens", None)
        x, _ = self.blocks(x, streams, time, rotary, adapter)
        rows = self._final(streams.video_of(x), time)
        return unpatchify(rows.astype(jnp.float32), grid, self.model)

    def _placed(
        self, video: Float[Array, "b v d"], grid: tuple[int, int, int], streams: Streams
    ) -> tuple[Float[Array, "b v d"], Rotary | None]:
        """Positions: added to the video tokens (2B), or as the rotary table of the whole sequence."""
        if self.model.position == "sincos":
            return (video + positions.sincos_table(self.model, grid)).astype(self.policy.dtype), None
        return video, streams.rotary(*positions.rotary_table(self.model, grid))

    def _final(self, video: Float[Array, "b v d"], time: Float[Array, "b e"]) -> Float[Array, "b v p"]:
        dtype = self.policy.dtype
        factors = constrain(self.modulation_out(nn.silu(time)), "batch", None).astype(jnp.float32)[:, None]
        shift, scale = jnp.split(factors, 2, axis=-1)
        normed = self.norm_out(self.norm_final(video).astype(dtype))
        return self.proj_out(modulate(normed, Mod(shift, scale, scale), dtype))

    def _scanned_pairs(self) -> type[nn.Module]:
        """The pair over its stacked parameters, one after the other; what `runtime` asks for is put round the body."""
        body = self.pair
        if self.runtime.stream:
            body = nn.map_variables(body, "params", trans_in_fn=fetch, init=self.is_initializing(), mutable=True)
        if self.runtime.remat != "none":
            body = nn.remat(body, policy=REMAT[self.runtime.remat], prevent_cse=False)
        return nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.model.layers // 2,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
