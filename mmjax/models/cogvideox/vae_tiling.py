"""Encoding and decoding in overlapping tiles, for videos whose activations would not fit in memory at once.

Tiles are computed one after another by a function of the caller's, jitted once for each tile shape (the last tiles of
a row and of a column are smaller), and blended linearly where they overlap. Of a tile that is done, only what is shown
and the strips that its neighbours blend with are kept, so that a tile's activations bound the memory. Every tile has
group norms of its own, hence the result is not that of the whole picture; it is that of diffusers' tiled networks.
Arrays stay on the device, and all of it may stand inside a jitted function, which then holds every tile's program.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.model_settings import VAE

_OVERLAP = (1 / 6, 1 / 5)  # of a tile's height and width, that of diffusers
_ROWS, _COLUMNS = 2, 3  # axes of [b, t, h, w, c]


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one side of a picture is cut, in pixels of the input (tile, stride) and of the output (blend, shown)."""

    tile: int
    stride: int
    blend: int  # of a tile's first lines that are mixed with the tile before
    shown: int  # of a tile's lines, those that are its own in the result

    def starts(self, size: int) -> range:
        """Where the tiles of an input of this size begin."""
        return range(0, size, self.stride)


Cuts = tuple[Cut, Cut]  # of the height and of the width


def encoder_cuts(vae: VAE) -> Cuts:
    """Tiles of pixels, a quarter of `sample_height` x `sample_width`. Raises `ConfigError` for sizes without tiles."""
    return _cuts(vae, lambda pixels: (pixels, pixels // vae.spatial_compression))


def decoder_cuts(vae: VAE) -> Cuts:
    """The same tiles in latents. Raises `ConfigError` for sizes without tiles."""
    return _cuts(vae, lambda pixels: (pixels // vae.spatial_compression, pixels))


def needs_tiles(x: Float[Array, "b t h w c"], cuts: Cuts) -> bool:
    """Whether a side is larger than a tile."""
    return x.shape[_ROWS] > cuts[0].tile or x.shape[_COLUMNS] > cuts[1].tile


def in_tiles(
    network: Callable[[Float[Array, "b t h w c"]], Float[Array, "b T H W o"]],
    x: Float[Array, "b t h w c"],
    cuts: Cuts,
    finish: Callable[[Array], Array] = lambda part: part,
) -> Array:
    """`network` over the tiles of `x`, blended.

    `finish` turns a finished part of the result into what is kept of it, such as uint8.
    """
    if not needs_tiles(x, cuts):
        return finish(network(x))
    rows, columns = cuts
    above: dict[int, Array] = {}  # the lowest lines of the tiles above, by column
    result = []
    for i in rows.starts(x.shape[_ROWS]):
        left, parts = None, []
        for j in columns.starts(x.shape[_COLUMNS]):
            tile = network(x[:, :, i : i + rows.tile, j : j + columns.tile])
            tile = _blend(above.get(j), tile, rows.blend, _ROWS)
            tile = _blend(left, tile, columns.blend, _COLUMNS)
            above[j], left = tile[:, :, -rows.blend :], tile[:, :, :, -columns.blend :]
            parts.append(finish(tile[:, :, : rows.shown, : columns.shown]))
        result.append(jnp.concatenate(parts, axis=_COLUMNS))
    return jnp.concatenate(result, axis=_ROWS)


def _blend(before: Array | None, tile: Array, extent: int, axis: int) -> Array:
    """The first lines of `tile` faded in over the last lines of the tile before it."""
    if before is None:
        return tile
    extent = min(before.shape[axis], tile.shape[axis], extent)
    weight = (jnp.arange(extent, dtype=tile.dtype) / extent).reshape(-1, *(1,) * (tile.ndim - 1 - axis))
    before = _lines(before, axis, before.shape[axis] - extent, before.shape[axis])
    first, rest = _lines(tile, axis, 0, extent), _lines(tile, axis, extent, tile.shape[axis])
    return jnp.concatenate([before * (1 - weight) + first * weight, rest], axis=axis)


def _lines(x: Array, axis: int, start: int, end: int) -> Array:
    return x[(slice(None),) * axis + (slice(start, end),)]


def _cuts(vae: VAE, sides: Callable[[int], tuple[int, int]]) -> Cuts:
    """Cuts of height and width; `sides` gives a tile's sides (at the input, at the output) for its pixels."""
    height, width = (
        _cut(*sides(sample // 2), overlap)
        for sample, overlap in zip((vae.sample_height, vae.sample_width), _OVERLAP, strict=True)
    )
    for name, cut, size in (("height", height, vae.sample_height), ("width", width, vae.sample_width)):
        inputs, outputs = sides(vae.spatial_compression)
        if cut.stride * outputs != cut.shown * inputs or not cut.blend:
            raise ConfigError(
                f"sample_{name} = {size}: tiles of half that size do not fit together; expected 480 (height) and 720 "
                "(width), as published, or run without tiling"
            )
    return height, width


def _cut(tile: int, output: int, overlap: float) -> Cut:
    blend = int(output * overlap)
    return Cut(tile, int(tile * (1 - overlap)), blend, output - blend)
