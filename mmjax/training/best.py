"""Which of the evaluators' figures decides what a run's best checkpoint is: `train.keep_best`.

The figure travels with the checkpoint (`mmjax.weights.best`), so that a run which goes on knows what to beat, and
`mmjax.sample --step best` finds it. Keeping and deleting is Orbax's (`mmjax.training.checkpoints`).
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmjax.errors import ConfigError
from mmjax.weights.best import Figure


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A figure by its tag, and whether more of it is better."""

    tag: str
    higher_is_better: bool

    def of(self, figures: Mapping[str, float]) -> Figure | None:
        """The figure among those of a step, process 0's for all processes; None where it is not there or not finite."""
        if self.tag not in figures:
            return None
        value = figures[self.tag]
        if jax.process_count() > 1:
            value = float(multihost_utils.broadcast_one_to_all(np.float32(value)))
        return Figure(self.tag, float(value), self.higher_is_better) if math.isfinite(value) else None


def criterion(tag: str, higher_is_better: Mapping[str, bool]) -> Criterion | None:
    """The criterion of `train.keep_best = tag`; None for "".

    Args:
      higher_is_better: of the figures that this run's evaluators give, by tag.

    Raises:
      ConfigError: a tag that none of them gives.
    """
    if not tag:
        return None
    if tag not in higher_is_better:
        known = ", ".join(sorted(higher_is_better)) or "none; switch train.validate_every on"
        raise ConfigError(f"train.keep_best = {tag}: expected a figure that this run's evaluators give: {known}")
    return Criterion(tag, higher_is_better[tag])
