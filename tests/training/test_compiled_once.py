"""Each program of a run is compiled once, before its first use: later steps compile nothing."""

import jax
import pytest

from mmjax.training import loop
from mmjax.training.evaluators import Evaluation
from tests.helpers import tiny_run

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
    """Programs compiled so far, of any kind. JAX cannot forget a listener: this one goes on with nobody to read it."""
    seen = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: name == COMPILED and seen.append(name))
    return seen


class Counting:
    """An evaluator that compiles nothing itself and notes how many programs there are."""

    name, every, higher_is_better = "counting", 2, {}

    def __init__(self, compiled):
        self._compiled, self.counts = compiled, {}

    def __call__(self, state, step):
        self.counts[step] = len(self._compiled)
        return Evaluation({"counting/programs": float(self.counts[step])})


@pytest.mark.slow
def test_later_steps_compile_nothing(tmp_path, compiled):
    """Nor do later log lines, and the second and third checkpoint; the first, of step 4, does, small copies."""
    train = {"checkpoint_every": 4, "validate_every": 0, "log_every": 1, "steps": 12}
    config = tiny_run.experiment(tmp_path / "data", train=train, mesh={"data": 4, "fsdp": 2})
    counting = Counting(compiled)
    loop.train(config, tmp_path / "run", tiny_run.sources(config), [counting])
    counts = counting.counts
    assert list(counts) == [2, 4, 6, 8, 10, 12] and counts[2] > 0
    assert counts[4] == counts[2]
    assert counts[6] == counts[8] == counts[10] == counts[12]
