"""The folder of a run: one trains in it at a time, and a start that fails leaves it as it was."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import CheckpointError, ConfigError, DataError, MMJaxError
from mmjax.training import loop, resuming
from mmjax.training.finite import FiniteCheck
from mmjax.training.tasks.registry import make_task
from mmjax.training.workdir import alone, check_alone, check_run, write_run
from mmjax.validation import is_free
from mmjax.weights import runs, start
from tests.helpers import tiny_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = tiny_run.experiment()


def changed(config=CONFIG, **groups):
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **change) for name, change in groups.items()}
    )


def with_checkpoint(workdir: Path) -> Path:
    """A workdir that looks as if a run had saved step 3."""
    (workdir / "checkpoints" / "3").mkdir(parents=True)
    (workdir / "checkpoints" / "3" / "_CHECKPOINT_METADATA").write_text("{}")
    (workdir / "checkpoints" / "3" / "commit_success.txt").write_text("")
    return workdir


def test_two_runs_do_not_share_a_workdir(tmp_path):
    check_alone(tmp_path / "run")
    assert not (tmp_path / "run").exists(), "a look makes nothing"
    taken = f"expected a folder in which nobody trains, found process {os.getpid()} on .* at it; .*another --workdir"
    with alone(tmp_path / "run"):
        with pytest.raises(ConfigError, match=taken):
            check_alone(tmp_path / "run")
        with pytest.raises(ConfigError, match=taken), alone(tmp_path / "run"):
            pass
    check_alone(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir()), "nothing stays"
    with alone(tmp_path / "run"):
        pass


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/run: expected a folder that can be written, found: Not a directory"):
        alone(tmp_path / "file" / "run").__enter__()


def test_a_run_without_a_checkpoint_has_nothing_to_lose(tmp_path):
    """Other settings, other encoders, a damaged config.json: the mended command begins anew."""
    other = changed(optim={"beta2": 0.5})
    write_run(tmp_path, other, {"text": "t5/1"})
    check_run(tmp_path, CONFIG, {"text": "word_table/1"})
    with_checkpoint(tmp_path)
    with pytest.raises(ConfigError, match="optim.beta2: was 0.5, is 0.95"):
        check_run(tmp_path, CONFIG, {"text": "t5/1"})
    with pytest.raises(DataError, match="then t5/1"):
        check_run(tmp_path, other, {"text": "word_table/1"})
    (tmp_path / "config.json").write_text("{")
    check_run(tmp_path, CONFIG, {"text": "t5/1"})  # the checkpoint itself knows its settings


FAILURES = {
    "weights that cannot be read": (start, "load_start", CheckpointError("no such base")),
    "a device that is too small": (
        loop.states,
        "create_state",
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of"),
    ),
    "interrupted while it starts": (loop.states, "create_state", KeyboardInterrupt()),
}


SAID = {
    "a device that is too small": "memory of a device is too small .RESOURCE_EXHAUSTED: Out of.; .*optim.moments=bf"
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_start_leaves_no_trace(tmp_path, tmp_path_factory, monkeypatch, failure):
    """Neither in a new workdir nor in that of a run which is to go on with other settings."""
    place, name, error = FAILURES[failure]
    config = changed(data={"dir": str(tmp_path_factory.getbasetemp() / "records")})
    before = changed(config, train={"steps": 99})
    write_run(tmp_path / "old", before, {})
    monkeypatch.setattr(place, name, _raises(error))
    monkeypatch.setattr(loop, "CompiledSteps", lambda *_: None)  # it comes before
    for workdir in ("new", "old"):
        with pytest.raises(MMJaxError if isinstance(error, Exception) else type(error), match=SAID.get(failure)):
            loop.train(config, tmp_path / workdir, tiny_run.sources(config))
    assert not (tmp_path / "new" / "config.json").exists()
    assert runs.read_config(tmp_path / "old") == before
    monkeypatch.undo()
    check_run(tmp_path / "new", changed(config, optim={"beta2": 0.5}), {})
    loop.check(config, tmp_path / "new")


def _raises(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("change", "step", "lines"),
    [
        ({}, 8, []),
        ({"steps": 24}, 1, []),  # it still warms up
        ({"steps": 24}, 8, ["train.steps was 12, is 24, .* step 9 has 0.00827, not 0.00345"]),
        ({"steps": 6}, 4, ["train.steps was 12, is 6, .* step 5 has 0.005, not 0.00905"]),
        ({"base": "weights/5b"}, 8, ["train.base = weights/5b has no effect: this run goes on from its own weights"]),
        ({"base": ""}, 8, []),
    ],
)
def test_what_changed_settings_do_is_said(change, step, lines):
    found = resuming.notes(CONFIG, changed(train=change), step)
    assert len(found) == len(lines) and all(re.search(*pair) for pair in zip(lines, found, strict=True)), found


@pytest.mark.parametrize("setting", ["data.dir", "data.sources", "data.clip", "train.base", "encoders.face_models"])
def test_paths_may_change(setting):
    assert is_free(c.Experiment, setting)


class _Saved:
    """What `FiniteCheck` asks of checkpoints."""

    last_saved = 4

    def __init__(self, workdir):
        self.workdir = workdir

    def wait(self):
        pass


class _Said:
    """What `FiniteCheck` asks of telemetry."""

    def __init__(self):
        self.lines = []

    def log(self, text):
        self.lines.append(text)


FINE = {"loss": 1.0, "grad_norm": 1.0, "param_norm": 1.0, "skipped": False}
NOT_FINITE = {"loss": np.nan, "grad_norm": np.inf, "param_norm": 1.0, "skipped": True}


def batch(**changes):
    made = tiny_run.batch(CONFIG) | {"source_number": np.zeros(8, np.int64), "record_number": np.arange(8) + 30}
    for name, (row, value) in changes.items():
        made[name][row].flat[0] = value
    return made


@pytest.mark.parametrize(
    ("norms", "changes", "said"),
    [
        (
            [1.0, 1.0],
            {"latents": (3, 500.0)},
            "Data is the likelier cause: latents of drawn_images: train records 33 reach 500",
        ),
        ([1.0, 1.0], {"text": (0, 900.0)}, "Data is .*: text of drawn_images: train records 30 reach 900"),
        (
            [1.0, 1.0, 50.0],
            {},
            "Optimisation is the likelier cause: the norm of the gradient had grown from 1 to 50; start",
        ),
        ([1.0, 1.2], {}, "Optimisation is the likelier cause: no record of the step stands out"),
        ([], {}, "Optimisation is the likelier cause: no record"),
    ],
)
def test_a_run_that_stops_names_records_and_the_likelier_cause(norms, changes, said, tmp_path):
    check = FiniteCheck(make_task(dataclasses.replace(CONFIG, train=c.Train(max_skipped=1))), _Said(), _Saved(tmp_path))
    for number, norm in enumerate(norms):
        check(number, FINE | {"grad_norm": norm}, batch())
    with pytest.raises(
        MMJaxError, match="step 9: loss, grad_norm not finite.*the checkpoint of step 4 is good"
    ) as caught:
        check(9, NOT_FINITE, batch(**changes))
    assert re.search(said, str(caught.value)), str(caught.value)
    assert "records were drawn_images: train records 30, 31, 32, 33, 34, 35, 36, 37" in str(caught.value)


def test_skipped_steps_are_told_written_down_and_stop_the_run_in_a_row_alone(tmp_path):
    told = _Said()
    check = FiniteCheck(make_task(dataclasses.replace(CONFIG, train=c.Train(max_skipped=3))), told, _Saved(tmp_path))
    for step, metrics in enumerate((NOT_FINITE, NOT_FINITE, FINE, NOT_FINITE, NOT_FINITE), 1):
        check(step, metrics, batch())
    with pytest.raises(MMJaxError, match="step 6: loss, grad_norm not finite, 3 times in a row, so the run stops"):
        check(6, NOT_FINITE, batch())
    assert len(told.lines) == 4
    assert told.lines[1].startswith("step 2: loss, grad_norm not finite; the step is skipped (2 in a row)")
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4, 5, 6]
    assert rows[0]["loss"] == "nan" and rows[0]["grad_norm"] == "inf" and "records 30, 31" in rows[0]["records"]


def test_weights_that_are_not_finite_stop_the_run_at_once(tmp_path):
    check = FiniteCheck(make_task(CONFIG), _Said(), _Saved(tmp_path))
    with pytest.raises(MMJaxError, match="step 2: param_norm not finite, so the run stops"):
        check(2, FINE | {"param_norm": np.nan}, batch())


INTERRUPTED = """
import os, signal
from mmjax.peers import together
from mmjax.training.signals import StopSignals
with together() as alone, StopSignals(alone, None, 0) as stop:
    os.kill(os.getpid(), signal.SIGINT)
    print(stop.after(1), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.slow
def test_ctrl_c_says_what_it_does_and_a_second_one_stops_at_once():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "True\n")
    assert done.stderr.split("\n\n") == [
        "\nstopping after this step; what is trained is saved first (Ctrl-C again stops at once)",
        "stopped at once; --workdir goes on from the last complete checkpoint\n",
    ]
