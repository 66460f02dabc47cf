"""Patches of a portrait's latents, in the place of CLIP's patch features (METHOD 2): what small experiments can train.

An experiment that trains its own autoencoder has a network that looks at faces, though no CLIP: the encoder of that
autoencoder. Its latents of the portrait, 2 x 2 of them a token, go through two fixed random projections with a fixed
random place vector each, as those of `mmjax.encoders.placeholders.SeededPatches`: one for the ID perceiver, one for the
face perceiver. What a token shows was trained, on pixels and not on meaning; how tokens are laid out was not.

NumPy only: which features are expected is known without a network.
"""

from typing import Self

from mmjax.config import Experiment
from mmjax.encoders.interface import reference_side
from mmjax.encoders.placeholders import SeededPatches
from mmjax.errors import ConfigError

_PATCH = 2  # latent pixels a side of a token's patch
_CHANNELS, _SPATIAL = 16, 8  # of the CogVideoX autoencoder


class LatentPatches(SeededPatches):
    """Tokens of latents; see `mmjax.encoders.photographs.ArcFaceVAEEncoder`, which has the networks.

    Width is free; with 64 or more a projection loses nothing of a patch's 2 x 2 x 16 numbers.
    """

    kind = "latent_patches"
    inputs = _PATCH * _PATCH * _CHANNELS

    @classmethod
    def of(cls, config: Experiment) -> Self:
        """The one of an experiment's sizes and seed.

        Raises `ConfigError` for a number of tokens that is not the portrait's, 1 + (side / 16)^2.
        """
        tokens, side = config.model.adapter.clip_tokens, reference_side(config)
        expected = 1 + (side // (_PATCH * _SPATIAL)) ** 2
        if tokens != expected:
            raise ConfigError(
                f"model.adapter.clip_tokens = {tokens}: expected {expected} with encoders.face = arcface_vae, a token "
                f"for each 16 x 16 pixels of a portrait of {side} x {side} and one for the whole"
            )
        return super().of(config)
