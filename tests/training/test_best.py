"""The best checkpoint by a figure: kept beside the newest, found again by a run that goes on and by readers."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from mmjax.errors import CheckpointError, ConfigError
from mmjax.records import pipeline
from mmjax.training import checkpoints as saving
from mmjax.training import loop
from mmjax.training.best import criterion
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.evaluators import Evaluation
from mmjax.training.workdir import write_run
from mmjax.weights import checksums, parameters
from mmjax.weights.best import Figure
from tests.helpers import tiny_run

LOSS = "validation/loss"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data that all runs share."""
    return tmp_path_factory.mktemp("best")


@pytest.fixture(scope="module")
def run(folder):
    """(experiment that keeps one checkpoint and the best, its sources, a state)."""
    config = tiny_run.experiment(folder / "data", train={"keep_checkpoints": 1, "keep_best": LOSS})
    return config, tiny_run.sources(config), tiny_run.fresh_state(config, 1)[2]


def opened(run, workdir, **train):
    """(checkpoints of a workdir, `save(step, figure)`)."""
    config, sources, state = run
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **train))
    made = Checkpoints(workdir, config, pipeline.order_fingerprint(config, sources))

    def save(step, value=None, tag=LOSS, higher=False, wait=True):
        figure = None if value is None else Figure(tag, value, higher)
        made.save(state.replace(step=jnp.full_like(state.step, step)), figure)
        if wait:
            made.wait()

    return made, save


def steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


@pytest.mark.parametrize("higher, kept", [(False, 4), (True, 2)])
def test_the_best_is_kept_beside_the_newest(run, tmp_path, caplog, higher, kept):
    made, save = opened(run, tmp_path)
    for step, value in ((2, 0.5), (4, 0.25), (5, None), (6, 0.375), (7, None)):
        save(step, value, higher=higher)
    made.close()
    assert steps(tmp_path) == [kept, 7]
    assert "metric" not in caplog.text, "Orbax warns of each checkpoint without a figure"
    assert made.best[0] == kept == parameters.complete_step(tmp_path, "best")
    assert parameters.complete_step(tmp_path) == 7


def test_of_equal_ones_the_last_is_the_best_and_none_is_better(run, tmp_path):
    made, save = opened(run, tmp_path)
    save(2, 0.5)
    assert not made.is_better(Figure(LOSS, 0.5, False)) and made.is_better(Figure(LOSS, 0.4, False))
    assert not made.is_better(None)
    for step, value in ((4, 0.5), (6, 0.75), (8, None)):
        save(step, value)
    made.close()
    assert steps(tmp_path) == [4, 8] and made.best[0] == parameters.complete_step(tmp_path, "best") == 4


@pytest.mark.slow
def test_a_run_that_goes_on_knows_what_to_beat(run, tmp_path):
    made, save = opened(run, tmp_path)
    save(2, 0.25)
    save(4, 0.5)
    made.close()
    made, save = opened(run, tmp_path)
    assert made.best == (2, Figure(LOSS, 0.25, False))
    save(6, 0.5)
    assert steps(tmp_path) == [2, 6]
    save(8, 0.125)
    made.close()
    assert steps(tmp_path) == [8]


@pytest.mark.slow
def test_another_figure_to_choose_by_begins_anew(run, tmp_path):
    """The old best stays until there is one by the new figure."""
    made, save = opened(run, tmp_path)
    save(2, 0.25)
    save(4)
    made.close()
    made, save = opened(run, tmp_path, keep_best="identity/own")
    assert made.best is None
    save(6)
    assert steps(tmp_path) == [2, 6]
    save(8, 0.5, "identity/own", True)
    save(10, 0.25, "identity/own", True)
    made.close()
    assert steps(tmp_path) == [8, 10] and parameters.complete_step(tmp_path, "best") == 8
    made, save = opened(run, tmp_path, keep_best="")
    save(12)
    made.close()
    assert steps(tmp_path) == [12]
    with pytest.raises(CheckpointError, match="expected a checkpoint that was kept as the best .* choose a step: 12"):
        parameters.complete_step(tmp_path, "best")


def test_a_save_that_failed_is_not_the_best(run, tmp_path, monkeypatch, caplog):
    made, save = opened(run, tmp_path)
    save(2, 0.5)

    def write(folder):  # called behind, when the arrays of a step are written
        if folder.name.startswith("4."):
            raise OSError(28, "No space left on device")
        return checksums.write_checksums(folder)

    monkeypatch.setattr(saving, "write_checksums", write)
    save(4, 0.25, wait=False)
    save(6, 0.375)
    made.close()
    assert "the checkpoint of step 4 could not be written: the disk is full" in caplog.text
    assert made.best == (6, Figure(LOSS, 0.375, False)) and steps(tmp_path) == [6]


def test_a_damaged_figure_is_told_and_another_checkpoint_offered(run, tmp_path):
    made, save = opened(run, tmp_path, keep_checkpoints=2)
    save(2, 0.5)
    save(4, 0.25)
    made.close()
    for content in ("", "{", "[]", '{"tag": "a"}', '{"tag": "a", "figure": NaN, "higher_is_better": true}'):
        (tmp_path / "checkpoints" / "4" / "metrics" / "metrics").write_text(content)
        with pytest.raises(CheckpointError, match="step 4 cannot be read.*move it away to go on from step 2"):
            parameters.complete_step(tmp_path, "best")
        with pytest.raises(CheckpointError, match="step 4 cannot be read.*move it away to go on from step 2"):
            opened(run, tmp_path)


def test_readers_take_the_best(run, tmp_path):
    config, sources, state = run
    write_run(tmp_path, config, {})
    made = Checkpoints(tmp_path, config, pipeline.order_fingerprint(config, sources))
    for step, value in ((2, 0.25), (4, 0.5)):
        moved = state.replace(
            step=jnp.full_like(state.step, step), ema=jax.tree.map(lambda x, s=step: x + s, state.ema)
        )
        made.save(moved, Figure(LOSS, value, False))
    made.close()
    for step, added in (("best", 2), (None, 4)):
        found = parameters.load_trained(tmp_path, state.ema, step)
        tiny_run.assert_bit_equal(found, jax.tree.map(lambda x, n=added: x + n, state.ema))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_the_best(value):
    chosen = criterion("identity/own", {"identity/own": True})
    assert chosen.of({"identity/own": value}) is None and chosen.of({"validation/loss": 1.0}) is None
    assert chosen.of({"identity/own": 0.5}) == Figure("identity/own", 0.5, True)
    assert criterion("", {}) is None


class Scripted:
    """An evaluator whose figure is written down beforehand, by step."""

    name, every, higher_is_better = "scripted", 2, {"scripted/cosine": True}

    def __init__(self, values):
        self.values = values

    def __call__(self, state, step):
        return Evaluation({"scripted/cosine": self.values[step]})


def test_a_tag_that_no_evaluator_gives_is_refused_at_the_start(folder, tmp_path):
    config = tiny_run.experiment(folder / "data", train={"keep_best": "validation/los"})
    known = "scripted/cosine, validation/drawn_images/loss, validation/loss"
    with pytest.raises(ConfigError, match=f"train.keep_best = validation/los: expected a figure .*: {known}"):
        loop.train(config, tmp_path / "run", tiny_run.sources(config), [Scripted({})])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_keeps_its_best_and_says_so(folder, tmp_path, capfd):
    """Steps 6 and 8 bring a better figure: 6 is saved although none is due. Step 4 has no figure at all."""
    train = {"checkpoint_every": 8, "validate_every": 0, "keep_checkpoints": 1, "keep_best": "scripted/cosine"}
    config = tiny_run.experiment(folder / "data", train=train, mesh={"data": 4, "fsdp": 2})
    values = {2: float("nan"), 4: float("nan"), 6: 0.25, 8: 0.5, 10: 0.5, 12: 0.125}
    loop.train(config, tmp_path, tiny_run.sources(config), [Scripted(values)])
    printed = capfd.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("best so far")] == [
        "best so far: scripted/cosine 0.2500 at step 6",
        "best so far: scripted/cosine 0.5000 at step 8",
    ]
    assert "; best so far: scripted/cosine 0.5000 at step 8 (--step best)" in printed
    assert steps(tmp_path) == [8, 12]
    loop.train(config, tmp_path, tiny_run.sources(config), [Scripted(values)])
    printed = capfd.readouterr().out
    assert "going on from the checkpoint of step 12; best so far: scripted/cosine 0.5000 at step 8" in printed
    assert steps(tmp_path) == [8, 12]
