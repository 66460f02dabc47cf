"""Sizes of the published encoders round the transformer, as frozen records: T5, CLIP, PhotoMaker.

They are what a converted folder says of its weights; an experiment names the folder and not the sizes. Those of the
VAE, which an experiment may train, stand in `mmjax.model_settings`.
"""

import dataclasses

from mmjax.model_settings import LAYERS, SIZE
from mmjax.validation import Number, one_of, within

_EPSILON = Number(float, 0, 1, above=True)


@dataclasses.dataclass(frozen=True)
class T5:
    """A T5 v1.1 encoder (METHOD 1). Defaults are the XXL model's."""

    layers: int = 24
    width: int = 4096
    heads: int = 64
    head_dim: int = 64
    hidden: int = 10240
    vocabulary: int = 32128
    buckets: int = 32  # of relative positions
    max_distance: int = 128  # tokens, beyond which all distances share a bucket
    norm_eps: float = 1e-6

    def problems(self):
        yield from within(self, layers=LAYERS, width=SIZE, heads=SIZE, head_dim=SIZE, hidden=SIZE, vocabulary=SIZE)
        yield from within(self, buckets=SIZE, max_distance=SIZE, norm_eps=_EPSILON)


@dataclasses.dataclass(frozen=True)
class CLIPVision:
    """A CLIP vision tower (METHOD 2). Defaults are ViT-L/14's at 224 pixels."""

    layers: int = 24
    width: int = 1024
    heads: int = 16
    hidden: int = 4096
    side: int = 224  # pixels of the square picture
    patch: int = 14
    activation: str = "quick_gelu"  # quick_gelu | gelu
    norm_eps: float = 1e-5

    @property
    def tokens(self) -> int:
        """Patches and the class token, which stands first."""
        return (self.side // self.patch) ** 2 + 1

    def problems(self):
        yield from within(self, layers=LAYERS, width=SIZE, heads=SIZE, hidden=SIZE, side=SIZE, patch=SIZE)
        yield from within(self, norm_eps=_EPSILON)
        yield from one_of(self, activation=("quick_gelu", "gelu"))
        if self.patch > 0 and self.side % self.patch:
            yield "side", self.side, f"a multiple of patch = {self.patch}"
        if self.heads > 0 and self.width % self.heads:
            yield "width", self.width, f"a multiple of heads = {self.heads}"


@dataclasses.dataclass(frozen=True)
class CLIPText:
    """A CLIP text tower. Defaults are ViT-L/14's; ViT-B's is 512 wide, of 8 heads and a hidden width of 2048."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    vocabulary: int = 49408
    length: int = 77  # tokens of a text, padding included
    end_token: int = 49407  # at which the text is read out
    activation: str = "quick_gelu"  # quick_gelu | gelu
    norm_eps: float = 1e-5

    def problems(self):
        yield from within(self, layers=LAYERS, width=SIZE, heads=SIZE, hidden=SIZE, vocabulary=SIZE, length=SIZE)
        yield from within(self, norm_eps=_EPSILON)
        yield from one_of(self, activation=("quick_gelu", "gelu"))
        if self.heads > 0 and self.width % self.heads:
            yield "width", self.width, f"a multiple of heads = {self.heads}"
        if not 0 <= self.end_token < self.vocabulary:
            yield "end_token", self.end_token, f"a token below vocabulary = {self.vocabulary}"


@dataclasses.dataclass(frozen=True)
class CLIP:
    """CLIP with both of its towers, which meet in a space of `projection` numbers. Defaults are ViT-L/14's."""

    vision: CLIPVision = CLIPVision()
    text: CLIPText = CLIPText()
    projection: int = 768

    def problems(self):
        yield from within(self, projection=SIZE)


@dataclasses.dataclass(frozen=True)
class PhotoMaker:
    """PhotoMaker V2's ID encoder (METHOD 2): CLIP tower and ID perceiver. Defaults are the published model's."""

    clip: CLIPVision = CLIPVision()
    id_dim: int = 512  # ArcFace embedding
    id_tokens: int = 2
    width: int = 2048  # of the perceiver
    depth: int = 4
    head_dim: int = 128

    @property
    def adapter_settings(self) -> dict[str, int]:
        """The settings of `mmjax.config.Adapter` that these weights fix."""
        return {
            "id_dim": self.id_dim,
            "clip_dim": self.clip.width,
            "clip_tokens": self.clip.tokens,
            "id_tokens": self.id_tokens,
            "perceiver_width": self.width,
            "perceiver_depth": self.depth,
            "perceiver_head_dim": self.head_dim,
        }

    def problems(self):
        yield from within(self, id_dim=SIZE, id_tokens=SIZE, width=SIZE, depth=LAYERS, head_dim=SIZE)

        if self.head_dim > 0 and self.width % self.head_dim:
            yield "width", self.width, f"a multiple of head_dim = {self.head_dim}"
