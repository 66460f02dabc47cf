"""EdgeFace against timm, whose answers are kept in a golden file (`tests/helpers/edgeface_reference.py`)."""

import functools

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from mmjax.conversion.edgeface import abstract_edgeface, read_edgeface, read_sizes, table
from mmjax.conversion.engine import expand
from mmjax.errors import ConversionError
from mmjax.models.edgeface import XS, XXS, EdgeFace
from mmjax.trees import flatten
from tests.helpers import edgeface_reference as reference

needs_weights = pytest.mark.skipif(
    not reference.published("xs").is_file(), reason="no MMJAX_TEST_DATA with weights/edgeface"
)


@functools.cache
def golden():
    return dict(np.load(reference.GOLDEN))


def write_random(path, sizes, change=lambda tensors: tensors):
    shapes = {leaf: value.shape for leaf, value in flatten(abstract_edgeface(sizes)).items()}
    keys = {key: leaf.source_shape for leaf in expand(table(sizes), shapes) for key in leaf.keys}
    save_file(change({key: reference.random_tensor(key, shape) for key, shape in keys.items()}), path)
    return path


def error_to_timm(file, expected):
    """The largest difference, as a share of the largest value."""
    sizes, params = read_edgeface(file)
    found = jax.jit(lambda params, pictures: EdgeFace(sizes).apply({"params": params}, pictures))(
        params, reference.noise()
    )
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{file.name}: {error:.1e} of the largest value")
    return error


@pytest.mark.parametrize("size", reference.SIZES)
def test_random_weights_give_what_timm_gives(tmp_path, size):
    """Measured: 7e-7 of the largest value, of both sizes."""
    file = write_random(tmp_path / "random.safetensors", reference.SIZES[size])
    assert read_sizes(file) == reference.SIZES[size]
    assert error_to_timm(file, golden()[f"random_{size}"]) < 1e-5


@needs_weights
@pytest.mark.parametrize("size", reference.SIZES)
def test_the_published_weights_give_what_timm_gives(size):
    """Measured: 3e-6 (XS) and 2e-6 (XXS) of the largest value."""
    assert error_to_timm(reference.published(size), golden()[f"published_{size}"]) < 1e-5


@needs_weights
def test_the_published_sizes_are_known_by_their_shapes():
    assert read_sizes(reference.published("xs")) == XS and read_sizes(reference.published("xxs")) == XXS


def test_what_does_not_fit_is_named(tmp_path):
    def without(tensors):
        return {key: value for key, value in tensors.items() if key != "model.stages.3.blocks.0.gamma"}

    def of_low_rank(tensors):
        head = tensors.pop("model.head.fc.weight")
        return tensors | {
            "model.head.fc.weight": head,
            "model.stages.0.blocks.0.mlp.fc1.linear1.weight": head[:8, :8].copy(),
        }

    def not_finite(tensors):
        tensors["model.stem.0.weight"][0, 0, 0, 0] = np.nan
        return tensors

    for change, message in (
        (without, "missing: model.stages.3.blocks.0.gamma"),
        (of_low_rank, "surplus: .*linear1.weight\nlikely cause: an EdgeFace with layers of low rank"),
        (not_finite, "model.stem.0.weight: expected trained weights, found NaN or infinity"),
    ):
        with pytest.raises(ConversionError, match=message):
            read_edgeface(write_random(tmp_path / "edgeface.safetensors", XXS, change))


def test_another_network_is_refused_by_its_keys(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"encoder.weight": np.zeros((2, 2), np.float32)}, file)
    with pytest.raises(
        ConversionError, match="expected an EdgeFace, with timm's keys such as .*; found encoder.weight"
    ):
        read_sizes(file)
