"""Recognition networks in JAX against onnxruntime, on random weights: operators, families, conversion, refusals."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import conversion
from mmjax.conversion import arcface, onnx_file
from mmjax.encoders.arcface import load_arcface
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.models.arcface.graph import OnnxGraph, apply
from mmjax.trees import flatten
from mmjax.validation import validated_record
from tests.helpers import onnx_models
from tests.helpers.onnx_models import Graph, cosines, onnxruntime_embeddings, save_onnx

onnx = pytest.importorskip("onnx", reason="comes with insightface, of requirements.txt")

THIN = functools.partial(onnx_models.iresnet, widths=(4, 4, 8, 8, 16), features=32)
MODELS = {
    "iresnet": functools.partial(THIN, layers=(2, 1, 2, 1)),
    "iresnet_half": functools.partial(THIN, layers=(1, 1, 1, 1), half=True),
    "mobilefacenet": onnx_models.mobilefacenet,
    "mxnet": onnx_models.mxnet_arcface,
    "newer": onnx_models.newer_export,
}
PICTURES = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), np.uint8)


def error(ours, theirs):
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("family", MODELS)
def test_embeddings_equal_onnxruntime(family, tmp_path):
    """float16 files are run in float32 here and in float16 there, which sets the tolerance."""
    path = MODELS[family](tmp_path / "model.onnx")
    found = load_arcface(path)(PICTURES)
    expected = onnxruntime_embeddings(path, PICTURES, normalise=family != "mxnet")
    print(f"{family}: max abs error / max abs output = {error(found, expected):.1e}")
    assert found.dtype == jnp.float32 and found.shape == expected.shape == (2, 32)
    assert error(found, expected) <= (1e-2 if "half" in family else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers,millions", [(onnx_models.IRESNET50, 43.6), (onnx_models.IRESNET100, 65.2)])
def test_true_depths_on_thin_layers(layers, millions, tmp_path):
    """Every node of IResNet-50 and -100; the parameters are counted at the true widths."""
    path = THIN(tmp_path / "thin.onnx", layers)
    found, expected = load_arcface(path)(PICTURES), onnxruntime_embeddings(path, PICTURES)
    print(f"IResNet {sum(layers)} blocks: max abs error / max abs output = {error(found, expected):.1e}")
    assert error(found, expected) <= 1e-5
    path = onnx_models.iresnet(tmp_path / "true.onnx", layers)
    graph, _ = onnx_file.read_onnx(path)
    path.unlink()  # up to 260 MB
    count = sum(math.prod(weight.shape) for weight in graph.weights)
    print(f"{count:,} parameters")
    assert round(count / 1e6, 1) == millions


@pytest.mark.slow
def test_iresnet_50_at_its_true_size(tmp_path):
    path = onnx_models.iresnet(tmp_path / "r50.onnx")
    network = load_arcface(path)
    found, expected = network(PICTURES), onnxruntime_embeddings(path, PICTURES)
    low = dataclasses.replace(network, dtype=jnp.dtype("bfloat16"))(PICTURES)
    print(f"IResNet-50: max abs error / max abs output = {error(found, expected):.1e}")
    print(f"IResNet-50, products of bfloat16: least cosine = {cosines(low, expected).min():.5f}")
    assert error(found, expected) <= 1e-5
    assert cosines(low, expected).min() >= 0.999


def test_products_in_bfloat16_stay_near(tmp_path):
    path = MODELS["iresnet"](tmp_path / "model.onnx")
    exact, low = load_arcface(path)(PICTURES), load_arcface(path, dtype="bfloat16")(PICTURES)
    print(f"products of bfloat16: least cosine = {cosines(low, exact).min():.5f}")
    assert low.dtype == jnp.float32
    assert 1e-6 < 1 - cosines(low, exact).min() < 1e-3  # the lower bound: bfloat16 was used at all


# The function


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_arcface(MODELS["mobilefacenet"](tmp_path_factory.mktemp("arcface") / "model.onnx"))


def test_gradients_are_finite_and_equal_finite_differences(network):
    target = np.random.default_rng(2).standard_normal((1, network.width)).astype(np.float32)
    picture = jnp.asarray(PICTURES[:1], jnp.float32)

    @jax.jit
    def score(picture):
        return (apply(network.graph, network.params, picture) * target).sum()

    gradient = np.asarray(jax.jit(jax.grad(score))(picture))
    assert np.isfinite(gradient).all() and (gradient != 0).mean() > 0.99
    for y, x, channel in [(30, 40, 0), (56, 56, 1), (80, 25, 2), (100, 90, 1)]:
        step = 1.0
        ends = [score(picture.at[0, y, x, channel].add(sign * step)) for sign in (1, -1)]
        measured = float(ends[0] - ends[1]) / (2 * step)
        assert gradient[0, y, x, channel] == pytest.approx(measured, rel=0.05, abs=2e-4)


@pytest.mark.slow
def test_gradients_of_the_weights_are_finite(network):
    def loss(params):
        return jnp.square(apply(network.graph, params, PICTURES[:1], jnp.bfloat16)).mean()

    gradients = flatten(jax.jit(jax.grad(loss))(network.params))
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in gradients.values())


def test_batches_vmap_and_jit_agree(network):
    whole = np.asarray(network(PICTURES))
    single = np.concatenate([network(picture[None]) for picture in PICTURES])
    mapped = jax.jit(jax.vmap(lambda picture: apply(network.graph, network.params, picture[None])[0]))(PICTURES)
    np.testing.assert_allclose(single, whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mapped, whole, rtol=0, atol=1e-5)


def test_pictures_of_another_size_are_refused(network):
    with pytest.raises(ValueError, match=r"expected \[n, 112, 112, 3\]"):
        network(np.zeros((1, 112, 96, 3), np.float32))


# Operators alone, in the forms that the families above do not have


def one(op, *inputs, opset=13, **attributes):
    graph = Graph(opset=opset)
    pooled = graph.node("Flatten", graph.conv("input.1", 3, 8, window=16, stride=16, pad=0))
    x = graph.gemm(pooled, 8 * 49, 12)
    return graph, graph.node(op, x, *inputs, **attributes)


FORMS = {
    "clip_below": lambda: one("Clip", np.float32(0.1)),
    "clip_attributes": lambda: one("Clip", opset=9, min=-0.2, max=0.3),
    "clip_above": lambda: one("Clip", "", np.float32(0.1)),
    "dropout_inputs": lambda: one("Dropout", np.float32(0.5), np.bool_(False)),
    "gemm_scaled": lambda: one(
        "Gemm", Graph(3).normal(12, 12).astype(np.float32), np.ones(12, np.float32), alpha=0.5, beta=2.0
    ),
    "squeeze_attribute": lambda: one("Unsqueeze", opset=11, axes=[0]),
    "reshape_keeps": lambda: one("Reshape", np.int64([0, 12])),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_operators(form, tmp_path):
    graph, x = FORMS[form]()
    if form == "squeeze_attribute":
        x = graph.node("Squeeze", x, axes=[0])
    path = graph.save(tmp_path / "model.onnx", x, 12)
    assert error(load_arcface(path)(PICTURES), onnxruntime_embeddings(path, PICTURES)) <= 1e-5


@pytest.mark.parametrize("sizes", [dict(dilations=[2, 2]), dict(pads=[0, 1, 2, 3]), dict(auto_pad="VALID")])
def test_forms_of_convolution(sizes, tmp_path):
    graph = Graph()
    x = graph.node("Conv", "input.1", graph.normal(4, 3, 3, 3), strides=[2, 3], **sizes)
    path = graph.save(tmp_path / "model.onnx", graph.node("Flatten", graph.node("GlobalAveragePool", x)), 4)
    assert error(load_arcface(path)(PICTURES), onnxruntime_embeddings(path, PICTURES)) <= 1e-5


# Conversion


@pytest.mark.parametrize("family", MODELS)
def test_round_trip_is_exact(family, tmp_path):
    path = MODELS[family](tmp_path / "model.onnx")
    conversion.convert("arcface", path, tmp_path / "converted")
    converted = load_arcface(tmp_path / "converted")
    save_onnx(converted, tmp_path / "back.onnx")
    (first, expected), (second, found) = onnx_file.read_onnx(path), onnx_file.read_onnx(tmp_path / "back.onnx")
    assert converted.graph == first == second
    assert expected.keys() == found.keys()
    for key, values in expected.items():
        assert found[key].dtype == values.dtype and found[key].tobytes() == values.tobytes(), key
    answers = [onnxruntime_embeddings(each, PICTURES, first.normalise) for each in (path, tmp_path / "back.onnx")]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-2 if "half" in family else 1e-5)


def test_file_and_converted_folder_are_the_same_network(tmp_path):
    path = MODELS["mobilefacenet"](tmp_path / "model.onnx")
    conversion.convert("arcface", path, tmp_path / "converted")
    conversion.convert("arcface", path, tmp_path / "low", dtype="bfloat16")
    file, folder, low = (load_arcface(each) for each in (path, tmp_path / "converted", tmp_path / "low"))
    assert file.fingerprint == folder.fingerprint != low.fingerprint
    np.testing.assert_array_equal(file(PICTURES), folder(PICTURES))
    assert cosines(low(PICTURES), file(PICTURES)).min() > 0.999
    save_onnx(low, tmp_path / "low.onnx")
    assert error(low(PICTURES), onnxruntime_embeddings(tmp_path / "low.onnx", PICTURES)) <= 1e-5


def test_a_converted_folder_goes_back_to_an_onnx_file(tmp_path):
    path = MODELS["mobilefacenet"](tmp_path / "model.onnx")
    conversion.convert("arcface", path, tmp_path / "converted")
    conversion.convert_back("arcface", tmp_path / "converted", tmp_path / "back")
    assert load_arcface(tmp_path / "back").fingerprint == load_arcface(path).fingerprint
    expected = onnxruntime_embeddings(path, PICTURES)
    np.testing.assert_array_equal(onnxruntime_embeddings(tmp_path / "back" / "recogniser.onnx", PICTURES), expected)


def test_paths_say_what_reads_a_tensor(tmp_path):
    graph, _ = onnx_file.read_onnx(MODELS["iresnet"](tmp_path / "model.onnx"))
    paths = {weight.path: weight.shape for weight in graph.weights}
    assert paths["conv_000/weight"] == (4, 3, 3, 3)
    assert paths["prelu_001/slope"] == (4, 1, 1)
    assert paths["batchnormalization_002/variance"] == (4,)
    assert [path.split("/")[0] for path in paths][-1] == f"batchnormalization_{len(graph.nodes) - 1:03d}"


def test_the_graph_survives_json(tmp_path):
    graph, _ = onnx_file.read_onnx(MODELS["newer"](tmp_path / "model.onnx"))
    text = json.dumps(arcface.write_config(graph))
    assert arcface.read_config(json.loads(text), "text") == graph
    assert hash(arcface.read_config(json.loads(text), "text")) == hash(graph)


def test_a_model_pack_gives_its_recogniser(tmp_path):
    MODELS["mobilefacenet"](tmp_path / "w600k.onnx")
    detector(tmp_path / "det.onnx")
    assert load_arcface(tmp_path).fingerprint == load_arcface(tmp_path / "w600k.onnx").fingerprint
    MODELS["iresnet"](tmp_path / "glint.onnx")
    with pytest.raises(ConversionError, match="expected one recogniser .* found glint.onnx, w600k.onnx"):
        load_arcface(tmp_path)


# Refusals


def detector(path):
    graph = Graph()
    outputs = [graph.conv("input.1", 3, 2) for _ in range(6)]
    return graph.save(path, "", outputs=[(name, None) for name in outputs], input_dims=["n", 3, "h", "w"])


def landmarks(path):
    graph = Graph()
    x = graph.node("Flatten", graph.conv("input.1", 3, 2))
    return graph.save(path, x, 2 * 192 * 192, side=192)


def heatmap(path):
    graph = Graph()
    return graph.save(path, "", outputs=[(graph.conv("input.1", 3, 2), None)])


def strange_operator(path):
    graph = Graph()
    x = graph.node("Softplus", graph.node("Flatten", graph.conv("input.1", 3, 2)))
    return graph.save(path, x, 2 * 112 * 112)


def strange_attribute(path):
    graph = Graph()
    x = graph.node("Flatten", graph.node("Relu", graph.conv("input.1", 3, 2), consumed_inputs=[0]))
    return graph.save(path, x, 2 * 112 * 112)


def same_padding(path):
    graph = Graph()
    x = graph.node("Conv", "input.1", graph.normal(2, 3, 3, 3), auto_pad="SAME_UPPER")
    return graph.save(path, graph.node("Flatten", x), 2 * 112 * 112)


def quantised(path):
    graph = Graph(opset=13)
    weight = graph.node("DequantizeLinear", np.ones((2, 3, 1, 1), np.int8), np.float32(0.1))
    return graph.save(path, graph.node("Flatten", graph.node("Conv", "input.1", weight)), 2 * 112 * 112)


def double(path):
    graph = Graph()
    x = graph.node("Flatten", graph.conv("input.1", 3, 2))
    name = graph.node("Add", x, np.float32(0))
    graph.tensors[list(graph.tensors)[-1]] = np.array(0.0)
    return graph.save(path, name, 2 * 112 * 112)


def dangling(path):
    graph = Graph()
    x = graph.node("Flatten", graph.node("Add", graph.conv("input.1", 3, 2), "nobody"))
    return graph.save(path, x, 2 * 112 * 112)


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 174383860\n")


def cut_short(path):
    MODELS["mobilefacenet"](path)
    path.write_bytes(path.read_bytes()[:-1000])


def header_only(path):
    MODELS["mobilefacenet"](path)
    path.write_bytes(path.read_bytes()[:2])


def external_lost(path):
    model = onnx.load(MODELS["mobilefacenet"](path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()


def external_cut(path):
    model = onnx.load(MODELS["mobilefacenet"](path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").write_bytes(b"\0" * 100)


REFUSED = [
    (lambda path: None, "no such file"),
    (lambda path: path.write_text("<html>404</html>"), "expected an ONNX file, found b'<html>40' at its start"),
    (lambda path: path.write_bytes(b""), "expected an ONNX file"),
    (lfs_pointer, "git-lfs pointer of"),
    (cut_short, "damaged, or cut short at"),
    (header_only, "damaged, or cut short at 2 bytes"),
    (detector, r"expected a face recogniser.*found inputs \[\[\?, 3, \?, \?\]\] and 6 outputs.*a face detector"),
    (landmarks, r"expected a face recogniser.*found inputs \[\[\?, 3, 192, 192\]\].*another kind of network"),
    (heatmap, r"expected an embedding \[n, width\], found \[1, 2, 112, 112\]"),
    (strange_operator, "uses Softplus, which mmjax does not run. It runs Add, BatchNormalization"),
    (strange_attribute, r"Relu Relu_1 has consumed_inputs \(INTS\), which mmjax does not know"),
    (same_padding, "Conv that makes value_0: auto_pad = SAME_UPPER"),
    (quantised, r"a quantised model \(DequantizeLinear"),
    (double, "is float64: expected float32 or float16"),
    (dangling, "no node makes 'nobody'"),
    (external_lost, "keeps weights in weights.bin, which is not beside it"),
    (external_cut, "external data cannot be read|is damaged"),
]


@pytest.mark.parametrize("spoil,message", REFUSED, ids=lambda case: getattr(case, "__name__", ""))
def test_refusals(spoil, message, tmp_path):
    path = tmp_path / "model.onnx"
    spoil(path)
    with pytest.raises(ConversionError, match=message) as refused:
        conversion.convert("arcface", path, tmp_path / "converted")
    assert "model.onnx" in str(refused.value)
    assert not (tmp_path / "converted").exists()


def test_external_data_is_read_and_hashed(tmp_path):
    path = MODELS["mobilefacenet"](tmp_path / "model.onnx")
    expected = load_arcface(path).fingerprint
    onnx.save(onnx.load(path), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load_arcface(path).fingerprint == expected
    conversion.convert("arcface", path, tmp_path / "converted")
    manifest = json.loads((tmp_path / "converted" / "mmjax.json").read_text())
    assert set(manifest["source"]["sha256"]) == {"model.onnx", "weights.bin"}


def test_a_folder_of_another_component_is_refused(tmp_path):
    conversion.convert("arcface", MODELS["mobilefacenet"](tmp_path / "model.onnx"), tmp_path / "converted")
    manifest = tmp_path / "converted" / "mmjax.json"
    manifest.write_text(manifest.read_text().replace('"component": "arcface"', '"component": "transformer"'))
    with pytest.raises(CheckpointError, match="expected a converted arcface, found a transformer"):
        load_arcface(tmp_path / "converted")


@pytest.mark.parametrize(
    "values,message",
    [
        ({"nodes": [{"op": "Conv"}, {"op": "LSTM"}]}, "nodes.1.op = LSTM: expected one of Add"),
        ({"nodes": [{"op": "Conv", "attributes": [{"name": "alpha"}]}]}, "nodes.0.attributes.0.ints"),
        ({"nodes": [{"op": "Conv", "attributes": [{"name": "alpha", "ints": [1]}]}]}, "nodes.0.attributes = alpha"),
        ({"weights": [{"shape": ["3"]}]}, "weights.0.shape = '3': expected int"),
        ({"weights": [{"size": 3}]}, "weights.0.size: unknown setting"),
        ({"constants": 3}, "constants = 3: expected a list"),
        ({"side": 0}, "side = 0: expected a positive number"),
    ],
)
def test_faults_of_a_record_in_a_list_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        validated_record(OnnxGraph, values)
