"""q_face and q_id: ArcFace embeddings of aligned faces, in JAX (METHOD 2, 4)."""

import dataclasses
import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax.conversion import arcface, engine, load_component, onnx_file, read_record
from mmjax.conversion.store import MANIFEST
from mmjax.models.onnx.graph import OnnxGraph, apply, output_shape
from mmjax.trees import Tree, flatten

_embed = jax.jit(apply, static_argnames=("graph", "dtype"))


@dataclasses.dataclass(frozen=True, eq=False)
class ArcFace:
    """A face recognition network with its weights.

    Inside a jitted step call `mmjax.models.onnx.graph.apply(arcface.graph, params, pictures, dtype)` with
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
    return ArcFace(graph, params, _fingerprint(graph, params), jnp.dtype(dtype))


def save_onnx(network: ArcFace, path: str | Path) -> None:
    """Writes a loaded network as an ONNX file that onnxruntime runs: the inverse of `load_arcface`, bit for bit.

    A bfloat16 weight becomes float32, in which it has the same value.
    """
    leaves, tensors = flatten(network.params), {}
    for leaf in arcface.COMPONENT.leaves(network.graph):
        tensors |= engine.take_apart(leaf, np.asarray(leaves[leaf.path]))
    onnx_file.write_onnx(network.graph, tensors, path)


def _fingerprint(graph: OnnxGraph, params: Tree) -> str:
    digest = hashlib.sha256(repr(graph).encode())
    for path, leaf in flatten(params).items():
        digest.update(f"{path} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"arcface/1 {digest.hexdigest()[:16]}"
