"""Published float16 weights: what stays exact, and what is said of what is rounded to bfloat16."""

import re

import jax
import ml_dtypes
import numpy as np
import pytest
from absl import logging

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding, trees  # noqa: E402
from mmjax.conversion import rounding  # noqa: E402
from mmjax.sampling import load_sampler  # noqa: E402
from mmjax.weights import start  # noqa: E402
from tests.helpers import diffusers_folders  # noqa: E402

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A small 2B pipeline in float16, converted."""
    folder = tmp_path_factory.mktemp("float16")
    whole = diffusers_folders.pipeline(
        folder / "float32",
        "2b",
        "CogVideoXDDIMScheduler",
        transformer=dict(in_channels=16, out_channels=16),
        vae=dict(latent_channels=16),
    )
    whole.to(torch.float16).save_pretrained(folder / "source")
    conversion.convert_pipeline(folder / "source", folder / "ours")
    return folder / "ours"


@pytest.fixture
def logged(monkeypatch):
    """The warnings that are logged."""
    lines = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


def leaves(params):
    return {path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()}


def expected(stored):
    """(relative rms error, largest relative error) of float16 leaves in bfloat16, in float64, all at once."""
    exact = np.concatenate([leaf.reshape(-1) for leaf in stored]).astype(np.float64)
    lost = np.abs(exact.astype(np.float32).astype(BFLOAT16).astype(np.float64) - exact)
    largest = np.max(lost[exact != 0] / np.abs(exact[exact != 0]))
    return np.sqrt(np.mean(lost**2) / np.mean(exact**2)), largest


def percent(line):
    return [float(number) / 100 for number in re.findall(r"([\d.]+) %", line)]


@pytest.mark.slow
def test_a_float16_folder_in_bfloat16_is_measured_in_one_line(pipeline, logged):
    folder = pipeline / "transformer"
    exact = leaves(conversion.load_component(folder)[1])
    assert not logged and {leaf.dtype for leaf in exact.values()} == {np.dtype(np.float16)}
    found = leaves(conversion.load_component(folder, dtype="bfloat16")[1])
    for path, leaf in exact.items():
        assert found[path].tobytes() == leaf.astype(np.float32).astype(BFLOAT16).tobytes(), path
    (line,) = logged
    rms, largest = expected(exact.values())
    assert 1e-3 < rms < 2**-8 and largest <= 2**-8  # half a unit in the last of 8 places
    assert percent(line)[:2] == pytest.approx([rms, largest], abs=6e-5)  # it is printed to 0.01 %
    assert f"{sum(leaf.size for leaf in exact.values()):,} float16" in line and str(folder) in line
    assert "precision.frozen=float32" in line and "--precision float32" in line


def test_float32_is_exact_and_says_nothing(pipeline, logged):
    exact = leaves(conversion.load_component(pipeline / "vae")[1])
    found = leaves(conversion.load_component(pipeline / "vae", dtype="float32")[1])
    assert all(np.array_equal(found[path], leaf.astype(np.float32)) for path, leaf in exact.items())
    assert not logged


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["device", "pinned_host"])
def test_shards_are_rounded_where_they_lie(pipeline, logged, memory):
    """On a mesh, and in host memory, the bits and the figures are those of one device."""
    folder = pipeline / "transformer"
    config, one = conversion.load_component(folder, dtype="bfloat16")
    mesh = sharding.make_mesh(c.Mesh(data=2, fsdp=2, tensor=2))
    shardings = sharding.param_shardings(mesh, conversion.abstract_transformer(config))
    if memory == "pinned_host":
        shardings = sharding.in_host_memory(shardings, (".*",))
    _, spread = conversion.load_component(folder, shardings, "bfloat16")
    places, spread = trees.flatten(shardings), trees.flatten(spread)
    for path, leaf in leaves(one).items():
        assert spread[path].sharding == places[path], path
        assert np.asarray(spread[path]).tobytes() == leaf.tobytes(), path
    assert logged[0] == logged[1]


def test_a_tree_of_dtypes_keeps_exact_what_it_does_not_round(pipeline, logged):
    folder = pipeline / "transformer"
    exact = leaves(conversion.load_component(folder)[1])
    kept = {path: np.dtype(np.float32) if path.endswith("scale") else BFLOAT16 for path in exact}
    found = leaves(conversion.load_component(folder, dtype=trees.unflatten(kept))[1])
    assert {path: leaf.dtype for path, leaf in found.items()} == kept
    assert all(np.array_equal(found[path], exact[path].astype(np.float32)) for path in exact if path.endswith("scale"))
    assert f"{sum(leaf.size for path, leaf in exact.items() if not path.endswith('scale')):,} float16" in logged[0]


def delicate(path):
    """What rests in float32 whatever the policy."""
    return "time_embed" in path or not path.endswith("kernel")


def test_a_sampler_keeps_norms_and_biases_exact_and_reports_the_kernels(pipeline, logged):
    exact = leaves(conversion.load_component(pipeline / "transformer")[1])
    found = leaves(load_sampler(pipeline).params["transformer"])
    for path, leaf in exact.items():
        wanted = leaf.astype(np.float32) if delicate(path) else leaf.astype(np.float32).astype(BFLOAT16)
        assert found[path].dtype == wanted.dtype and found[path].tobytes() == wanted.tobytes(), path
    (line,) = [line for line in logged if "float16" in line]
    assert f"{sum(leaf.size for path, leaf in exact.items() if not delicate(path)):,} float16" in line
    logged.clear()
    found = leaves(load_sampler(pipeline, precision="float32").params["transformer"])
    assert all(np.array_equal(found[path], leaf.astype(np.float32)) for path, leaf in exact.items())
    assert not [line for line in logged if "float16" in line]


def test_a_run_keeps_norms_and_biases_exact(pipeline, logged):
    """`train.base`, frozen: what is kept in float32 has the published values."""
    record, stored = conversion.load_component(pipeline / "transformer")
    abstract = {
        path: jax.ShapeDtypeStruct(leaf.shape, np.float32 if delicate(path) else BFLOAT16, sharding=leaf.sharding)
        for path, leaf in trees.flatten({"transformer": stored}).items()
    }
    model = c.Model(record, c.Adapter(enabled=False))
    config = c.Experiment(model=model, train=c.Train(base=str(pipeline / "transformer")))
    found = leaves(start.load_start(config, trees.unflatten(abstract))["transformer"])
    for path, leaf in leaves(stored).items():
        assert not delicate(path) or np.array_equal(found[path], leaf.astype(np.float32)), path
    assert len(logged) == 1 and "precision.frozen" in logged[0]


def test_the_decoder_of_a_float16_folder_is_reported(pipeline, logged):
    from mmjax.encoders.vae import load_autoencoder

    load_autoencoder(pipeline / "vae")  # decodes in bfloat16
    (line,) = logged
    assert ", decoder: " in line and "precision.decode=float32" in line
    load_autoencoder(pipeline / "vae", precision=c.Precision(decode="float32"))
    assert len(logged) == 1


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 1, 7)])
def test_any_shape_zeros_and_the_ends_of_the_range(shape):
    values = np.resize(np.array([0, -0.0, 65504, -6e-8, 1 / 3, 1.0, -1.00390625], np.float16), shape)
    rounded, loss = rounding.round_leaf(jax.device_put(values))
    assert rounded.dtype == BFLOAT16 and rounded.shape == shape
    assert np.asarray(rounded).tobytes() == values.astype(np.float32).astype(BFLOAT16).tobytes()
    other = rounding.measure([values, np.ones(3, np.float32)])
    assert loss.values == other.values == values.size and 0 <= loss.largest <= 2**-8
    assert (loss.error, loss.size, loss.largest) == pytest.approx((other.error, other.size, other.largest), rel=1e-6)


def test_large_leaves_are_summed_exactly_enough():
    """Float32 sums of millions of like numbers stand still; rows are summed apart, and their sums in float64."""
    values = np.full((20, 1_000_000), 1 / 3, np.float16)
    _, loss = rounding.round_leaf(jax.device_put(values))
    assert loss.size == pytest.approx(values.size * float(values[0, 0]) ** 2, rel=1e-3)
    assert loss.relative_rms == pytest.approx(loss.largest, rel=1e-3)
