"""Recognisers that take aligned faces, in batches of few sizes: what ArcFace and EdgeFace share."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, UInt8

from mmjax import config as c
from mmjax import sharding
from mmjax.encoders.batching import run_in_batches

_SIZES = (5, 16, 64)  # faces seen at once, a program each: those of a checked picture, of a clip, and a full batch


def in_batches(
    network: Callable[[UInt8[np.ndarray, "n 112 112 3"]], Float[np.ndarray, "n width"]],
    aligned: UInt8[np.ndarray, "n 112 112 3"],
) -> Float[np.ndarray, "n width"]:
    """A compiled network's embeddings of one face or more, whatever mesh is in use around it.

    As many at a time as the largest of 5, 16 and 64 that can be filled; the rest is filled up to one of these, so that
    three shapes are compiled at most. 49 faces are 16, 16, 16 and 5: 1.4 s of one core with w600k_mbf, 1.8 as 64.
    """
    batch = next((size for size in _SIZES[::-1] if size <= len(aligned)), _SIZES[0])
    with sharding.use_mesh(sharding.make_mesh(c.Mesh(), jax.local_devices()[:1])):
        return run_in_batches(network, aligned, batch, lambda rows: next(size for size in _SIZES if rows <= size))
