"""An ONNX recognition network as a record, and the pure function that runs it.

ArcFace models come in families (IResNet-50 and -100, MobileFaceNet) that are published as ONNX graphs of the same dozen
operators. The graph is data here: it serves every member without a hand-written network for each, is differentiable,
and traces under jit like any other function. `mmjax.conversion.arcface` reads it from a file.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mmjax.models.arcface.operators import OPERATORS, PRODUCTS, parameter_names
from mmjax.trees import Tree, flatten, unflatten
from mmjax.validation import one_of, positive

_KINDS = ("INT", "INTS", "FLOAT", "STRING")


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A named setting of a node. `kind` is ONNX's name of its type, which says which of the fields holds it."""

    name: str = ""
    kind: str = "INT"  # INT | INTS | FLOAT | STRING
    ints: tuple[int, ...] = ()
    number: float = 0.0
    text: str = ""

    @property
    def value(self) -> int | tuple[int, ...] | float | str:
        if self.kind == "INT":
            return self.ints[0]
        return {"INTS": self.ints, "FLOAT": self.number, "STRING": self.text}[self.kind]

    def problems(self):
        yield from one_of(self, kind=_KINDS)
        if self.kind == "INT" and len(self.ints) != 1:
            yield "ints", self.ints, "one number for an INT"


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation. Inputs are names: the picture's, other nodes' outputs', weights', constants', or "" for none."""

    op: str = "Identity"
    inputs: tuple[str, ...] = ()
    output: str = ""
    attributes: tuple[Attribute, ...] = ()

    def problems(self):
        if self.op not in OPERATORS:
            yield "op", self.op, f"one of {', '.join(OPERATORS)}"
            return
        known = parameter_names(self.op)
        for attribute in self.attributes:
            if attribute.name not in known:
                yield "attributes", attribute.name, f"one that {self.op} has here: {', '.join(known)}"


@dataclasses.dataclass(frozen=True)
class Weight:
    """A float tensor of the file: its name and shape there and its path in the parameter tree."""

    name: str = ""
    path: str = ""
    shape: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Constant:
    """A tensor of whole numbers: sizes, axes, indices, switches."""

    name: str = ""
    dtype: str = "int64"  # int64 | int32 | bool
    shape: tuple[int, ...] = ()
    ints: tuple[int, ...] = ()

    @property
    def value(self) -> np.ndarray:
        return np.array(self.ints, self.dtype).reshape(self.shape)

    def problems(self):
        yield from one_of(self, dtype=("int64", "int32", "bool"))


@dataclasses.dataclass(frozen=True)
class OnnxGraph:
    """A network from one square RGB picture to one embedding."""

    nodes: tuple[Node, ...] = ()
    weights: tuple[Weight, ...] = ()
    constants: tuple[Constant, ...] = ()
    input: str = "input"
    output: str = "output"
    side: int = 112  # pixels
    normalise: bool = True  # the graph takes (x - 127.5) / 127.5; False: it takes 0..255 and scales them itself
    opset: int = 11  # version of the operators' meaning; kept for writing the file again

    def problems(self):
        yield from positive(self, "side", "opset")


def apply(
    graph: OnnxGraph,
    params: Tree,
    pictures: Float[Array, "n side side 3"] | UInt8[Array, "n side side 3"],
    dtype: jnp.dtype = jnp.float32,
) -> Float[Array, "n width"]:
    """Raw embeddings, float32, of aligned RGB pictures with values 0..255; not of length one.

    Convolutions and matrix products multiply in `dtype` and add in float32; everything else is float32. The graph runs
    on one picture and is mapped over n, because exported graphs may have a batch of one baked into their reshapes.
    Raises `ValueError` for pictures of another size.
    """
    size = (graph.side, graph.side, 3)
    if pictures.ndim != 4 or pictures.shape[1:] != size:
        raise ValueError(f"pictures {list(pictures.shape)}: expected [n, {graph.side}, {graph.side}, 3], aligned faces")
    leaves = {path: jnp.asarray(leaf, jnp.float32) for path, leaf in flatten(params).items()}
    values = {weight.name: leaves[weight.path].reshape(weight.shape) for weight in graph.weights}
    values |= {constant.name: constant.value for constant in graph.constants}
    x = jnp.asarray(pictures, jnp.float32)
    if graph.normalise:
        x = (x - 127.5) / 127.5
    return jax.vmap(functools.partial(_run, graph, values, dtype))(x.transpose(0, 3, 1, 2))


def abstract_params(graph: OnnxGraph) -> Tree:
    """The parameter tree that `apply` takes, as shapes. A scalar is a vector of one."""
    shapes = {weight.path: weight.shape or (1,) for weight in graph.weights}
    return unflatten({path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()})


@functools.cache
def output_shape(graph: OnnxGraph) -> tuple[int, ...]:
    """Shape of what `apply` gives for one picture: (1, width). Tracing raises what a graph that cannot run raises."""
    picture = jax.ShapeDtypeStruct((1, graph.side, graph.side, 3), jnp.float32)
    return jax.eval_shape(functools.partial(apply, graph), abstract_params(graph), picture).shape


def _run(graph: OnnxGraph, values: dict[str, Array], dtype: jnp.dtype, picture: Float[Array, "3 h w"]) -> Array:
    values = values | {graph.input: picture[None]}
    for node in graph.nodes:
        inputs = [values[name] if name else None for name in node.inputs]
        if node.op in PRODUCTS:
            inputs[:2] = [each.astype(dtype) for each in inputs[:2]]
        try:
            settings = {each.name: each.value for each in node.attributes}
            values[node.output] = OPERATORS[node.op](*inputs, **settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{node.op} that makes {node.output}: {error}") from error
    return values[graph.output][0]
