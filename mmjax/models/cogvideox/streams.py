"""The token streams: text, video and face tokens stand in one sequence, each modulated by factors of its own."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmjax.nn.modulation import BlockMods, Mod

Rotary = tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]  # cosines and signed sines of each token


class StreamMods(NamedTuple):
    """Factors of every stream of a block. `face` is None where faces take no part: they pass by unchanged."""

    text: BlockMods
    video: BlockMods
    face: BlockMods | None = None


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Streams:
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

    @property
    def numbers(self) -> Int[np.ndarray, " n"]:
        """The stream of each token: text 0, video 1, face 2."""
        return np.repeat(np.arange(3), (self.text, self.video, self.face))

    def keys(self, mods: StreamMods) -> int:
        """How many of the first tokens a block with these factors attends to."""
        return self.base if mods.face is None else self.total

    def join(
        self, text: Float[Array, "b l d"], video: Float[Array, "b v d"], face: Float[Array, "b f d"] | None
    ) -> Float[Array, "b n d"]:
        """The sequence of the streams."""
        return jnp.concatenate([text, video] if face is None else [text, video, face], axis=1)

    def video_of(self, x: Float[Array, "b n d"]) -> Float[Array, "b v d"]:
        """The video tokens of the sequence."""
        return x[:, self.text : self.base]

    def face_of(self, x: Float[Array, "b n d"]) -> Float[Array, "b f d"]:
        """The face tokens of the sequence."""
        return x[:, self.base :]

    def rotary(self, cos: np.ndarray, sin: np.ndarray) -> Rotary:
        """The video tokens' table for the whole sequence: what carries no position turns by nothing."""
        around = ((self.text, self.face), (0, 0))
        return np.pad(cos, around, constant_values=1), np.pad(sin, around)

    def of_tokens(self, text: Mod, video: Mod, face: Mod | None) -> Mod:
        """Factors [b, n, d] of every token from those [b, d] of its stream; zero for faces that take no part."""
        face = jax.tree.map(jnp.zeros_like, text) if face is None else face
        return Mod(*(_of_tokens(jnp.stack(each, axis=1), self) for each in zip(text, video, face, strict=True)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _of_tokens(values: Float[Array, "b 3 d"], streams: Streams) -> Float[Array, "b n d"]:
    """Each token's own of the three values: one load a token, where a chain of selects makes three."""
    return values[:, streams.numbers]


def _summed(streams: Streams, _, gradient: Float[Array, "b n d"]) -> tuple[Float[Array, "b 3 d"]]:
    """By masks instead of cuts: of tokens that are spread over devices each sums its own, and only the sums travel."""
    own = (streams.numbers == np.arange(3)[:, None])[..., None]
    return (jnp.stack([jnp.where(mask, gradient, 0).sum(1) for mask in own], axis=1),)


_of_tokens.defvjp(lambda values, streams: (_of_tokens(values, streams), None), _summed)
