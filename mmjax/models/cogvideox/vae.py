"""The CogVideoX video autoencoder (METHOD 1): 8 x 8 pixels of 4 frames become one place of 16 latent channels.

`encode` and `decode` take a whole video through the networks in groups of frames: the first group takes what does not
make a full one, the others run in a `lax.scan` whose carry is the memory of the causal convolutions. So 49 frames
trace a network twice, and a group's activations are all that is in memory. Video is channels-last, -1..1, and the
first frame stands for itself: 8k + 1 frames have 2k + 1 latent ones. Latents are the network's own, not yet scaled.

Reference: `AutoencoderKLCogVideoX` of diffusers, whose numbers these are.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from mmjax.model_settings import FRAME_GROUP, VAE
from mmjax.models.cogvideox.vae_layers import CausalConv, Downsample, ResnetBlock, Upsample, norm
from mmjax.precision import Policy
from mmjax.trees import Tree

FRAMES = FRAME_GROUP  # of a group, at the encoder
LATENT_FRAMES = 2  # of a group, at the decoder
_LOGVAR = (-30.0, 20.0)


class Level(nn.Module):
    """Residual blocks of one width, and the change of size that follows them: "down", "up", or none."""

    features: int
    resnets: int
    groups: int
    policy: Policy
    resample: str = ""
    time: bool = False  # the change of size is one of time as well
    remat: bool = False  # the backward pass computes the inside of each residual block again

    @nn.compact
    def __call__(
        self, x: Float[Array, "b T H W i"], latents: Float[Array, "b t h w z"] | None = None
    ) -> Float[Array, "b T_ H_ W_ o"]:
        block = nn.remat(ResnetBlock) if self.remat else ResnetBlock
        for i in range(self.resnets):
            x = block(self.features, self.groups, self.policy, name=f"resnet_{i}")(x, latents)
        if not self.resample:
            return x
        kind = {"down": Downsample, "up": Upsample}[self.resample]
        return kind(self.time, self.policy, name=self.resample)(x)


class Encoder(nn.Module):
    """A group of frames to moments: means and log variances beside each other, float32."""

    vae: VAE
    policy: Policy
    remat: bool = False

    @nn.compact
    def __call__(self, video: Float[Array, "b F H W 3"]) -> Float[Array, "b t h w 2*z"]:
        vae, policy, groups, remat = self.vae, self.policy, self.vae.norm_groups, self.remat
        x = CausalConv(vae.channels[0], policy, name="conv_in")(video)
        for i, features in enumerate(vae.channels):
            resample = "down" if i < len(vae.channels) - 1 else ""
            time = 2**i < vae.temporal_compression
            x = Level(features, vae.resnets, groups, policy, resample, time, remat, name=f"down_{i}")(x)
        x = Level(x.shape[-1], 2, groups, policy, remat=remat, name="mid")(x)
        x = nn.silu(norm(groups, "norm_out", x))
        return CausalConv(2 * vae.latent_channels, policy, jnp.float32, name="conv_out")(x)


class Decoder(nn.Module):
    """A group of latent frames to pixels, float32; not clipped. Every norm is told of the latents in float32."""

    vae: VAE
    policy: Policy
    remat: bool = False

    @nn.compact
    def __call__(self, latents: Float[Array, "b t h w z"]) -> Float[Array, "b F H W 3"]:
        vae, policy, groups, remat = self.vae, self.policy, self.vae.norm_groups, self.remat
        x = CausalConv(vae.channels[-1], policy, name="conv_in")(latents)
        x = Level(x.shape[-1], 2, groups, policy, remat=remat, name="mid")(x, latents)
        for i, features in enumerate(reversed(vae.channels)):
            resample = "up" if i < len(vae.channels) - 1 else ""
            time = 2**i < vae.temporal_compression
            x = Level(features, vae.resnets + 1, groups, policy, resample, time, remat, name=f"up_{i}")(x, latents)
        x = nn.silu(norm(vae.norm_groups, "norm_out", x, latents))
        return CausalConv(3, policy, jnp.float32, name="conv_out")(x)


def encode(
    vae: VAE, encoder: Tree, video: Float[Array, "b F H W 3"], policy: Policy, remat: bool = False
) -> tuple[Float[Array, "b t h w z"], Float[Array, "b t h w z"]]:
    """(mean, log variance) of the posterior of a video, float32.

    `encoder` are the encoder's parameters; height and width are multiples of `vae.spatial_compression`. With `remat` a
    backward pass computes the inside of each residual block again.
    """
    moments = _in_groups(Encoder(vae, policy, remat), encoder, video, FRAMES)
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, *_LOGVAR)


def decode(
    vae: VAE, decoder: Tree, latents: Float[Array, "b t h w z"], policy: Policy, remat: bool = False
) -> Float[Array, "b F H W 3"]:
    """The video of latents, float32, about -1..1. `decoder` are the decoder's parameters; `remat` as of `encode`."""
    return _in_groups(Decoder(vae, policy, remat), decoder, latents, LATENT_FRAMES)


def decode_frame(
    vae: VAE, decoder: Tree, latents: Float[Array, "t h w z"], frame: Int[Array, ""], later: bool, policy: Policy
) -> Float[Array, "H W 3"]:
    """One frame of `decode`, the same numbers, for a loss on it: computes the groups up to the frame's own, no more.

    Differentiable in the latents of the frame's own group. What the groups before it hand on, two frames a causal
    convolution, counts as given: with its gradient, all of them would have to be kept or computed again.

    Args:
      latents: an odd number of them.
      frame: of the video's.
      later: the frame is not one of the first group's, the `first_frames`; which of the others is its own is decided as
        the program runs. Take the gradient inside a `cond` over this, not of one: JAX keeps for the backward pass what
        either branch needs, 18 GiB at 5B where one branch needs 7.
    """
    step = _stepper(Decoder(vae, policy, remat=True), decoder)
    size = first_group(len(latents), LATENT_FRAMES)
    first, rest = latents[None, :size], latents[size:]
    if not later:
        return step({}, first)[1][0, frame]
    memory_after = lambda memory, group: step(memory, jax.lax.stop_gradient(group))[0]  # noqa: E731
    groups = rest.reshape(-1, 1, LATENT_FRAMES, *rest.shape[1:])
    own, place = jnp.divmod(frame - first_frames(vae, len(latents)), vae.temporal_compression * LATENT_FRAMES)
    memory = jax.lax.fori_loop(0, own, lambda i, memory: memory_after(memory, groups[i]), memory_after({}, first))
    return step(memory, groups[own])[1][0, place]


def latent_shape(vae: VAE, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(t, h, w, z) of a video of so many frames and pixels."""
    side = vae.spatial_compression
    return (frames - 1) // vae.temporal_compression + 1, height // side, width // side, vae.latent_channels


def first_frames(vae: VAE, latent_frames: int) -> int:
    """Frames of a video that the decoder's first group makes."""
    return 1 + vae.temporal_compression * (first_group(latent_frames, LATENT_FRAMES) - 1)


def first_group(frames: int, group: int) -> int:
    """How many of `frames` the first group takes: a full group and what does not make another one, or all."""
    return group + frames % group if frames >= group else frames


def _stepper(module, params):
    """(memory, group of frames) -> (memory, its result); the memory of a video's beginning is {}."""

    def run(memory, frames):
        y, memory = module.apply({"params": params, **memory}, frames, mutable=["cache"])
        return memory, y

    return run


def _in_groups(module, params, x, group):
    """The network over groups of frames, the causal convolutions' memory handed on from each to the next."""

    run = _stepper(module, params)
    size = first_group(x.shape[1], group)
    memory, first = run({}, x[:, :size])
    if size == x.shape[1]:
        return first
    rest = x[:, size:].reshape(x.shape[0], -1, group, *x.shape[2:]).swapaxes(0, 1)
    _, rest = jax.lax.scan(run, memory, rest)
    rest = rest.swapaxes(0, 1)
    return jnp.concatenate([first, rest.reshape(rest.shape[0], -1, *rest.shape[3:])], axis=1)
