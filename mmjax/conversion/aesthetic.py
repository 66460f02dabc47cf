"""LAION's aesthetic heads as they are published: `.pth` or `.safetensors` files of Linear layers upon CLIP ViT-L/14.

There is one of a single layer (`sa_0_4_vit_l_14_linear.pth`, keys `weight` and `bias`; VBench) and one of five
(`sac+logos+ava1-l14-linearMSE.pth`, keys `layers.0.weight` ...; OpenS2V as `aesthetic-model.pth`). Between the five
stands nothing but dropout, so that both are one affine function, and are read as such.
"""

import os
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax.conversion.source import open_tensors
from mmjax.errors import ConversionError

_LAYER = re.compile(r"(?:.*?\.)?(\d+)\.(weight|bias)|(weight|bias)")
_PUBLISHED = "one of LAION's aesthetic heads, such as sa_0_4_vit_l_14_linear.pth"


def read_aesthetic_head(file: str | os.PathLike) -> tuple[Float[np.ndarray, " width"], float]:
    """(weights, bias): the score of a picture is `weights @ direction + bias`, float64.

    A `.pth` takes torch to be read. Raises `ConversionError` for a file that holds no such layers.
    """
    file = Path(file)
    if not file.is_file():
        raise ConversionError(f"aesthetic head {file}: expected a file, found none; give {_PUBLISHED}")
    tensors, read = open_tensors([file])
    layers: dict[int, dict[str, np.ndarray]] = {}
    for key in tensors:
        match = _LAYER.fullmatch(key)
        if not match:
            raise ConversionError(f"aesthetic head {file}: expected Linear layers, found {key}; give {_PUBLISHED}")
        layers.setdefault(int(match[1] or 0), {})[match[2] or match[3]] = read(key).astype(np.float64)
    return _composed([layers[number] for number in sorted(layers)], file)


def _composed(layers: list[dict[str, np.ndarray]], file: Path) -> tuple[np.ndarray, float]:
    """The layers as one affine function, from the last to the first."""
    weights, bias = np.ones((1, 1)), np.zeros(1)
    for layer in reversed(layers):
        weight, shift = layer.get("weight"), layer.get("bias")
        if weight is None or weight.ndim != 2 or weight.shape[0] != weights.shape[1]:
            found = "none" if weight is None else list(weight.shape)
            raise ConversionError(
                f"aesthetic head {file}: expected a layer with a weight [{weights.shape[1]}, n], found {found}; "
                f"give {_PUBLISHED}"
            )
        if shift is not None:
            bias = bias + weights @ shift
        weights = weights @ weight
    if not layers:
        raise ConversionError(f"aesthetic head {file}: expected Linear layers, found none; give {_PUBLISHED}")
    return weights[0], float(bias[0])
