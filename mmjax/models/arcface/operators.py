"""The ONNX operators of face recognition networks, as pure functions with ONNX's own meaning and layout (NCHW).

Source: the operator reference, onnx.ai/onnx/operators, opsets 8 to 21. Inputs come by position, attributes by name;
what is an attribute in one opset and an input in another (the axes of Squeeze) is one parameter here. Weights have
ONNX's layout. Whole-number values that describe shapes stay numpy arrays, so that shapes are known while tracing.
"""

import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_FEW_TAPS = 9  # of a depthwise window
_EXACT = lax.Precision.HIGHEST  # of float32 operands: accelerators multiply them in fewer bits by default
Tensor = Array | np.ndarray


def _conv(
    x: Float[Array, "n i *space"],
    weight: Float[Array, "o g *window"],
    bias: Float[Array, " o"] | None = None,
    *,
    group: int = 1,
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    kernel_shape: Sequence[int] = (),  # repeats the weight's shape
    auto_pad: str = "NOTSET",
) -> Float[Array, "n o *space2"]:
    """Convolution, plain, grouped or depthwise; sums are float32."""
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"auto_pad = {auto_pad}: expected NOTSET with explicit pads, or VALID")
    axes = x.ndim - 2
    pads, strides, dilations = pads or (0,) * (2 * axes), strides or (1,) * axes, dilations or (1,) * axes
    pairs = list(zip(pads[:axes], pads[axes:], strict=True))
    if group == x.shape[1] == len(weight) and np.prod(weight.shape[2:]) <= _FEW_TAPS:
        y = _depthwise(x, weight, strides, pairs, dilations)
    else:
        y = lax.conv_general_dilated(
            x,
            weight,
            strides,
            pairs,
            rhs_dilation=dilations,
            feature_group_count=group,
            precision=_EXACT,
            preferred_element_type=jnp.float32,
        )
    return y if bias is None else y + _per_channel(bias, y)


def _depthwise(x, weight, strides, pads, dilations) -> Float[Array, "n c *space2"]:
    """A channel by its own small window: a sum of shifted products, for which XLA's CPU takes half the time."""
    x = jnp.pad(x, [(0, 0), (0, 0), *pads])
    reach = [dilation * (size - 1) for dilation, size in zip(dilations, weight.shape[2:], strict=True)]
    total = 0.0
    for tap in np.ndindex(*weight.shape[2:]):
        begin = [place * dilation for place, dilation in zip(tap, dilations, strict=True)]
        end = [size - (most - first) for size, most, first in zip(x.shape[2:], reach, begin, strict=True)]
        shifted = lax.slice(x, (0, 0, *begin), (*x.shape[:2], *end), (1, 1, *strides))
        total += shifted.astype(jnp.float32) * _per_channel(weight[(slice(None), 0, *tap)], x).astype(jnp.float32)
    return total


def _batch_normalization(
    x: Float[Array, "n c *space"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    mean: Float[Array, " c"],
    variance: Float[Array, " c"],
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,  # of training
    spatial: int = 1,
    training_mode: int = 0,
) -> Float[Array, "n c *space"]:
    """Batch normalization by the stored statistics."""
    if training_mode or not spatial:
        raise ValueError("expected stored statistics for each channel: export the model for inference")
    factor = scale * lax.rsqrt(variance + epsilon)
    return (x - _per_channel(mean, x)) * _per_channel(factor, x) + _per_channel(bias, x)


def _prelu(x: Float[Array, " n *dims"], slope: Float[Array, "*dims2"]) -> Float[Array, " n *dims"]:
    """x where it is not negative, `slope * x` where it is; the slope broadcasts as in numpy."""
    return jnp.where(x < 0, slope * x, x)


def _gemm(
    x: Float[Array, "n i"],
    weight: Float[Array, "i o"],
    bias: Float[Array, " o"] | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 (ONNX's name)
    transB: int = 0,  # noqa: N803
) -> Float[Array, "n o"]:
    """`alpha * x @ weight + beta * bias`, either factor transposed first if so asked."""
    y = alpha * _matmul(x.T if transA else x, weight.T if transB else weight)
    return y if bias is None else y + beta * bias


def _matmul(x: Float[Array, "*n i"], weight: Float[Array, "*n i o"]) -> Float[Array, "*n o"]:
    return jnp.matmul(x, weight, precision=_EXACT, preferred_element_type=jnp.float32)


def _global_average_pool(x: Float[Array, "n c *space"]) -> Float[Array, "n c *ones"]:
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


def _clip(x: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Array:
    return jnp.clip(x, min, max)


def _dropout(x: Tensor, ratio: Tensor | float = 0.5, training_mode: Tensor | bool = False, *, seed: int = 0) -> Tensor:
    """x itself: nothing is dropped at inference."""
    if np.any(training_mode):
        raise ValueError("training_mode is on: export the model for inference")
    return x


def _flatten(x: Float[Array, "*dims"], *, axis: int = 1) -> Float[Array, "a b"]:
    axis = axis % x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _reshape(x: Tensor, shape: np.ndarray, *, allowzero: int = 0) -> Tensor:
    """ONNX's reshape: 0 keeps an axis as it is (unless `allowzero`), -1 takes what is left."""
    kept = [size if size or allowzero else x.shape[axis] for axis, size in enumerate(_static(shape))]
    return x.reshape(kept)


def _transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.transpose(perm)


def _unsqueeze(x: Tensor, axes: np.ndarray | Sequence[int]) -> Tensor:
    return _library(x).expand_dims(x, tuple(_static(axes)))


def _squeeze(x: Tensor, axes: np.ndarray | Sequence[int] | None = None) -> Tensor:
    return x.squeeze(None if axes is None else tuple(_static(axes)))


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> np.ndarray:
    return np.array(x.shape[start:end], np.int64)


def _gather(x: Tensor, indices: np.ndarray, *, axis: int = 0) -> Tensor:
    return _library(x).take(x, np.asarray(indices), axis=axis)


def _concat(*tensors: Tensor, axis: int) -> Tensor:
    return _library(*tensors).concatenate(tensors, axis=axis)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda x, other: x + other,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": lambda x, other: x / other,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": lambda x: x,
    "MatMul": _matmul,
    "Mul": lambda x, other: x * other,
    "PRelu": _prelu,
    "Relu": jax.nn.relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": jax.nn.sigmoid,
    "Squeeze": _squeeze,
    "Sub": lambda x, other: x - other,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
PRODUCTS = ("Conv", "Gemm", "MatMul")  # their first two inputs are multiplied in the compute dtype


def parameter_names(operator: str) -> list[str]:
    """What the operator calls its inputs and attributes; inputs come first, in order."""
    return list(inspect.signature(OPERATORS[operator]).parameters)


def _per_channel(values: Float[Array, " c"], like: Float[Array, "n c *space"]) -> Float[Array, " c *ones"]:
    return values.reshape(-1, *[1] * (like.ndim - 2))


def _static(values: np.ndarray | Sequence[int]) -> list[int]:
    if isinstance(values, jax.Array):
        raise ValueError("expected a shape or axes that do not depend on the picture")
    return [int(value) for value in np.atleast_1d(np.asarray(values))]


def _library(*tensors: Tensor):
    return np if all(isinstance(each, np.ndarray | np.generic) for each in tensors) else jnp
