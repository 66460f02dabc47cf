"""Weights in eight bits: what is lost, and that what was restored is kept as the same bits."""

import numpy as np
import pytest

from mmjax.errors import ConversionError
from mmjax.weights import quantised


def kernel(*shape, spread=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.exp(spread * rng.standard_normal(shape[-1]))).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 7), (3, 64, 96), (3, 3, 3, 16, 8)])
def test_a_kernel_is_kept_with_a_scale_for_each_output(shape):
    values = kernel(*shape, spread=4)
    found = quantised.stored("a/kernel", values, "int8")
    assert found.values.dtype == np.int8 and found.scales.shape == (*shape[:-2], 1, shape[-1])
    assert np.all(np.abs(found.values).max(-2) == 127)
    half = np.abs(values).max(-2, keepdims=True) / 127 / 2
    assert np.all(np.abs(found.restored() - values) <= half * (1 + 2**-11))


def test_what_was_restored_is_kept_as_the_same_bits():
    for seed in range(20):
        once = quantised.stored("a/kernel", kernel(64, 500, spread=8, seed=seed), "int8")
        again = quantised.stored("a/kernel", once.restored(), "int8")
        np.testing.assert_array_equal(once.values, again.values)
        np.testing.assert_array_equal(once.scales, again.scales)


def test_what_normal_numbers_lose(capsys):
    values = kernel(1536, 384)
    lost = quantised.loss(values, quantised.stored("a/kernel", values, "int8")).relative_rms
    with capsys.disabled():
        print(f"\nint8 of N(0, 1), 1536 inputs: {lost:.3%} rms over rms")
    assert lost < 0.01


def test_zeros_stay_zeros_and_the_rest_is_float16():
    values = kernel(8, 4)
    values[:, 1] = 0
    found = quantised.stored("a/kernel", values, "int8")
    assert not found.values[:, 1].any() and np.isfinite(found.restored()).all()
    assert quantised.stored("a/bias", values[0], "int8").values.dtype == np.float16
    assert quantised.stored("a/kernel", values, "float16").values.dtype == np.float16
    with pytest.raises(ConversionError, match="a/bias: expected weights within float16"):
        quantised.stored("a/bias", np.array([1e6], np.float32), "int8")
