"""Charts of the page as SVG geometry: plain numbers and paths that the template draws. Unknown values leave gaps."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

BINS = 44
WIDTH, HEIGHT, FOOT = 360, 130, 34  # of a chart in SVG units, and of its axis
TRACK = 120  # width of the line that an interval is drawn on
SPARK_WIDTH, SPARK_HEIGHT = 110, 20
_MOST_POINTS = 160  # of a line

Series = Sequence[float | None]


def histogram(name: str, own: Series, impostor: Series) -> dict:
    """Shares of own and of impostors' cosines by bin, each of its own count, with the mean of each."""
    sides = {"own": _known(own), "impostor": _known(impostor)}
    everything = np.concatenate(list(sides.values()))
    low, high = _span(everything, 0.1)
    shares = {
        side: np.histogram(values.clip(low, high), BINS, (low, high))[0] / max(len(values), 1)
        for side, values in sides.items()
    }
    most, wide = max(float(np.max(each)) for each in shares.values()) or 1.0, WIDTH / BINS
    bars = [
        {"kind": side, "x": number * wide, "width": wide, "height": (tall := HEIGHT * share / most), "y": HEIGHT - tall}
        for side, each in shares.items()
        for number, share in enumerate(each)
        if share
    ]
    means = [
        {"kind": side, "mean": (mean := float(values.mean())), "x": WIDTH * (mean - low) / (high - low)}
        for side, values in sides.items()
        if len(values)
    ]
    counts = {side: len(values) for side, values in sides.items()}
    return {"name": name, "bars": bars, "means": means, "ticks": _ticks(low, high), "counts": counts}


def scale_of(series: Sequence[Series], more: Sequence[float]) -> tuple[float, float]:
    """Ends of the vertical axis that all similarity charts of a page share."""
    return _span(np.concatenate([np.asarray(more, float), *map(_known, series)]), 0.1)


def time_chart(
    seconds: Sequence[float], lines: Mapping[str, Series], marks: Mapping[str, float], scale: tuple[float, float]
) -> dict:
    """Similarity over time.

    Args:
      seconds: of each value.
      lines: by embedder, one value for each of `seconds`.
      marks: by embedder, the mean of impostors, which is drawn as a dashed line.
      scale: of `scale_of`.
    """
    low, high = scale
    length = max(seconds) or 1.0
    across = [WIDTH * each / length for each in seconds]
    down = {name: _heights(values, low, high, HEIGHT) for name, values in lines.items()}
    return {
        "lines": [{"name": name, "path": path_of(across, values)} for name, values in down.items()],
        "marks": [
            {"name": name, "y": _heights([marks[name]], low, high, HEIGHT)[0]} for name in lines if name in marks
        ],
        "levels": [{"value": each["value"], "y": HEIGHT * (1 - each["x"] / WIDTH)} for each in _ticks(low, high)],
        "ticks": _ticks(0, length),
    }


def sparkline(series: Series) -> str:
    """The path of a small line, scaled to itself; "" of nothing."""
    known = _known(series)
    if len(series) < 2 or not len(known):
        return ""
    low, high = float(known.min()), float(known.max())
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    across = [SPARK_WIDTH * number / (len(series) - 1) for number in range(len(series))]
    return path_of(across, _heights(series, low, high, SPARK_HEIGHT))


def path_of(across: Sequence[float], down: Series) -> str:
    """An SVG path through points; it is broken where a height is None, and a lone point is a dot."""
    step = math.ceil(len(across) / _MOST_POINTS)
    parts, pen, alone = [], False, False
    for x, y in list(zip(across, down, strict=True))[::step]:
        if y is None:
            parts += ["h0"] * alone
            pen = alone = False
        else:
            parts.append(f"{'L' if pen else 'M'}{x:.1f} {y:.1f}")
            alone, pen = not pen, True
    return "".join([*parts, *["h0"] * alone])


def track(value: float, low: float | None, high: float | None, ends: tuple[float, float]) -> dict:
    """A value and its interval on a line from `ends[0]` to `ends[1]`."""
    place = [TRACK * (each - ends[0]) / (ends[1] - ends[0]) for each in (value, low, high) if each is not None]
    return {"x": place[0], "low": place[1] if len(place) == 3 else None, "high": place[-1]}


def ends_of(values: Sequence[float | None]) -> tuple[float, float]:
    """The ends of the line that the intervals of one metric are drawn on, with some room."""
    known = _known(values)
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _known(values: Series) -> np.ndarray:
    return np.array([each for each in values if each is not None], float)


def _span(values: np.ndarray, grid: float) -> tuple[float, float]:
    """From the least to the most on a grid; 0 to 1 of nothing."""
    if not len(values):
        return 0.0, 1.0
    low, high = math.floor(values.min() / grid + 1e-9) * grid, math.ceil(values.max() / grid - 1e-9) * grid
    return round(low, 6), round(max(high, low + grid), 6)


def _heights(values: Series, low: float, high: float, tall: float) -> list[float | None]:
    return [None if each is None else tall * (high - each) / (high - low) for each in values]


def _ticks(low: float, high: float) -> list[dict]:
    """Round numbers from `low` to `high`, three to seven of them."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 2.5, 5, 10) if power * each >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [
        {"value": step * number, "x": WIDTH * (step * number - low) / (high - low)} for number in range(first, last + 1)
    ]
