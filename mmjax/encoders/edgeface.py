"""Where EdgeFace runs: a small recogniser that conditions no published model, and so can judge all of them.

    network = load_edgeface("edgeface_xs_q_dequantized_fp32.safetensors")
    embeddings = network.in_batches(aligned)  # of `mmjax.faces.detection.align`

Measured on the 6,000 pairs of LFW (deep-funneled, faces by scrfd_500m at 320 pixels, aligned to 112): XS 99.50 +- 0.09
and XXS 99.50 +- 0.09 %, mean and standard error over the ten folds (tests/encoders/test_embedders.py), where 99.65 and
99.55 % are quoted for these weights; XS has 99.60 % when the embedding of the mirrored face is added. Red comes first:
with blue first it is 99.47 and 99.37 %, and two photos of one person are less alike (XS 0.62 for 0.64).
"""

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax.conversion.edgeface import read_edgeface
from mmjax.encoders.aligned_faces import in_batches
from mmjax.encoders.fingerprints import EDGEFACE, fingerprint, hash_leaves
from mmjax.models.edgeface import XS, XXS, EdgeFace, EdgeFaceSizes
from mmjax.trees import Tree, flatten

_NAMES = {XS: "edgeface_xs", XXS: "edgeface_xxs"}


@dataclasses.dataclass(frozen=True, eq=False)
class EdgeFaceNetwork:
    """An EdgeFace with its weights."""

    sizes: EdgeFaceSizes
    params: Tree
    fingerprint: str

    def __call__(self, pictures: UInt8[np.ndarray, "n 112 112 3"]) -> Float[Array, "n width"]:
        """Raw embeddings of aligned RGB faces. Compiles once for each n."""
        return _embed(self.sizes, self.params, pictures)

    def in_batches(self, aligned: UInt8[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n width"]:
        """The same of one face or more; see `mmjax.encoders.aligned_faces.in_batches`."""
        return in_batches(self, aligned)


def load_edgeface(path: str | os.PathLike) -> EdgeFaceNetwork:
    """Loads a published .safetensors file; weights lie on the first device. Raises `ConversionError` for another."""
    sizes, params = read_edgeface(Path(path))
    made_of = fingerprint(EDGEFACE, weights=hash_leaves(sizes, flatten(params)))
    return EdgeFaceNetwork(sizes, jax.device_put(params, jax.local_devices()[0]), made_of)


def published_name(sizes: EdgeFaceSizes) -> str:
    """The short name of a published EdgeFace of these sizes, "" for sizes that nobody published."""
    return _NAMES.get(sizes, "")


@jax.jit(static_argnames="sizes")
def _embed(sizes: EdgeFaceSizes, params: Tree, pictures: UInt8[Array, "n 112 112 3"]) -> Float[Array, "n width"]:
    return EdgeFace(sizes).apply({"params": params}, pictures)
