"""Layers of the CogVideoX VAE: causal convolutions, group norms and residual blocks over [B, T, H, W, C].

A video passes the network in groups of frames. What a causal convolution must remember of the group before, the last
two frames that it saw, is the variable `frames` of the collection "cache"; without one it repeats its first frame.
Group norms are taken over a group of frames, so that the grouping is part of the numbers (METHOD 1).

Weights are small enough (0.4 GB in bfloat16) that every device holds them whole: their axes are all "small".
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mmjax.nn.layers import LECUN, ZEROS, Dense, partitioned
from mmjax.precision import Policy
from mmjax.sharding import constrain

EPSILON = 1e-6  # of every norm
_TAPS = 3  # frames that a causal convolution sees: two of the past and the present
_SMALL = ("small", "small")

Padding = tuple[tuple[int, int], tuple[int, int]]  # zeros (above, below), (left, right)


def causal_conv(
    frames: Float[Array, "b T+2 H W i"], kernel: Float[Array, "3 3 3 i o"], policy: Policy, result: jnp.dtype
) -> Float[Array, "b T H W o"]:
    """A 3 x 3 x 3 convolution, valid in time and padded with zeros in space, as 2-D convolutions; of dtype `result`.

    XLA has no good layout for 3-D convolutions on GPUs, and a fast one for 2-D. The taps in time are laid beside each
    other as channels: of the input, so that one convolution sums over all of them, or of the output where that is much
    the smaller one (the last layer makes 3 channels of 128), to be shifted and added in float32.
    """
    count, (inputs, outputs) = frames.shape[1] - _TAPS + 1, kernel.shape[-2:]
    if outputs * _TAPS <= inputs:
        taps = jnp.moveaxis(kernel, 0, 3).reshape(3, 3, inputs, _TAPS * outputs)
        every = jnp.split(conv2d(frames, taps, policy, result=jnp.float32), _TAPS, axis=-1)
        return sum(each[:, tap : tap + count] for tap, each in enumerate(every)).astype(result)
    taps = jnp.moveaxis(kernel, 0, 2).reshape(3, 3, _TAPS * inputs, outputs)
    beside = jnp.concatenate([frames[:, tap : tap + count] for tap in range(_TAPS)], axis=-1)
    return conv2d(beside, taps, policy, result=result)


def conv2d(
    x: Float[Array, "b T H W i"],
    kernel: Float[Array, "kh kw i o"],
    policy: Policy,
    stride: int = 1,
    padding: Padding = ((1, 1), (1, 1)),
    result: jnp.dtype | None = None,
) -> Float[Array, "b T h w o"]:
    """The same 2-D convolution of every frame, in the policy's dtype: time is folded into the batch.

    Sums are float32, whatever `result`.
    """
    y = jax.lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]).astype(policy.dtype),
        kernel.astype(policy.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=policy.product,
        preferred_element_type=result,
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def repeat_frames(x: Float[Array, "b t *s"], frames: int) -> Float[Array, "b T *s"]:
    """Each frame several times over, to `frames` in all; the first of an odd number, the video's first, stays one."""
    if x.shape[1] == frames:
        return x
    first, rest = x[:, : frames % 2], x[:, frames % 2 :]
    rest = jnp.repeat(rest, (frames - frames % 2) // rest.shape[1], axis=1)
    return jnp.concatenate([first, rest], axis=1) if first.shape[1] else rest


def pool_frames(x: Float[Array, "b T *s"]) -> Float[Array, "b t *s"]:
    """Means of pairs of frames; the first of an odd number, the video's first, stays alone."""
    first, rest = x[:, : x.shape[1] % 2], x[:, x.shape[1] % 2 :]
    rest = (
        rest.reshape(rest.shape[0], rest.shape[1] // 2, 2, *rest.shape[2:]).astype(jnp.float32).mean(2).astype(x.dtype)
    )
    return jnp.concatenate([first, rest], axis=1)


class Conv2D(nn.Module):
    """`conv2d` with weights, as the policy says."""

    features: int
    policy: Policy
    stride: int = 1
    padding: Padding = ((1, 1), (1, 1))

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W i"]) -> Float[Array, "b T h w o"]:
        kernel = self.param("kernel", partitioned(LECUN, *_SMALL * 2), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", partitioned(ZEROS, "small"), (self.features,))
        y = conv2d(x, kernel, self.policy, self.stride, self.padding)
        return y + bias.astype(y.dtype)


class CausalConv(nn.Module):
    """`causal_conv` with weights and a memory of the last two frames of (memory, input), as the policy says.

    `result` is the dtype of what it returns, where that is another one.
    """

    features: int
    policy: Policy
    result: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W i"]) -> Float[Array, "b T H W o"]:
        kernel = self.param(
            "kernel", partitioned(LECUN, *_SMALL * 2, "small"), (_TAPS, 3, 3, x.shape[-1], self.features)
        )
        bias = self.param("bias", partitioned(ZEROS, "small"), (self.features,))
        x = constrain(x.astype(self.policy.dtype), "batch", None, "height", None, None)
        memory = self.variable("cache", "frames", lambda: jnp.repeat(x[:, :1], _TAPS - 1, axis=1))
        x = jnp.concatenate([memory.value, x], axis=1)
        memory.value = x[:, 1 - _TAPS :]
        result = self.result or self.policy.dtype
        return causal_conv(x, kernel, self.policy, result) + bias.astype(result)


class GroupNorm(nn.Module):
    """Normalization over frames, space and the channels of a group, in float32; returns float32.

    Channels are grouped as torch groups them, neighbours together, and the variance is that of the centred values.
    """

    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W c"]) -> Float[Array, "b T H W c"]:
        channels = x.shape[-1]
        scale = self.param("scale", partitioned(nn.initializers.ones_init(), "small"), (channels,))
        bias = self.param("bias", partitioned(ZEROS, "small"), (channels,))
        x = x.astype(jnp.float32)
        centred = x - self._mean(x)
        inverse = jax.lax.rsqrt(self._mean(jnp.square(centred)) + EPSILON)
        return centred * (inverse * scale.astype(jnp.float32)) + bias.astype(jnp.float32)

    def _mean(self, x):
        """[b, 1, 1, 1, c]: of each channel first, the pass over memory, then of its group."""
        each = x.mean((1, 2, 3)).reshape(x.shape[0], self.groups, -1)
        grouped = jnp.broadcast_to(each.mean(-1, keepdims=True), each.shape)
        return grouped.reshape(x.shape[0], 1, 1, 1, -1)


class SpatialNorm(nn.Module):
    """Group norm whose result is scaled and shifted by what each place of the latents says; float32.

    The projections are taken at the latents' own size, where they cost next to nothing, and then repeated to the size
    of `x`: a projection of single pixels and nearest-neighbour interpolation commute.
    """

    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W c"], latents: Float[Array, "b t h w z"]) -> Float[Array, "b T H W c"]:
        scale = Dense(x.shape[-1], _SMALL, Policy(), name="to_scale")(latents)
        shift = Dense(x.shape[-1], _SMALL, Policy(), name="to_shift")(latents)
        normed = GroupNorm(self.groups, name="norm")(x)
        return normed * _nearest(scale, x.shape) + _nearest(shift, x.shape)


class ResnetBlock(nn.Module):
    """Twice norm, SiLU and causal convolution, plus the input. Norms are spatial ones where `latents` are given."""

    features: int
    groups: int
    policy: Policy

    @nn.compact
    def __call__(
        self, x: Float[Array, "b T H W i"], latents: Float[Array, "b t h w z"] | None = None
    ) -> Float[Array, "b T H W o"]:
        y = x
        for i in ("1", "2"):
            y = nn.silu(norm(self.groups, f"norm{i}", y, latents))
            y = CausalConv(self.features, self.policy, name=f"conv{i}")(y)
        if x.shape[-1] != self.features:
            x = Dense(self.features, _SMALL, self.policy, name="shortcut")(x)
        return x + y


class Downsample(nn.Module):
    """Half the height and width by a convolution with stride 2; with `time`, half the frames by means of pairs."""

    time: bool
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W c"]) -> Float[Array, "b t h w c"]:
        x = pool_frames(x) if self.time else x
        return Conv2D(x.shape[-1], self.policy, 2, ((0, 1), (0, 1)), name="conv")(x)


class Upsample(nn.Module):
    """Twice the height and width by repetition and a convolution; with `time`, twice the frames as well.

    The convolution sees single frames, so that frames are repeated after it and not, as in torch, before.
    """

    time: bool
    policy: Policy

    @nn.compact
    def __call__(self, x: Float[Array, "b T H W c"]) -> Float[Array, "b t h w c"]:
        frames = x.shape[1]
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        x = Conv2D(x.shape[-1], self.policy, name="conv")(x)
        return repeat_frames(x, 2 * frames - frames % 2) if self.time else x


def norm(groups: int, name: str, x: Float[Array, "b T H W c"], latents: Float[Array, "b t h w z"] | None = None):
    """The norm of this name inside a compact method: a `SpatialNorm` with latents (decoder), else a `GroupNorm`."""
    return GroupNorm(groups, name=name)(x) if latents is None else SpatialNorm(groups, name=name)(x, latents)


def _nearest(x, shape):
    """`x` repeated to the frames, height and width of `shape`."""
    _, frames, height, width, _ = shape
    x = jnp.repeat(jnp.repeat(x, height // x.shape[2], axis=2), width // x.shape[3], axis=3)
    return repeat_frames(x, frames)
