"""Positions of video tokens: 3-D rotary embedding (5B, 1.5) and 3-D sin-cos embedding (2B).

Both are tables of constants, computed in numpy from the latent grid. Tokens run over time, then height, then width.
Source: METHOD 1; the published models' grids, including their order of axes, which is fixed by the weights.
"""

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from mmjax.config import Transformer

THETA = 10_000.0


def rotary_table(model: Transformer, grid: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin), each float32 [t*h*w, head_dim], for a grid of t, h, w tokens; see `rotate`.

    A quarter of each head turns with time, three eighths with height, three eighths with width. `rope` stretches the
    grid onto the base size with its aspect ratio kept and centred; `rope_slice` counts tokens from the corner.
    """
    frames, height, width = grid
    if model.position == "rope":
        base = (model.base_height // model.patch, model.base_width // model.patch)
        (top, left), (bottom, right) = _centred_crop((height, width), base)
        rows = np.linspace(top, bottom * (height - 1) / height, height, dtype=np.float32)
        columns = np.linspace(left, right * (width - 1) / width, width, dtype=np.float32)
    else:
        rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    times = np.arange(frames, dtype=np.float32)
    quarter, eighths = model.head_dim // 4, model.head_dim // 8 * 3
    angles = _on_grid(_angles(times, quarter), _angles(rows, eighths), _angles(columns, eighths))
    cos, sin = np.cos(angles), np.sin(angles)
    return np.repeat(cos, 2, axis=-1), np.stack([-sin, sin], axis=-1).reshape(len(sin), -1)


def rotate(x: Float[Array, "b n h k"], cos: Float[Array, "n k"], sin: Float[Array, "n k"]) -> Float[Array, "b n h k"]:
    """Turns each pair of neighbouring channels by its token's angle, in float32; returns x's dtype.

    A pair's angle stands twice in `cos`, and in `sin` with both signs: x cos + (x with neighbours swapped) sin.
    """
    wide = x.astype(jnp.float32)
    swapped = jnp.flip(wide.reshape(*x.shape[:-1], -1, 2), axis=-1).reshape(x.shape)
    return (wide * cos[:, None] + swapped * sin[:, None]).astype(x.dtype)


def sincos_table(model: Transformer, grid: tuple[int, int, int]) -> np.ndarray:
    """Float32 [t*h*w, d]: time in the first quarter, then width, then height (the published order)."""
    frames, height, width = grid
    time = _sincos(np.arange(frames) / model.temporal_interpolation, model.width // 4)
    rows = _sincos(np.arange(height) / model.spatial_interpolation, model.width * 3 // 8)
    columns = _sincos(np.arange(width) / model.spatial_interpolation, model.width * 3 // 8)
    on_grid = _on_grid(time, rows, columns)
    time_end, rows_end = model.width // 4, model.width // 4 + model.width * 3 // 8
    parts = on_grid[:, :time_end], on_grid[:, rows_end:], on_grid[:, time_end:rows_end]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _angles(positions, channels):
    frequencies = np.float32(1.0) / np.power(np.float32(THETA), np.arange(0, channels, 2, dtype=np.float32) / channels)
    return np.outer(positions, frequencies).astype(np.float32)


def _sincos(positions, channels):
    angles = np.outer(
        positions.astype(np.float32).astype(np.float64), THETA ** -(np.arange(channels // 2) / (channels / 2))
    )
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _on_grid(times, rows, columns):
    t, h, w = len(times), len(rows), len(columns)
    parts = times[:, None, None], rows[None, :, None], columns[None, None, :]
    return np.concatenate([np.broadcast_to(x, (t, h, w, x.shape[-1])) for x in parts], axis=-1).reshape(t * h * w, -1)


def _centred_crop(grid, base):
    """Corners of `grid` scaled to fit inside `base` with its aspect ratio kept, and centred there."""
    (height, width), (base_height, base_width) = grid, base
    if height / width > base_height / base_width:
        size = base_height, int(round(base_height / height * width))
    else:
        size = int(round(base_width / width * height)), base_width
    top, left = int(round((base_height - size[0]) / 2.0)), int(round((base_width - size[1]) / 2.0))
    return (top, left), (top + size[0], left + size[1])
