"""EdgeFace: a small face recogniser (George et al., 2024), which is an EdgeNeXt (Maaz et al., 2022) with a linear head.

Four stages of convolutional blocks, each at half the resolution of the one before; from the second stage on the last
block is of another kind: its channels are convolved in groups one after the other, each with the sum of the one before
(`SplitConvolution`), and then attend to each other over all places (`CrossCovariance`). Inference only, float32.

Layouts are channels last. Kernels of patches are Dense kernels of `mmjax.models.clip.patchify`'s rows.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from mmjax.models.clip import patchify
from mmjax.nn.layers import ZEROS, Dense, FeedForward, LayerNorm
from mmjax.precision import Policy

_POLICY = Policy("float32", "highest")
_EPS, _EXPANSION = 1e-6, 4
_FREQUENCIES, _TEMPERATURE = 32, 10000.0  # of the encoding of positions
_ONES = nn.initializers.ones_init()


@dataclasses.dataclass(frozen=True)
class EdgeFaceSizes:
    """Sizes of the network. Defaults are XS's, `XXS` the smaller sister's; the last four fields are EdgeNeXt's own."""

    widths: tuple[int, ...] = (32, 64, 100, 192)  # channels of the stages
    depths: tuple[int, ...] = (3, 3, 9, 3)  # blocks of the stages
    embedding: int = 512
    kernels: tuple[int, ...] = (3, 5, 7, 9)  # pixels a side, of the stages' depthwise convolutions
    splits: tuple[int, ...] = (0, 2, 3, 4)  # groups of channels in a stage's last block; 0: it is one like the others
    position_stage: int = 1  # whose last block is told where things are
    heads: int = 4


XS = EdgeFaceSizes()
XXS = EdgeFaceSizes(widths=(24, 48, 88, 168), depths=(2, 2, 6, 2))


class EdgeFace(nn.Module):
    """Aligned faces to embeddings, which are not of length one."""

    sizes: EdgeFaceSizes

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "n 112 112 3"] | UInt8[np.ndarray, "n 112 112 3"]
    ) -> Float[Array, "n width"]:
        """RGB pictures with values 0..255."""
        s = self.sizes
        x = jnp.asarray(pictures).astype(jnp.float32) / 127.5 - 1
        x = LayerNorm(_EPS, name="stem_norm")(_Patches(s.widths[0], 4, name="stem")(x))
        for stage, (width, depth) in enumerate(zip(s.widths, s.depths, strict=True)):
            if stage:
                x = LayerNorm(_EPS, name=f"stage_{stage}_norm")(x)
                x = _Patches(width, 2, name=f"stage_{stage}_in")(x)
            for block in range(depth):
                name, last = f"stage_{stage}_block_{block}", block == depth - 1
                if last and s.splits[stage]:
                    x = SplitBlock(s.splits[stage], s.heads, stage == s.position_stage, name=name)(x)
                else:
                    x = ConvolutionBlock(s.kernels[stage], name=name)(x)
        x = LayerNorm(_EPS, name="head_norm")(x.mean((1, 2)))
        return Dense(s.embedding, ("embed", "embed"), _POLICY, name="head")(x)


class ConvolutionBlock(nn.Module):
    """x + gamma * feed_forward(norm(depthwise(x)))."""

    kernel: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        y = LayerNorm(_EPS, name="norm")(Depthwise(self.kernel, name="depthwise")(x))
        return x + self.param("gamma", _ONES, x.shape[-1:]) * _feed_forward(x.shape[-1])(y)


class SplitBlock(nn.Module):
    """Convolutions of groups of channels, attention among channels, feed-forward."""

    splits: int
    heads: int
    positions: bool

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        width = x.shape[-1]
        y = SplitConvolution(self.splits, name="split")(x)
        if self.positions:
            y = y + Dense(width, ("embed", "embed"), _POLICY, name="positions")(position_waves(*x.shape[1:3]))
        attended = CrossCovariance(self.heads, name="attention")(LayerNorm(_EPS, name="norm_attn")(y))
        y = y + self.param("gamma_attn", _ONES, (width,)) * attended
        y = LayerNorm(_EPS, name="norm")(y)
        return x + self.param("gamma", _ONES, (width,)) * _feed_forward(width)(y)


class SplitConvolution(nn.Module):
    """Each group of channels is convolved after the result of the group before was added; the last stays as it is.

    Groups have the same number of channels, rounded up, and the last the rest.
    """

    splits: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        width = -(-x.shape[-1] // self.splits)
        *groups, last = jnp.split(x, list(range(width, x.shape[-1], width)), axis=-1)
        done, before = [], 0.0
        for number, group in enumerate(groups):
            before = Depthwise(3, name=f"depthwise_{number}")(group + before)
            done.append(before)
        return jnp.concatenate([*done, last], axis=-1)


class CrossCovariance(nn.Module):
    """Attention among the channels of a head (El-Nouby et al., 2021): places are what is summed over."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, height, width, channels = x.shape
        axes = ("embed", "heads")
        qkv = Dense(3 * channels, axes, _POLICY, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(n, height * width, 3, self.heads, -1), 2, 0)
        q, k = (each / jnp.maximum(jnp.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (q, k))
        temperature = self.param("temperature", _ONES, (self.heads, 1, 1))
        scores = jnp.einsum("nphc,nphd->nhcd", q, k, precision=_POLICY.product) * temperature
        mixed = jnp.einsum("nhcd,nphd->nphc", jax.nn.softmax(scores), v, precision=_POLICY.product)
        return Dense(channels, axes[::-1], _POLICY, name="out")(mixed.reshape(x.shape))


class Depthwise(nn.Module):
    """A convolution of each channel by itself, zeros outside: same size."""

    kernel: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel, self.kernel, 1, channels))
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
            precision=_POLICY.product,
        )
        return y + self.param("bias", ZEROS, (channels,))


class _Patches(nn.Module):
    """Each patch of pixels by one linear layer; what is left at the right and the lower edge is not seen."""

    features: int
    side: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        n, height, width, _ = x.shape
        rows, columns = height // self.side, width // self.side
        patches = patchify(x[:, : rows * self.side, : columns * self.side], self.side)
        y = Dense(self.features, ("patch", "embed"), _POLICY, name="patch")(patches)
        return y.reshape(n, rows, columns, self.features)


def position_waves(height: int, width: int) -> Float[np.ndarray, "height width 64"]:
    """Sines and cosines of each place: 16 frequencies down, then 16 across; the picture is one turn of the slowest."""
    frequencies = _TEMPERATURE ** -(np.arange(_FREQUENCIES // 2) / (_FREQUENCIES // 2))

    def waves(size):
        angles = 2 * np.pi * np.arange(1, size + 1)[:, None] / (size + 1e-6) * frequencies
        return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(size, _FREQUENCIES)

    down, across = waves(height)[:, None], waves(width)[None, :]
    shape = (height, width, _FREQUENCIES)
    return np.concatenate([np.broadcast_to(down, shape), np.broadcast_to(across, shape)], -1).astype(np.float32)


def _feed_forward(width: int) -> FeedForward:
    return FeedForward(_EXPANSION * width, width, ("embed", "mlp"), _POLICY, tanh=False, name="ffn")
