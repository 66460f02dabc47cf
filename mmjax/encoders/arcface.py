"""Where ArcFace runs: q_face and q_id, embeddings of aligned faces, in JAX (METHOD 2, 4).

A recogniser is published as an ONNX graph. `mmjax.models.arcface.graph.apply` interprets that graph operator by
operator as one JAX function, differentiable; this file loads graph and weights, compiles that function and calls it.
onnxruntime has no part in it.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax.conversion import arcface, load_component, read_record
from mmjax.conversion.store import MANIFEST
from mmjax.encoders.aligned_faces import in_batches
from mmjax.encoders.fingerprints import ARCFACE, fingerprint, hash_leaves
from mmjax.models.arcface.graph import OnnxGraph, apply, output_shape
from mmjax.trees import Tree, flatten

_embed = jax.jit(apply, static_argnames=("graph", "dtype"))


@dataclasses.dataclass(frozen=True, eq=False)
class ArcFace:
    """A face recognition network with its weights.

    Inside a jitted step call `mmjax.models.arcface.graph.apply(arcface.graph, params, pictures, dtype)` with
    `arcface.params` among the step's arguments; called directly there, the weights become constants of the program.
    """

    graph: OnnxGraph
    params: Tree
    fingerprint: str
    dtype: jnp.dtype = jnp.dtype("float32")  # of the products

    def __call__(
        self, pictures: Float[Array, "n 112 112 3"] | UInt8[np.ndarray, "n 112 112 3"]
    ) -> Float[Array, "n width"]:
        """Raw embeddings of aligned RGB faces with values 0..255. Compiles once for each n. Raises `ValueError`."""
        return _embed(self.graph, self.params, pictures, self.dtype)

    def in_batches(self, aligned: UInt8[np.ndarray, "n 112 112 3"]) -> Float[np.ndarray, "n width"]:
        """The same of one face or more; see `mmjax.encoders.aligned_faces.in_batches`."""
        return in_batches(self, aligned)

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return output_shape(self.graph)[1]


def load_arcface(path: str | Path, dtype: str = "float32") -> ArcFace:
    """Loads a network: a folder that `mmjax.convert arcface` wrote, an .onnx file, or the folder of a model pack.

    Weights lie on the first device. `dtype` ("float32" or "bfloat16") is that of the products; weights keep their own.
    The fingerprint is made of graph and weights, so it is the same by either way. Raises `ConversionError` or
    `CheckpointError` for what is no recogniser.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        read_record(path, arcface.COMPONENT.name)  # before the weights of some larger network are read
        graph, params = load_component(path)
    else:
        source = arcface.open_onnx(str(path))
        graph, params = source.config, arcface.read_params(source)
        params = jax.device_put(params, jax.local_devices()[0])
    made_of = fingerprint(ARCFACE, weights=hash_leaves(graph, flatten(params)))
    return ArcFace(graph, params, made_of, jnp.dtype(dtype))
