"""The table of face recognition networks as insightface publishes them: one ONNX file with graph and weights.

Serves IResNet-50 and -100 (`w600k_r50.onnx` of buffalo_l, `glintr100.onnx` of antelopev2), MobileFaceNet
(`w600k_mbf.onnx` of buffalo_s) and others of the same operators; their weights are for non-commercial research.

The configuration record is the graph itself (`mmjax.models.arcface.graph.OnnxGraph`), so a table is made for each file:
one row for each float tensor, its layout unchanged (a scalar is a vector of one in the tree). A tensor's path is the
first node that reads it and what it is there, `conv_000/weight`, `prelu_001/slope`, `batchnormalization_097/variance`:
operator, number of the node in the file, and the parameter's name in `mmjax.models.arcface.operators`. `Constant` nodes
become constants or weights and are not counted; tensors that no node reads are left out.
"""

import dataclasses
from pathlib import Path
from typing import Any

from mmjax.conversion import onnx_file
from mmjax.conversion.component import Component
from mmjax.conversion.engine import Row, assemble, identity, scalar
from mmjax.conversion.soundness import checked
from mmjax.conversion.source import Source
from mmjax.errors import ConfigError, ConversionError
from mmjax.models.arcface.graph import OnnxGraph, abstract_params
from mmjax.trees import Tree, unflatten
from mmjax.validation import validated_record


def read_config(published: dict[str, Any], what: str) -> OnnxGraph:
    """A graph from the JSON of `write_config`. Raises `ConversionError` that names each fault."""
    try:
        return validated_record(OnnxGraph, published)
    except ConfigError as error:
        raise ConversionError(f"{what}: expected the graph of a recogniser: {error}") from error


def write_config(graph: OnnxGraph) -> dict[str, Any]:
    """The graph as plain JSON values."""
    return dataclasses.asdict(graph)


def table(graph: OnnxGraph) -> list[Row]:
    """One row for each float tensor of the graph; layouts stay ONNX's."""
    return [Row(weight.name, weight.path, identity if weight.shape else scalar) for weight in graph.weights]


def abstract_arcface(graph: OnnxGraph) -> Tree:
    """The parameter tree as shapes. No leaf has logical axes: the network is small, and every device holds it whole."""
    return abstract_params(graph)


def open_onnx(source: str) -> Source:
    """Opens an ONNX file, or the only recogniser in the folder of an insightface model pack, for conversion."""
    path = recogniser_file(Path(source))
    graph, tensors = onnx_file.read_onnx(path)
    files = (path, *onnx_file.external_files(onnx_file.load(path, external=False), path))
    return Source(path.name, graph, tensors, tensors.__getitem__, files)


def read_params(source: Source) -> Tree:
    """The parameter tree of an opened source, as numpy arrays in the file's dtypes; nothing is written."""
    leaves, read = COMPONENT.leaves(source.config), checked(source.read)
    return unflatten({leaf.path: assemble(leaf, read, source.tensors[leaf.keys[0]].dtype) for leaf in leaves})


def recogniser_file(source: Path) -> Path:
    """The file itself, or a folder's only recogniser, by its graph. Raises `ConversionError` for none or several."""
    if not source.is_dir():
        return source
    found, refused = [], []
    for file in sorted(source.glob("*.onnx")):
        try:
            onnx_file.check_is_recogniser(onnx_file.load(file, external=False).graph, file)
            found.append(file)
        except ConversionError as error:
            refused.append(f"  {error}")
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found) or "none"
    raise ConversionError("\n".join([f"{source}: expected one recogniser among its *.onnx, found {names}", *refused]))


COMPONENT = Component(
    name="arcface",
    record=OnnxGraph,
    open=open_onnx,
    published_config=write_config,
    abstract=abstract_arcface,
    rows=table,
    summary="a face recognition network: insightface's .onnx file, or the folder of its model pack",
    stem="recogniser.onnx",
    write=onnx_file.write_onnx,
)
