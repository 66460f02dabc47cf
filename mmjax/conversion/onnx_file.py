"""Face recognition networks in ONNX files: reading one into a graph record and its tensors, and writing it again.

The `onnx` package, which insightface depends on, is needed here and nowhere else in mmjax; running a network that was
read or converted needs JAX alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mmjax.conversion.output_folder import NOTICE
from mmjax.conversion.safetensors_io import is_lfs_pointer
from mmjax.errors import ConversionError
from mmjax.models.arcface.graph import Attribute, Constant, Node, OnnxGraph, Weight, output_shape
from mmjax.models.arcface.operators import OPERATORS, parameter_names

SIDE = 112  # pixels of an aligned face
_FLOATS = ("float32", "float16")
_WHOLE = ("int64", "int32", "bool")
_MXNET_HEAD = 8  # nodes at the start of a graph among which insightface looks for the scaling of pixels


def read_onnx(path: str | Path) -> tuple[OnnxGraph, dict[str, np.ndarray]]:
    """The network of an ONNX file: its graph, and its float tensors by the names that they have in the file.

    Raises `ConversionError` for what is not a sound ONNX file of a float32 or float16 recogniser of 112 x 112 pixels.
    """
    path = Path(path)
    model = load(path)
    check_is_recogniser(model.graph, path)
    tensors = {tensor.name: _array(tensor, path) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant" and not node.domain:
            tensors[node.output[0]] = _constant(node, path)
        else:
            nodes.append(node)
    _check_operators(nodes, tensors, path)
    graph = OnnxGraph(
        nodes=tuple(_node(node, path) for node in nodes),
        input=_inputs(model.graph)[0].name,
        output=model.graph.output[0].name,
        side=SIDE,
        normalise=not _scales_pixels(nodes),
        opset=next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
    )
    floats, constants = _parted(graph.nodes, tensors, path)
    weights = tuple(Weight(name, where, floats[name].shape) for name, where in _paths(graph.nodes, floats).items())
    graph = dataclasses.replace(graph, weights=weights, constants=constants)
    _check_runs(graph, path)
    return graph, floats


def write_onnx(graph: OnnxGraph, tensors: Mapping[str, np.ndarray], path: str | Path) -> None:
    """The inverse of `read_onnx`: a file that onnxruntime runs. The graph's batch is left open.

    Reading it again gives the same graph and the same tensors, bit for bit. bfloat16 tensors become float32, in which
    they have the same values.
    """
    onnx = _onnx()
    half = all(values.dtype == np.float16 for values in tensors.values())
    tensors = {name: values if half else np.asarray(values, np.float32) for name, values in tensors.items()}
    tensors |= {constant.name: constant.value for constant in graph.constants}
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        [_published_node(node, f"{node.op}_{number}") for number, node in enumerate(graph.nodes)],
        "recogniser",
        [value(graph.input, kind, ["n", 3, graph.side, graph.side])],
        [value(graph.output, kind, ["n", *output_shape(graph)[1:]])],
        [onnx.numpy_helper.from_array(np.asarray(values, order="C"), name) for name, values in tensors.items()],
    )
    opset = onnx.helper.make_opsetid("", graph.opset)
    onnx.save(onnx.helper.make_model(body, opset_imports=[opset], ir_version=8, producer_name=NOTICE), str(path))


def _onnx():
    try:
        import onnx
    except ImportError as error:
        raise ConversionError("ONNX files need the `onnx` package: pip install onnx") from error
    return onnx


def load(path: Path, external: bool = True):
    """The parsed file, with the tensors that it keeps in other files when `external`."""
    onnx = _onnx()
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; expected an ONNX file such as w600k_r50.onnx")
    if is_lfs_pointer(path):
        raise ConversionError(
            f"{path}: expected an ONNX file, found a git-lfs pointer of {path.stat().st_size} bytes. "
            "Run `git lfs install && git lfs pull` in the clone, or download the file itself"
        )
    again = "Download it again"
    data = path.read_bytes()
    if data[:1] != b"\x08":  # the tag of ir_version, which every writer puts first
        raise ConversionError(f"{path}: expected an ONNX file, found {data[:8]!r} at its start. {again}")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whose place in the package changes between releases
        raise ConversionError(f"{path}: damaged, or cut short at {len(data):,} bytes. {again}") from error
    if not model.graph.node or not model.opset_import:
        raise ConversionError(f"{path}: damaged, or cut short at {len(data):,} bytes: no graph. {again}")
    if external:
        _load_external(onnx, model, path)
    return model


def _load_external(onnx, model, path: Path) -> None:
    lost = [file.name for file in external_files(model, path) if not file.is_file()]
    if lost:
        raise ConversionError(
            f"{path}: keeps weights in {', '.join(lost)}, which is not beside it. Put it there under that name"
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: its external data cannot be read ({error}). Download both again") from error


def external_files(model, path: Path) -> tuple[Path, ...]:
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    return tuple(path.parent / name for name in sorted({each.value for each in entries if each.key == "location"}))


def _inputs(graph) -> list:
    """Inputs that are not weights; old files list those as inputs too."""
    weights = {tensor.name for tensor in graph.initializer}
    return [each for each in graph.input if each.name not in weights]


def _dims(value) -> list[int | str]:
    return [dim.dim_value if dim.HasField("dim_value") else "?" for dim in value.type.tensor_type.shape.dim]


def check_is_recogniser(graph, path: Path) -> None:
    inputs, outputs = [_dims(each) for each in _inputs(graph)], [_dims(each) for each in graph.output]
    if len(inputs) == len(outputs) == 1 and inputs[0][1:] == [3, SIDE, SIDE] and len(outputs[0]) in (0, 2):
        return
    sizes = f"inputs {inputs or 'none'} and {len(outputs)} outputs {outputs}".replace("'", "")
    kind = "a face detector, it seems" if len(outputs) >= 6 else "another kind of network"
    raise ConversionError(
        f"{path}: expected a face recogniser, with input [n, 3, {SIDE}, {SIDE}] and output [n, width]; found {sizes}: "
        f"{kind}. The recogniser of a model pack is w600k_r50.onnx, w600k_mbf.onnx, glintr100.onnx or the like"
    )


def _check_operators(nodes: list, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    found = {(f"{node.domain}::" if node.domain not in ("", "ai.onnx") else "") + node.op_type for node in nodes}
    unknown = sorted(found - set(OPERATORS))
    small = sorted(name for name, values in tensors.items() if values.dtype in (np.int8, np.uint8))
    if small or any("Quant" in name or "QLinear" in name or name.endswith("Integer") for name in unknown):
        raise ConversionError(
            f"{path}: a quantised model ({', '.join(unknown + small[:1])}); take the original one, float32 or float16"
        )
    if unknown:
        known = ", ".join(OPERATORS)
        raise ConversionError(f"{path}: uses {', '.join(unknown)}, which mmjax does not run. It runs {known}")


def _array(tensor, path: Path) -> np.ndarray:
    try:
        values = _onnx().numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises TypeError, ValueError and errors of its own for what it cannot decode
        raise ConversionError(f"{path}: {tensor.name} is damaged ({error}). Download the file again") from error
    return values


def _constant(node, path: Path) -> np.ndarray:
    value = _onnx().helper.get_attribute_value(node.attribute[0])
    name = node.attribute[0].name
    if name == "value":
        return _array(value, path)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    raise ConversionError(f"{path}: the constant {node.output[0]} is given as {name}: expected numbers")


def _node(node, path: Path) -> Node:
    attributes = tuple(_attribute(each, node, path) for each in sorted(node.attribute, key=lambda each: each.name))
    return Node(node.op_type, tuple(node.input), node.output[0], attributes)


def _attribute(attribute, node, path: Path) -> Attribute:
    kind = _onnx().AttributeProto.AttributeType.Name(attribute.type)
    if attribute.name not in parameter_names(node.op_type) or kind not in ("INT", "INTS", "FLOAT", "STRING"):
        known = ", ".join(parameter_names(node.op_type))
        raise ConversionError(
            f"{path}: {node.op_type} {node.name} has {attribute.name} ({kind}), which mmjax does not know; "
            f"it knows {known}"
        )
    values = {"INT": {"ints": (attribute.i,)}, "INTS": {"ints": tuple(attribute.ints)}}
    values |= {"FLOAT": {"number": attribute.f}, "STRING": {"text": attribute.s.decode()}}
    return Attribute(attribute.name, kind, **values[kind])


def _published_node(node: Node, name: str):
    onnx = _onnx()
    made = onnx.helper.make_node(node.op, list(node.inputs), [node.output], name=name)
    for each in node.attributes:
        kind = onnx.AttributeProto.AttributeType.Value(each.kind)
        made.attribute.append(onnx.helper.make_attribute(each.name, each.value, attr_type=kind))
    return made


def _scales_pixels(nodes: list) -> bool:
    """Whether the graph scales pixels itself, by the sign that insightface goes by: a Sub and a Mul at its start."""
    head = {node.op_type for node in nodes[:_MXNET_HEAD]}
    return {"Sub", "Mul"} <= head


def _parted(
    nodes: tuple[Node, ...], tensors: Mapping[str, np.ndarray], path: Path
) -> tuple[dict[str, np.ndarray], tuple[Constant, ...]]:
    """(float tensors, constants) that nodes read."""
    read = {name for node in nodes for name in node.inputs}
    used = {name: values for name, values in tensors.items() if name in read}
    strange = {name: str(each.dtype) for name, each in used.items() if str(each.dtype) not in (*_FLOATS, *_WHOLE)}
    if strange:
        name, dtype = next(iter(strange.items()))
        raise ConversionError(f"{path}: {name} is {dtype}: expected float32 or float16. Take the original model")
    whole = {name: values for name, values in used.items() if str(values.dtype) in _WHOLE}
    constants = tuple(
        Constant(name, str(each.dtype), each.shape, tuple(int(value) for value in each.ravel()))
        for name, each in whole.items()
    )
    return {name: values for name, values in used.items() if name not in whole}, constants


def _paths(nodes: tuple[Node, ...], floats: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The path of each tensor in the parameter tree: the first node that reads it, and as what."""
    paths: dict[str, str] = {}
    for number, node in enumerate(nodes):
        for name, role in zip(node.inputs, _roles(node), strict=False):
            if name in floats:
                paths.setdefault(name, f"{node.op.lower()}_{number:03d}/{role}")
    return paths


def _roles(node: Node) -> Iterator[str]:
    if node.op == "Concat":
        return (f"input_{i}" for i in range(len(node.inputs)))
    return iter(parameter_names(node.op))


def _check_runs(graph: OnnxGraph, path: Path) -> None:
    """Traces the network once, so that what cannot run is refused here and not in a training step."""
    try:
        shape = output_shape(graph)
    except KeyError as error:
        raise ConversionError(f"{path}: damaged: no node makes {error}, which another one reads") from error
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{path}: the graph does not run in mmjax: {error}") from error
    if len(shape) != 2:
        raise ConversionError(f"{path}: expected an embedding [n, width], found {list(shape)}: no recogniser")
