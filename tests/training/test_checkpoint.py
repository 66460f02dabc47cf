"""Checkpoints: complete, readable on other devices, honest about damage and about what they belong to."""

import contextlib
import itertools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config as c
from mmjax import sharding, trees
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.models import build
from mmjax.records import pipeline
from mmjax.training import optimizer, resuming, state
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.tasks.registry import make_task
from mmjax.training.workdir import check_run, write_run
from mmjax.weights import parameters, runs
from tests.helpers import tiny_run


def with_mesh(config, **mesh):
    return c.Experiment.from_config_dict(runs.as_json(config) | {"mesh": {"data": 1, **mesh}})


def opened(config, workdir, new_data_order=False):
    """Checkpoints of a workdir."""
    return Checkpoints(workdir, config, pipeline.order_fingerprint(config, tiny_run.sources(config)), new_data_order)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with checkpoints of steps 3 and 5, saved from eight devices, and the state of 5."""
    folder = tmp_path_factory.mktemp("saved")
    config = with_mesh(tiny_run.experiment(folder / "data"), fsdp=8)
    _, _, made = tiny_run.fresh_state(config, 8)
    numbers = itertools.count(1)

    def unlike(leaf):  # no two leaves alike, nothing zero
        return (leaf + next(numbers)).astype(leaf.dtype)

    made = made.replace(trained=jax.tree.map(unlike, made.trained), ema=jax.tree.map(unlike, made.ema))
    made = made.replace(opt_state=jax.tree.map(unlike, made.opt_state))
    workdir = folder / "workdir"
    write_run(workdir, config, {})
    checkpoints = opened(config, workdir)
    for step in (3, 5):
        made = made.replace(step=jnp.full_like(made.step, step))
        checkpoints.save(made)
    checkpoints.close()
    return config, workdir, jax.device_get(made)


@pytest.fixture
def copied(saved, tmp_path):
    """The same workdir, to be damaged."""
    config, workdir, made = saved
    shutil.copytree(workdir, tmp_path / "workdir")
    return config, tmp_path / "workdir", made


def restore(config, workdir, devices=1, step=None, new_data_order=False):
    mesh = tiny_run.mesh_of(config, devices)
    abstract = state.abstract_state(make_task(config), optimizer.make_optimizer(config.optim, config.train.steps), mesh)
    with contextlib.closing(opened(config, workdir, new_data_order)) as checkpoints:
        return checkpoints.restore(abstract, step), abstract


@pytest.mark.parametrize("devices", [8, 4, 1])
def test_what_eight_devices_saved_others_restore(saved, devices):
    config, workdir, made = saved
    found, abstract = restore(with_mesh(config, fsdp=devices), workdir, devices)
    tiny_run.assert_bit_equal(jax.device_get(found), made)
    jax.tree.map(lambda leaf, like: leaf.sharding == like.sharding or pytest.fail(str(leaf.sharding)), found, abstract)


@pytest.mark.slow
def test_an_earlier_step_can_be_chosen(saved):
    config, workdir, _ = saved
    assert int(restore(config, workdir, 8, step=3)[0].step) == 3
    with pytest.raises(CheckpointError, match="no checkpoint of step 4; there are 3, 5"):
        restore(config, workdir, 8, step=4)


def test_parameters_for_sampling(saved):
    config, workdir, made = saved
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:2])
    for ema, expected in ((True, made.ema), (False, made.trained)):
        params = parameters.load_params(workdir, ema=ema, mesh=mesh)
        tiny_run.assert_bit_equal(jax.device_get(params), trees.merge(expected, made.frozen))
        assert {leaf.sharding.mesh for leaf in jax.tree.leaves(params)} == {mesh}
    assert parameters.complete_step(workdir) == 5


def test_a_subtree_is_read_alone(saved):
    config, workdir, made = saved
    pattern = (r"transformer/blocks/even/.*",)
    wanted, _ = trees.split(build.abstract_params(config, tiny_run.mesh_of(config, 8)), pattern)
    found = parameters.load_trained(workdir, wanted)
    tiny_run.assert_bit_equal(jax.device_get(found), trees.split(made.ema, pattern)[0])


def test_steps_past_the_limit_are_deleted_and_frozen_leaves_are_stored_once(saved):
    _, workdir, made = saved
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "5"]
    assert (workdir / "frozen").is_dir() and trees.count(made.frozen) > 0


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damage(path, how):
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves its event loop untidy
@pytest.mark.parametrize("how", ["gone", "empty", "half", "flipped"])
@pytest.mark.parametrize("part", ["state/d/", "state/manifest.ocdbt", "meta/"])
def test_a_damaged_checkpoint_says_so(copied, part, how):
    config, workdir, _ = copied
    folder = workdir / "checkpoints" / "5"
    broken = [path for path in files_of(folder) if part in str(path.relative_to(folder)) + "/"]
    for path in broken:
        damage(path, how)
    assert broken, f"nothing under {part}: the layout of a checkpoint has changed"
    with pytest.raises(CheckpointError, match="step 5 cannot be read.*move it away to go on from step 3") as caught:
        restore(config, workdir, 8)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_was_never_finished_is_not_seen(copied):
    """What a killed run leaves: the step before it is the last."""
    config, workdir, _ = copied
    folder = workdir / "checkpoints" / "5"
    for marker in folder.glob("commit_success*"):
        marker.unlink()
    folder.rename(folder.with_name("5.orbax-checkpoint-tmp"))
    assert parameters.complete_step(workdir) == 3
    assert int(restore(config, workdir, 8)[0].step) == 3


@pytest.mark.slow
def test_what_a_killed_first_save_left_is_no_hindrance(saved, tmp_path):
    """Frozen leaves half written, a temporary folder, and no checkpoint yet: the run begins anew."""
    config, workdir, made = saved
    shutil.copytree(workdir / "frozen", tmp_path / "frozen")
    for path in files_of(tmp_path / "frozen" / "d"):
        damage(path, "half")
    shutil.copytree(tmp_path / "frozen", tmp_path / "frozen.orbax-checkpoint-tmp")
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    _, _, fresh = tiny_run.fresh_state(config, 8)
    checkpoints = opened(config, tmp_path)
    assert checkpoints.latest_step() is None
    checkpoints.save(fresh.replace(step=fresh.step + 3))
    checkpoints.close()
    write_run(tmp_path, config, {})
    found, _ = restore(config, tmp_path, 8)
    tiny_run.assert_bit_equal(jax.device_get(found.frozen), made.frozen)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_frozen_parameters_say_so(copied):
    config, workdir, _ = copied
    for path in files_of(workdir / "frozen" / "d"):
        damage(path, "half")
    with pytest.raises(CheckpointError, match="frozen parameters cannot be read"):
        restore(config, workdir, 8)


def test_no_run_and_no_checkpoint(tmp_path, saved):
    config = saved[0]
    with pytest.raises(CheckpointError, match="expected the workdir of a training run, found no config.json"):
        parameters.load_params(tmp_path)
    write_run(tmp_path, config, {})
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        parameters.load_params(tmp_path, mesh=tiny_run.mesh_of(config, 8))
    (tmp_path / "config.json").write_text('{"name": ')
    with pytest.raises(CheckpointError, match="config.json cannot be read"):
        runs.read_config(tmp_path)


def changed(config, **groups):
    values = runs.as_json(config)
    for group, settings in groups.items():
        values[group] |= settings
    return c.Experiment.from_config_dict(values)


def test_a_checkpoint_of_another_experiment_is_refused_with_what_differs(saved):
    config, workdir, _ = saved
    other = changed(config, optim={"learning_rate": 0.5}, loss={"drop_text": 0.2})
    with pytest.raises(CheckpointError) as caught:
        restore(other, workdir, 8)
    assert "loss.drop_text: was 0.1, is 0.2" in str(caught.value)
    assert "optim.learning_rate: was 0.01, is 0.5" in str(caught.value)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        check_run(workdir, other, {})
    assert runs.read_config(workdir) == config


def test_another_order_of_the_data_is_refused_or_told(saved):
    """Records that were prepared anew: refused, unless it is asked for."""
    config, workdir, _ = saved
    anew = changed(config, data={"sources": [str(tiny_run.sources(changed(config, data={"people": 5})).folders[0])]})
    said = "the records came in an order.*sources: was .*:16'], is .*:20'].*give --new_data_order"
    with pytest.raises(DataError, match=said) as caught:
        restore(anew, workdir, 8)
    assert "\n" not in str(caught.value)
    assert int(restore(anew, workdir, 8, new_data_order=True)[0].step) == 5
    with contextlib.closing(opened(anew, workdir)) as checkpoints:
        (note,) = checkpoints.notes(5)
    assert re.search("another order from step 6 on.*sources: was", note)
    with contextlib.closing(opened(config, workdir)) as checkpoints:
        assert checkpoints.notes(5) == []


def test_what_may_change_may_change(saved):
    config, workdir, _ = saved
    longer = changed(config, train={"steps": 99, "log_every": 7}, sampling={"steps": 9})
    assert int(restore(longer, workdir, 8)[0].step) == 5


def test_the_meta_says_where_a_checkpoint_comes_from(saved):
    config, workdir, _ = saved
    meta = json.loads(next((workdir / "checkpoints" / "5" / "meta").rglob("*metadata*")).read_text())
    assert meta["schema"] == resuming.SCHEMA and meta["config"] == runs.as_json(config)
    assert meta["versions"]["jax"] == jax.__version__ and np.all([key in meta for key in ("data_order", "versions")])
    resuming.check_meta(meta, config, meta["data_order"], "here")
    with pytest.raises(CheckpointError, match="here: expected checkpoint schema 1, found 0"):
        resuming.check_meta(meta | {"schema": 0}, config, meta["data_order"], "here")
