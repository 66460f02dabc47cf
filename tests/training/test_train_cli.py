"""Training as its user meets it: a run, a stop, a kill, a resume, and what is said about mistakes.

A resumed run must be the uninterrupted one, bit for bit: parameters, moments, average, data position and logged losses.
"""

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from mmjax.errors import CheckpointError, ConfigError, DataError, MMJaxError
from mmjax.evaluation.samples import Samples
from mmjax.train import train
from mmjax.training import loop
from mmjax.training.evaluators import SampleSheets
from mmjax.weights import parameters, runs
from tests.helpers import commands, same_run, tiny_run
from tests.kills.survival import survive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data that all runs share."""
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    """Twelve steps on eight devices in one go; what it printed is in `printed.txt`."""
    config = tiny_run.experiment(folder / "data", mesh={"data": 4, "fsdp": 2})
    return config, folder / "uninterrupted", train(config, folder / "uninterrupted")


def test_a_run_leaves_what_it_should(uninterrupted):
    config, workdir, state = uninterrupted
    assert int(state.step) == 12
    assert runs.read_config(workdir) == config
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["12", "8"]
    found = same_run.rows(workdir)
    assert [row["step"] for row in found if "train/loss" in row] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in found if "validation/loss" in row] == [6, 12]
    assert all(np.isfinite(list(row.values())).all() for row in found)
    assert found[-1]["validation/loss"] == found[-1]["validation/drawn_images/loss"]
    assert list((workdir / "tensorboard").glob("events.*"))
    params = parameters.load_params(workdir)
    tiny_run.assert_bit_equal(jax.device_get(params), jax.device_get(state.params()))


def test_the_loss_goes_down(uninterrupted):
    losses = [row["validation/loss"] for row in same_run.rows(uninterrupted[1]) if "validation/loss" in row]
    print(f"measured: validation loss {losses[0]:.3f} at step 6, {losses[1]:.3f} at step 12")
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_a_signal_saves_and_a_resumed_run_is_the_same_run(uninterrupted, folder, capfd):
    """SIGTERM after step 7, between two checkpoints, then the same call again."""
    config, expected, _ = uninterrupted
    workdir = folder / "stopped"
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, sample_every=7))

    def preview(params, number):
        os.kill(os.getpid(), signal.SIGTERM)
        return Samples(["anna"], np.zeros((1, 1, 4, 4, 3), np.uint8), 8, np.zeros((4, 4, 3), np.uint8))

    before = signal.getsignal(signal.SIGTERM)
    # the signal comes while step 7 is evaluated, step 8 still runs
    state = loop.train(config, workdir, tiny_run.sources(config), [SampleSheets(7, preview)])
    assert int(state.step) == 8 and signal.getsignal(signal.SIGTERM) == before
    printed = capfd.readouterr().out
    assert "stopped by a signal after step 8 of 12, all is saved" in printed and f"--workdir {workdir}" in printed
    assert (workdir / "samples" / "7.png").is_file()
    resumed = train(config, workdir)
    assert int(resumed.step) == 12
    assert "going on from the checkpoint of step 8" in capfd.readouterr().out
    same_run.assert_same_run(workdir, expected, 12)
    again = train(config, workdir)
    assert int(again.step) == 12 and "this run is finished: step 12 of 12" in capfd.readouterr().out


@pytest.mark.slow
def test_checkpoints_by_the_clock(uninterrupted, folder):
    """With steps switched off and next to no minutes, every row of the log brings a checkpoint."""
    config, expected, _ = uninterrupted
    by_clock = dataclasses.replace(config.train, checkpoint_every=0, checkpoint_minutes=1e-9, keep_checkpoints=9)
    workdir = folder / "by_clock"
    train(dataclasses.replace(config, train=by_clock), workdir)
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [2, 4, 6, 8, 10, 12]
    same_run.assert_same_run(workdir, expected, 12)


def test_other_settings_in_a_workdir_are_refused(uninterrupted):
    config, workdir, _ = uninterrupted
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, beta2=0.5))
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(ConfigError, match="optim.beta2: was 0.95, is 0.5"):
        train(other, workdir)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_records_that_were_prepared_anew_need_a_flag(uninterrupted, capfd):
    config, workdir, state = uninterrupted
    (more,) = tiny_run.sources(dataclasses.replace(config, data=dataclasses.replace(config.data, people=5))).folders
    anew = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=(str(more),)))
    with pytest.raises(DataError, match="checkpoints/12: the records came in an order.*give --new_data_order"):
        train(anew, workdir)
    assert int(train(anew, workdir, new_data_order=True).step) == int(state.step)
    assert "the records come in another order from step 13 on" in capfd.readouterr().out


def test_a_batch_that_devices_cannot_share_is_refused(folder):
    config = tiny_run.experiment(folder / "data", data={"batches": (6,)})
    with pytest.raises(ConfigError, match="data.batches = 6: expected a multiple of 8"):
        train(config, folder / "never")
    assert not (folder / "never").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("bad", "stops"), [((6,), False), ((6, 7), True)])
def test_steps_that_are_not_finite_are_skipped_until_there_are_too_many(uninterrupted, folder, monkeypatch, bad, stops):
    """One costs its step alone; with two in a row the message names the step, and the last good checkpoint stays."""
    config = dataclasses.replace(uninterrupted[0], train=dataclasses.replace(uninterrupted[0].train, max_skipped=2))
    put = loop.put_batch
    count = itertools.count(1)

    def poisoned(*arguments):
        made = put(*arguments)
        number = next(count)
        return made | {"latents": made["latents"] * float("nan")} if number in bad else made

    monkeypatch.setattr(loop, "put_batch", poisoned)
    workdir = folder / f"poisoned{stops}"
    if stops:
        with pytest.raises(MMJaxError, match="step 7: loss, grad_norm not finite, 2 .*checkpoint of step 4 is good"):
            train(config, workdir)
        assert parameters.complete_step(workdir) == 4
    else:
        train(config, workdir)
        assert parameters.complete_step(workdir) == 12
        assert all(np.isfinite(row["train/loss"]) for row in same_run.rows(workdir) if "train/loss" in row)
    assert [json.loads(line)["step"] for line in (workdir / "skipped.jsonl").read_text().splitlines()] == list(bad)


def test_a_damaged_checkpoint_stops_the_run(uninterrupted, folder):
    config, workdir, _ = uninterrupted
    copy = folder / "damaged"
    subprocess.run(["cp", "-r", workdir, copy], check=True)
    for path in (copy / "checkpoints" / "12" / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match="step 12 cannot be read.*move it away to go on from step 8"):
        train(config, copy)


# The command line


def command(config_file, *arguments):
    return [sys.executable, "-m", "mmjax.train", f"--config={config_file}", *map(str, arguments)]


def run(config_file, *arguments):
    return subprocess.run(
        command(config_file, *arguments),
        capture_output=True,
        text=True,
        env=commands.environment(),
        cwd=config_file.parent,
    )


@pytest.fixture(scope="module")
def config_file(folder):
    return tiny_run.write_config(folder / "config.py", folder / "data")


MISTAKES = {
    "--config.train.stepz=3": "train.stepz: unknown setting; did you mean train.steps?",
    "--config.trian.steps=3": 'Did you mean "train"',
    "--config.train.steps=many": "flag --config.train.steps=many: invalid literal for int()",
    "--config.train.steps=-1": "train.steps = -1: expected a positive number",
    "--config.data.frames=(50,)": "data.frames = 50: expected 8k + 1",
    "--config.model.transformer.head_dim=20": "head_dim = 20: expected a multiple of 16",
    "--config.precision.compute=float16": "black videos",
    "--config.train.accumulate=3": "data.batches = 8: expected a multiple of train.accumulate = 3",
    "--stepz=3": "Unknown command line flag 'stepz'",
    "steps=3": "steps=3: unknown argument; settings are given as --config.KEY=VALUE",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_one_message_and_status_2(config_file, argument):
    done = run(config_file, argument)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and MISTAKES[argument] in done.stderr


def test_a_list_that_is_given_twice_is_refused(config_file):
    done = run(config_file, "--config.data.batches=8", "--config.train.steps=3", "--config.data.batches", "(4,)")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--config.data.batches is given 2 times, as 8 and (4,): expected all its values at once" in done.stderr


def test_a_missing_or_broken_config_file_is_named(tmp_path):
    done = run(tmp_path / "none.py")
    assert done.returncode == 2 and "none.py" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    done = run(tmp_path / "broken.py")
    assert done.returncode == 2 and "broken.py" in done.stderr and "Traceback" not in done.stderr
    nothing = [sys.executable, "-m", "mmjax.train"]
    done = subprocess.run(nothing, capture_output=True, text=True, env=commands.environment(), cwd=tmp_path)
    assert done.returncode == 2 and "expected --config FILE" in done.stderr


def test_mistakes_are_found_before_jax_starts(config_file):
    """The settings are checked without importing JAX at all."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['mmjax.train', '--config=plain.py', '--config.train.stepz=3']\n"
        "try:\n    runpy.run_module('mmjax.train', run_name='__main__')\n"
        "except SystemExit as stop:\n    print(stop.code, 'jax' in sys.modules)\n"
    )
    plain = "from mmjax import config\n\n\ndef get_config():\n    return config.Experiment().to_config_dict()\n"
    (config_file.parent / "plain.py").write_text(plain)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=commands.environment(), cwd=config_file.parent
    )
    assert done.stdout.split() == ["2", "False"], done.stderr


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    """kill -9, three times; `python -m tests.kills` does so fifty times."""
    survive(tmp_path, 3, random.Random(0), print)


@pytest.mark.slow
def test_a_terminated_command_saves_and_the_workdir_alone_goes_on(config_file, folder):
    """SIGTERM to the process: status 0 and a line that says how to go on; then `--workdir` is enough."""
    workdir = folder / "terminated"
    settings = ["--config.train.steps=100000", "--config.train.checkpoint_every=0", "--workdir", str(workdir)]
    process = subprocess.Popen(
        command(config_file, *settings),
        stdout=subprocess.PIPE,
        text=True,
        env=commands.environment(),
        cwd=config_file.parent,
    )
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("step 4 of"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "stopped by a signal after step" in printed[-1], printed
    stopped = parameters.complete_step(workdir)
    again = [sys.executable, "-m", "mmjax.train", "--workdir", workdir, f"--config.train.steps={stopped + 3}"]
    refused = subprocess.run([*again, "--config.seed=1"], capture_output=True, text=True, env=commands.environment())
    assert refused.returncode == 2 and "seed: was 0, is 1" in refused.stderr
    done = subprocess.run(again, capture_output=True, text=True, env=commands.environment())
    assert done.returncode == 0, done.stderr
    assert f"going on from the checkpoint of step {stopped}" in done.stdout
    assert f"train.steps was 100000, is {stopped + 3}, which stretches the learning rate's cosine" in done.stdout
    assert parameters.complete_step(workdir) == stopped + 3


@pytest.mark.slow
def test_damaged_files_end_a_command_with_one_message(folder):
    """A checkpoint, then the records, cut in half: status 2 and one error that names the place, no traceback.

    Of a run whose records two processes read, then of one that reads them itself.
    """
    records, workdir = folder / "cut_data", folder / "cut"
    config_file = tiny_run.write_config(folder / "cut.py", records, data={"workers": 2})
    settings = ["--config.train.steps=2", "--config.train.validate_every=0", "--workdir"]
    assert run(config_file, *settings, workdir).returncode == 0
    cut_in_half(workdir / "checkpoints" / "2" / "state")
    assert_one_message(run(config_file, *settings, workdir, "--config.train.steps=4"), str(workdir / "checkpoints"))
    cut_in_half(records)
    for workers in (2, 0):
        again = run(config_file, *settings, folder / f"new_{workers}", f"--config.data.workers={workers}")
        assert_one_message(again, "drawn_images")


def cut_in_half(folder):
    """Every file of the folder that is large enough to hold something."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert files
    for path in files:
        os.truncate(path, path.stat().st_size // 2)


def assert_one_message(done, place):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and place in done.stderr, done.stderr[-2000:]
