"""Weights in few bytes: float16, or whole numbers of eight bits with a scale for each output channel.

    kernel[..., i, o] = scale[..., 0, o] * integer[..., i, o]    integer in -127..127, scale = max_i |kernel| / 127

The last axis of a kernel are its outputs and the one before it its inputs (METHOD 7); blocks that are stacked, and the
places of a convolution's kernel, have scales of their own. All that is no kernel (biases, norms, queries) is little and
stays float16.

A scale is rounded up to 12 bits, so that its products with whole numbers up to 127 are exact in float32. What was
restored is therefore stored as the same bits again: the largest number of a channel is +-127 times the scale.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from mmjax.conversion.rounding import RoundingLoss
from mmjax.errors import ConversionError

INT8, FLOAT16 = "int8", "float16"
_LEVELS = 127
_SCALE_BITS = 12


@dataclasses.dataclass(frozen=True)
class Stored:
    """A leaf as a file keeps it: float16 values, or int8 ones with float32 scales [..., 1, out]."""

    values: np.ndarray
    scales: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    @property
    def dtype(self) -> np.dtype:
        """Of what is restored."""
        return self.values.dtype if self.scales is None else self.scales.dtype

    def restored(self) -> np.ndarray:
        """float16 as it is; the products of integers and scales in float32, which are exact."""
        return self.values if self.scales is None else self.values * self.scales


def stored(path: str, values: np.ndarray, dtype: str) -> Stored:
    """A leaf in the dtype `float16` or `int8`. Raises `ConversionError` for values beyond float16."""
    if dtype == INT8 and path.endswith("/kernel"):
        return _quantised(values.astype(np.float32))
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ConversionError(f"{path}: expected weights within float16, up to 65504, found {np.abs(values).max():.3g}")
    return Stored(rounded)


def loss(values: np.ndarray, kept: Stored) -> RoundingLoss:
    """What was lost, as sums that add up over leaves."""
    exact = values.astype(np.float64)
    error = np.sum(np.square(kept.restored() - exact))
    return RoundingLoss(exact.size, float(error), float(np.sum(np.square(exact))))


def _quantised(values: Float[np.ndarray, "*lead inputs outputs"]) -> Stored:
    largest = np.abs(values).max(-2, keepdims=True)
    mantissa, exponent = np.frexp(largest / np.float32(_LEVELS))
    scales = np.ldexp(np.ceil(mantissa * 2**_SCALE_BITS) / 2**_SCALE_BITS, exponent).astype(np.float32)
    scales[largest == 0] = 1
    return Stored(np.rint(values / scales).astype(np.int8), scales)
