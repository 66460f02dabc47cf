"""The figure that a checkpoint was saved with, by which the best one of a run is kept and found.

    WORKDIR/checkpoints/STEP/metrics/metrics    {"tag": "validation/loss", "figure": 0.1234, "higher_is_better": false}

Orbax's metrics of a checkpoint; one that was saved at no evaluation has none. NumPy-free and small: a folder is enough.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

_FILE = "metrics/metrics"  # in a step's folder; Orbax's names


@dataclasses.dataclass(frozen=True)
class Figure:
    """A finite figure with the tag it is logged under, such as "validation/loss", and which end of it is good."""

    tag: str
    value: float
    higher_is_better: bool

    def __str__(self) -> str:
        return f"{self.tag} {self.value:.4f}"

    @property
    def score(self) -> float:
        """The figure, turned so that more is better."""
        return self.value if self.higher_is_better else -self.value

    def as_metrics(self) -> dict[str, str | float | bool]:
        """Plain JSON values; `figure_of` reads them."""
        return {"tag": self.tag, "figure": self.value, "higher_is_better": self.higher_is_better}


def figure_of(metrics: Mapping) -> Figure:
    """The figure of `as_metrics`. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    tag, value, higher = metrics["tag"], float(metrics["figure"]), metrics["higher_is_better"]
    if not (isinstance(tag, str) and math.isfinite(value) and isinstance(higher, bool)):
        raise ValueError(f"metrics: expected a tag, a finite figure and which end of it is good, found {metrics}")
    return Figure(tag, value, higher)


def read_figure(folder: Path) -> Figure | None:
    """Of a checkpoint's folder; None where it was saved without one. Raises what `figure_of` does, for damaged ones."""
    try:
        content = (folder / _FILE).read_bytes()
    except FileNotFoundError:
        return None
    return figure_of(json.loads(content))
