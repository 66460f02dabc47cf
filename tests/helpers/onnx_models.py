"""ONNX recognition networks with random weights, node for node as the published ones, and onnxruntime's answers.

The node sequences are those that insightface's exporter is known to give: batch normalizations that follow a
convolution are folded into it, the one that opens each residual block stays.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np

from mmjax.conversion import arcface, engine, onnx_file
from mmjax.trees import flatten

SIDE = 112
IRESNET50 = (3, 4, 14, 3)
IRESNET100 = (3, 13, 30, 3)
TRUE_WIDTHS = (64, 64, 128, 256, 512)


@dataclasses.dataclass
class Graph:
    """An ONNX graph in the making. Weights are drawn by `normal`; values are named as torch's exporter does."""

    seed: int = 0
    opset: int = 11
    half: bool = False

    def __post_init__(self):
        self.rng, self.nodes, self.tensors = np.random.default_rng(self.seed), [], {}

    def node(self, op, *inputs, **attributes):
        """Appends a node; arrays among the inputs become initializers. Returns its output's name."""
        from onnx import helper

        output = f"value_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.tensor(each) for each in inputs]
        self.nodes.append(helper.make_node(op, names, [output], f"{op}_{len(self.nodes)}", **attributes))
        return output

    def tensor(self, values):
        values = np.asarray(values)
        if values.dtype in (np.float32, np.float64):
            values = values.astype(np.float16 if self.half else np.float32)
        name = f"onnx::tensor.{len(self.tensors)}/weight"  # a name that is no path
        self.tensors[name] = values
        return name

    def normal(self, *shape, scale=1.0, shift=0.0):
        return self.rng.standard_normal(shape) * scale + shift

    def conv(self, x, inputs, outputs, window=3, stride=1, group=1, pad=None, gain=1.0):
        fan_in = inputs // group * window**2
        weight = self.normal(outputs, inputs // group, window, window, scale=gain / math.sqrt(fan_in))
        pads = [window // 2 if pad is None else pad] * 4
        sizes = dict(kernel_shape=[window] * 2, strides=[stride] * 2, pads=pads, dilations=[1, 1], group=group)
        return self.node("Conv", x, weight, self.normal(outputs, scale=0.1), **sizes)

    def norm(self, x, width):
        statistics = self.normal(width, scale=0.1), np.exp(self.normal(width, scale=0.2))
        scale, bias = self.normal(width, scale=0.1, shift=1.0), self.normal(width, scale=0.1)
        return self.node("BatchNormalization", x, scale, bias, *statistics, epsilon=1e-5, momentum=0.9)

    def prelu(self, x, width):
        return self.node("PRelu", x, self.normal(width, 1, 1, scale=0.1, shift=0.25))

    def gemm(self, x, inputs, outputs):
        weight = self.normal(outputs, inputs, scale=1 / math.sqrt(inputs))
        return self.node("Gemm", x, weight, self.normal(outputs, scale=0.1), alpha=1.0, beta=1.0, transB=1)

    def constant(self, values):
        from onnx import numpy_helper

        return self.node("Constant", value=numpy_helper.from_array(np.asarray(values)))

    def save(
        self, path: Path, output: str, width=None, *, side=SIDE, outputs=None, input_dims=None, listed=False
    ) -> Path:
        """Writes the file. `outputs` are (name, dims) where there are several; `listed`: weights are inputs as well."""
        import onnx
        from onnx import helper, numpy_helper

        kind = onnx.TensorProto.FLOAT16 if self.half else onnx.TensorProto.FLOAT
        info = helper.make_tensor_value_info
        inputs = [info("input.1", kind, input_dims or ["None", 3, side, side])]
        if listed:
            inputs += [info(name, kind, values.shape) for name, values in self.tensors.items()]
        outputs = outputs or [(output, [1, width])]
        body = helper.make_graph(
            self.nodes,
            "network",
            inputs,
            [info(name, kind, dims) for name, dims in outputs],
            [numpy_helper.from_array(values, name) for name, values in self.tensors.items()],
        )
        opset = helper.make_opsetid("", self.opset)
        onnx.save(helper.make_model(body, opset_imports=[opset], ir_version=8), str(path))
        return path


def iresnet(path, layers=IRESNET50, widths=TRUE_WIDTHS, features=512, seed=0, half=False) -> Path:
    """IResNet of `layers` residual blocks in its four stages: glintr100, w600k_r50. Defaults are IResNet-50's."""
    graph = Graph(seed, half=half)
    x = graph.prelu(graph.conv("input.1", 3, widths[0]), widths[0])
    before = widths[0]
    for blocks, width in zip(layers, widths[1:], strict=True):
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            y = graph.conv(graph.norm(x, before), before, width)
            y = graph.conv(graph.prelu(y, width), width, width, stride=stride, gain=0.5)
            skip = graph.conv(x, before, width, window=1, stride=2, pad=0) if block == 0 else x
            x, before = graph.node("Add", y, skip), width
    return graph.save(path, _head(graph, x, before, SIDE // 16, features), features)


def mobilefacenet(path, width=16, features=32, seed=0) -> Path:
    """MobileFaceNet in little: grouped and depthwise convolutions, a linear bottleneck, 7 x 7 global depthwise."""
    graph = Graph(seed)
    x = graph.prelu(graph.conv("input.1", 3, width, stride=2), width)
    x = graph.prelu(graph.conv(x, width, width, group=width // 2), width)
    for stride in (2, 1, 2, 1, 2):
        y = graph.prelu(graph.conv(x, width, 2 * width, window=1), 2 * width)
        y = graph.prelu(graph.conv(y, 2 * width, 2 * width, stride=stride, group=2 * width), 2 * width)
        y = graph.conv(y, 2 * width, width, window=1)
        x = y if stride == 2 else graph.node("Add", x, y)
    x = graph.conv(x, width, width, window=7, pad=0, group=width)
    x = graph.gemm(graph.node("Flatten", x, axis=1), width, features)
    return graph.save(path, graph.norm(x, features), features)


def mxnet_arcface(path, width=8, features=32, seed=0) -> Path:
    """The older exports: pixels are scaled by the graph, Dropout is left in, weights are listed as inputs."""
    graph = Graph(seed, opset=8)
    x = graph.node("Sub", "input.1", np.float32([127.5]))
    x = graph.node("Mul", x, np.float32([0.0078125]))
    x = graph.prelu(graph.norm(graph.conv(x, 3, width, stride=2), width), width)
    x = graph.conv(graph.norm(x, width), width, width, stride=2, gain=0.5)
    x = graph.node("Dropout", graph.norm(x, width), ratio=0.4)
    x = graph.gemm(graph.node("Flatten", x), width * 28 * 28, features)
    return graph.save(path, graph.norm(x, features), features, listed=True)


def newer_export(path, width=8, features=32, seed=0) -> Path:
    """What newer exporters write: shapes computed by nodes, squeeze-and-excitation, ReLU6, MatMul and Add."""
    graph = Graph(seed, opset=13)
    x = graph.conv("input.1", 3, width, stride=2)
    x = graph.node("Clip", x, graph.constant(np.float32(0.0)), graph.constant(np.float32(6.0)))
    squeezed = graph.node("Relu", graph.conv(graph.node("GlobalAveragePool", x), width, 4, window=1))
    x = graph.node("Mul", x, graph.node("Sigmoid", graph.conv(squeezed, 4, width, window=1)))
    x = graph.node("Div", graph.node("Identity", x), np.float32(2.0))
    x = graph.node("GlobalAveragePool", graph.conv(x, width, 2 * width, stride=4))
    batch = graph.node("Gather", graph.node("Shape", x), np.int64(0), axis=0)
    shape = graph.node("Concat", graph.node("Unsqueeze", batch, np.int64([0])), graph.constant(np.int64([-1])), axis=0)
    x = graph.node("Transpose", graph.node("Reshape", x, shape), perm=[1, 0])
    x = graph.node("Squeeze", graph.node("Unsqueeze", x, np.int64([0])), np.int64([0]))
    x = graph.node("Reshape", graph.node("Transpose", x, perm=[1, 0]), np.int64([1, -1]))  # a batch of one baked in
    x = graph.node("MatMul", x, graph.normal(2 * width, features))
    return graph.save(path, graph.node("Add", x, graph.normal(features)), features)


def onnxruntime_embeddings(path: Path, pictures: np.ndarray, normalise: bool = True) -> np.ndarray:
    """[n, width] of RGB pictures [n, 112, 112, 3] with values 0..255, one at a time, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    blobs = pictures.astype(np.float32).transpose(0, 3, 1, 2)
    blobs = (blobs - 127.5) / 127.5 if normalise else blobs
    blobs = blobs.astype(np.float16 if "float16" in session.get_inputs()[0].type else np.float32)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: blob[None]})[0] for blob in blobs]).astype(np.float32)


def save_onnx(network, path) -> None:
    """Writes a loaded `ArcFace` as an ONNX file that onnxruntime runs: the inverse of `load_arcface`, bit for bit.

    A bfloat16 weight becomes float32, in which it has the same value.
    """
    leaves, tensors = flatten(network.params), {}
    for leaf in arcface.COMPONENT.leaves(network.graph):
        tensors |= engine.take_apart(leaf, np.asarray(leaves[leaf.path]))
    onnx_file.write_onnx(network.graph, tensors, path)


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cosine of each row with its fellow, in float64."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def _head(graph: Graph, x: str, width: int, side: int, features: int) -> str:
    x = graph.node("Flatten", graph.norm(x, width), axis=1)
    return graph.norm(graph.gemm(x, width * side**2, features), features)
