"""What stands behind a drawn person: walls, a beach, a park, a city at night, a sunset. NumPy only."""

import numpy as np
from jaxtyping import Float

from mmjax.synthetic.people import PLACES, Looks


def paint_background(looks: Looks, height: int, width: int) -> Float[np.ndarray, "n 3 h w"]:
    """Colour planes, float32 0..255, of the place in which each picture is taken."""
    short = min(height, width)
    x = (((np.arange(width, dtype=np.float32) + 0.5) * 2 - width) / short)[None, None, :]
    y = (((np.arange(height, dtype=np.float32) + 0.5) * 2 - height) / short)[None, :, None]
    canvas = np.empty((len(looks), 3, height, width), np.float32)
    painters = {
        "wall": _wall,
        "striped wall": _stripes,
        "beach": _beach,
        "park": _park,
        "city": _city,
        "sunset": _sunset,
    }
    for index, place in enumerate(PLACES):
        chosen = np.flatnonzero(looks.place == index)
        if len(chosen):
            layout = looks.layout[chosen].astype(np.float32)[:, :, None, None]
            wall = looks.wall[chosen].astype(np.float32)[:, :, None, None]
            canvas[chosen] = painters[place](x, y, layout, wall, 2 / short)
    return canvas


def _wall(x, y, layout, wall, soft):
    light = 1.04 - 0.10 * (y + 1) / 2 - 0.10 * np.abs(x - (layout[:, 0] * 2 - 1)) / 2
    return wall * light[:, None]


def _stripes(x, y, layout, wall, soft):
    period = 0.28 + 0.3 * layout[:, 0]
    wave = np.abs(((x + layout[:, 1]) / period) % 1 - 0.5) - 0.25
    band = np.clip(0.5 + wave * period / soft, 0, 1) + 0 * y
    return _blend(wall, wall * 0.78 + 10, band)


def _beach(x, y, layout, wall, soft):
    horizon = -0.15 + 0.3 * layout[:, 0]
    sky = _gradient(y, (104, 178, 236), (206, 232, 246)) + 0 * x[:, None]
    sea = _step(y - horizon, soft) + 0 * x
    sand = _step(y - horizon - 0.42 + 0.05 * np.sin(3 * x + 6 * layout[:, 1]), soft)
    return _blend(_blend(sky, _rgb(44, 128, 176), sea), _rgb(236, 212, 160), sand)


def _park(x, y, layout, wall, soft):
    horizon = 0.15 + 0.25 * layout[:, 0]
    canvas = _gradient(y, (150, 206, 240), (222, 238, 240)) + 0 * x[:, None]
    for place, size in ((layout[:, 1] * 2 - 1.6, 0.42), (layout[:, 2] * 2 - 0.4, 0.36)):
        crown = np.hypot(x - place, (y - horizon + 0.55) * 0.9) - size
        trunk = np.maximum(np.abs(x - place) - 0.06, np.abs(y - horizon + 0.2) - 0.3)
        canvas = _blend(canvas, _rgb(110, 78, 54), _step(-trunk, soft))
        canvas = _blend(canvas, _rgb(66, 132, 72), _step(-crown, soft))
    return _blend(canvas, _rgb(126, 178, 92), _step(y - horizon + 0 * x, soft))


def _city(x, y, layout, wall, soft):
    canvas = _gradient(y, (22, 26, 58), (58, 48, 96)) + 0 * x[:, None]
    column = np.floor((x + 3) / 0.34)
    roof = -0.15 - 0.55 * _hash(column, layout[:, 0])
    houses = _step(y - roof, soft)
    canvas = _blend(canvas, _rgb(40, 42, 66), houses)
    row, across = np.floor(y / 0.17), ((x + 3) / 0.085) % 4
    lit = (_hash(np.floor((x + 3) / 0.17) + 37 * row, layout[:, 1]) > 0.45) & (across % 2 > 0.5) & (y / 0.17 % 1 > 0.4)
    return _blend(canvas, _rgb(250, 212, 120), 0.85 * lit * houses)


def _sunset(x, y, layout, wall, soft):
    horizon = 0.2 + 0.2 * layout[:, 0]
    canvas = _gradient(y, (110, 84, 160), (255, 172, 96)) + 0 * x[:, None]
    sun = np.hypot(x - (layout[:, 1] * 2 - 1), y - horizon + 0.08) - 0.26
    canvas = _blend(canvas, _rgb(255, 232, 150), _step(-sun, soft))
    hills = y - horizon - 0.12 * np.sin(2.2 * x + 6 * layout[:, 2])
    return _blend(canvas, _rgb(84, 58, 92), _step(hills, soft))


def _rgb(red, green, blue):
    return np.array([red, green, blue], np.float32)[None, :, None, None]


def _gradient(y, top, bottom):
    share = np.clip((y + 1) / 2, 0, 1)[:, None]
    return _rgb(*top) * (1 - share) + _rgb(*bottom) * share


def _step(distance, soft):
    return np.clip(0.5 + distance / soft, 0, 1)


def _blend(below, above, alpha):
    return below + (above - below) * alpha[:, None]


def _hash(index, seed):
    """Numbers in 0..1 that look random and depend on the cell and the picture alone."""
    return np.abs(np.sin(index * 12.9898 + seed * 78.233 + 4.1) * 43758.547) % 1
