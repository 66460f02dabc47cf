"""Sizes of the model and its geometry, as frozen records: what weights are of. Part of `mmjax.config`; no JAX."""

import dataclasses

from mmjax.validation import Number, free, one_of, within

ADAPTER_PATTERNS = (r"face_encoder/.*", r"transformer/blocks/adapter/.*")  # paths of face branch and adapter (METHOD 7)

LAYERS = Number(int, 1, 1000)  # of any network here; the largest published one has 48
SIZE = Number(int, 1, 2**20)  # of anything that is a side of a parameter

_PATCH = Number(int, 1, 64)
_INTERPOLATION = Number(float, 0, 1000, above=True)

FRAME_GROUP = 8  # a video has 8k + 1 frames: CogVideoX's VAE takes them in groups behind the first


@dataclasses.dataclass(frozen=True)
class Transformer:
    """The CogVideoX diffusion transformer (METHOD 1). Defaults are the 5B model's."""

    layers: int = 42
    heads: int = 48
    head_dim: int = 64
    latent_channels: int = 16
    text_dim: int = 4096
    text_length: int = 226  # tokens, padded to this maximum; pad tokens are attended to
    time_dim: int = 512
    patch: int = 2  # spatial patch, latent pixels
    patch_t: int = 1  # temporal patch, latent frames
    position: str = "rope"  # sincos | rope | rope_slice
    base_frames: int = 13  # the latent grid of the published samples; `rope` positions are stretched onto its sides
    base_height: int = 60
    base_width: int = 90
    spatial_interpolation: float = 1.875  # of sincos positions
    temporal_interpolation: float = 1.0

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    def whole_frames(self, frames: int) -> int:
        """Latent frames rounded up to whole temporal patches, of which 1.5 has more than a video fills."""
        return frames + -frames % self.patch_t

    def problems(self):
        yield from within(self, layers=LAYERS, heads=SIZE, head_dim=SIZE, latent_channels=SIZE, text_dim=SIZE)
        yield from within(self, text_length=SIZE, time_dim=SIZE, patch=_PATCH, patch_t=_PATCH, base_frames=SIZE)
        yield from within(self, base_height=SIZE, base_width=SIZE)
        yield from within(self, spatial_interpolation=_INTERPOLATION, temporal_interpolation=_INTERPOLATION)
        yield from one_of(self, position=("sincos", "rope", "rope_slice"))
        if self.layers % 2:
            yield "layers", self.layers, "even: blocks are scanned in pairs (adapted even, plain odd)"
        if self.position.startswith("rope") and self.head_dim % 16:
            yield (
                "head_dim",
                self.head_dim,
                "a multiple of 16 with rotary positions (1/4 time, 3/8 height, 3/8 width, in pairs)",
            )
        if self.position == "sincos" and self.width % 16:
            yield "heads", self.heads, f"heads * head_dim a multiple of 16 with sincos positions, not {self.width}"


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The face branch and the cross-modal adapter (METHOD 2, 3). The four switches are the ablations of table 3."""

    enabled: bool = True
    identity_branch: bool = True  # ID perceiver, eq. 3, and its fusion into the text, eq. 5
    structural_branch: bool = True  # face perceiver, eq. 4: face tokens in the joint and the cross attention, eq. 8
    face_modulation: bool = True  # phi_face, eq. 6; without it face tokens use the text's factors, CAN's part included
    can: bool = True  # conditioned adaptive normalization, eq. 7; needs the identity branch
    id_dim: int = 512  # ArcFace embedding
    clip_dim: int = 1024  # patch features of the face picture
    clip_tokens: int = 257
    perceiver_width: int = 2048
    perceiver_depth: int = 4
    perceiver_head_dim: int = 128
    id_tokens: int = 2
    queries: int = 32  # face tokens for each reference picture
    can_condition_dim: int = 512  # c1, width of the global projection of x_id
    can_hidden: int = 512

    def problems(self):
        yield from within(self, id_dim=SIZE, clip_dim=SIZE, clip_tokens=SIZE, perceiver_width=SIZE)
        yield from within(self, perceiver_depth=LAYERS, perceiver_head_dim=SIZE, id_tokens=SIZE, queries=SIZE)
        yield from within(self, can_condition_dim=SIZE, can_hidden=SIZE)

        if self.perceiver_head_dim > 0 and self.perceiver_width % self.perceiver_head_dim:
            yield (
                "perceiver_width",
                self.perceiver_width,
                f"a multiple of perceiver_head_dim = {self.perceiver_head_dim}",
            )
        if self.can and not self.identity_branch:
            yield "can", self.can, "False when identity_branch is False: CAN is conditioned on its tokens"
        if self.enabled and not (self.identity_branch or self.structural_branch):
            yield "enabled", self.enabled, "False when both identity_branch and structural_branch are False"


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """What lies between pixels and latents. `pixel` only scales uint8 to [-1, 1]; `cogvideox` is the published VAE."""

    name: str = "cogvideox"  # pixel | cogvideox
    weights: str = free("")  # folder of a converted VAE; only what encodes or decodes pixels needs it

    @property
    def spatial(self) -> int:
        """Pixels for a latent pixel, each side."""
        return {"pixel": 1, "cogvideox": 8}[self.name]

    @property
    def temporal(self) -> int:
        """Frames for a latent frame, after the first, which has one of its own."""
        return {"pixel": 1, "cogvideox": 4}[self.name]

    @property
    def channels(self) -> int:
        return {"pixel": 3, "cogvideox": 16}[self.name]

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(T, h, w, C) for a video of `frames` x `height` x `width` pixels."""
        return (frames - 1) // self.temporal + 1, height // self.spatial, width // self.spatial, self.channels

    def problems(self):
        yield from one_of(self, name=("pixel", "cogvideox"))


@dataclasses.dataclass(frozen=True)
class VAE:
    """The CogVideoX video autoencoder (METHOD 1). Defaults are the 5B model's."""

    latent_channels: int = 16
    channels: tuple[int, ...] = (128, 256, 256, 512)  # of the levels, from pixels to latents
    resnets: int = 3  # of an encoder level; a decoder level has one more
    norm_groups: int = 32
    temporal_compression: int = 4  # a power of two: one halving a level, first levels first
    scaling_factor: float = 0.7  # latents of the diffusion model = scaling_factor * latents of the VAE; 2B: 1.15258426
    sample_height: int = 480  # pixels; a tile of the tiled encoder and decoder has half of each
    sample_width: int = 720
    invert_scale: bool = False  # 1.5: of the picture given to an image-to-video model; video latents are the same

    @property
    def spatial_compression(self) -> int:
        """Pixels for a latent pixel, each side."""
        return 2 ** (len(self.channels) - 1)

    def problems(self):
        yield from within(self, latent_channels=SIZE, channels=SIZE, resnets=LAYERS, norm_groups=SIZE)
        yield from within(self, temporal_compression=SIZE, sample_height=SIZE, sample_width=SIZE)
        yield from within(self, scaling_factor=Number(float, 0, 1000, above=True))

        if len(self.channels) > 16:
            yield "channels", self.channels, "at most 16 levels"
        if self.temporal_compression not in [2**n for n in range(len(self.channels))]:
            allowed = ", ".join(str(2**n) for n in range(len(self.channels)))
            yield "temporal_compression", self.temporal_compression, f"one of {allowed}"
        if not self.channels or self.norm_groups > 0 and any(each % self.norm_groups for each in self.channels):
            yield "channels", self.channels, f"multiples of norm_groups = {self.norm_groups}"


@dataclasses.dataclass(frozen=True)
class Model:
    """What weights are of: the settings that decide their shapes and what they mean."""

    transformer: Transformer = Transformer()
    adapter: Adapter = Adapter()
