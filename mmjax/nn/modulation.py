"""Adaptive layer normalization: named triples that shift, scale and gate a token stream (METHOD 1, 3)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.nn.layers import ZEROS, Dense
from mmjax.precision import Policy
from mmjax.sharding import constrain


class Mod(NamedTuple):
    """Factors of a stream at one half of a block, or of each token. Triples add, so `mod + delta` reads as eq. 7."""

    shift: Float[Array, "b *n d"]
    scale: Float[Array, "b *n d"]
    gate: Float[Array, "b *n d"]

    def __add__(self, other: "Mod") -> "Mod":
        return Mod(*(mine + its for mine, its in zip(self, other, strict=True)))


class BlockMods(NamedTuple):
    """Factors of one stream for a whole block: its attention and its feed-forward half."""

    attn: Mod
    ffn: Mod

    def __add__(self, other: "BlockMods") -> "BlockMods":
        return BlockMods(self.attn + other.attn, self.ffn + other.ffn)


def mods(factors: Float[Array, "b n*d"], count: int) -> list[Mod]:
    """Cuts `3 * count` factors, in the order shift, scale, gate, shift, ..., into float32 triples.

    They are gathered from the devices that made their parts before they are cut: cuts and shares do not coincide.
    """
    parts = jnp.split(constrain(factors, "batch", None).astype(jnp.float32), 3 * count, axis=-1)
    return [Mod(*parts[3 * i : 3 * i + 3]) for i in range(count)]


def modulate(normed: Float[Array, "b n d"], mod: Mod, dtype: jnp.dtype) -> Float[Array, "b n d"]:
    """`normed * (1 + scale) + shift` in float32 with each token's factors, cast to the compute dtype."""
    return (normed * (1 + mod.scale) + mod.shift).astype(dtype)


def gated(x: Float[Array, "b n d"], change: Float[Array, "b n d"], mod: Mod) -> Float[Array, "b n d"]:
    """The residual step `x + gate * change`, summed in float32, in x's dtype."""
    return (x.astype(jnp.float32) + mod.gate * change.astype(jnp.float32)).astype(x.dtype)


def modulation_layer(width: int, parts: int, policy: Policy, name: str | None = None) -> Dense:
    """The Dense that predicts `parts` vectors of `width` from SiLU(time embedding); zero at initialization."""
    return Dense(parts * width, ("condition", "modulation"), policy, kernel_init=ZEROS, name=name)
