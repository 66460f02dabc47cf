"""The record of a VAE's training: what it refuses, how it is told from a diffusion experiment, who takes which."""

import dataclasses
import json

import pytest
from absl import flags

from mmjax import cli, convert
from mmjax import config as c
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.vae_experiment import experiment_of
from mmjax.weights import runs
from tests.helpers import tiny_run, tiny_vae
from tests.helpers.configurations import load

CONFIG = tiny_vae.experiment(("photos", "clips"))

REFUSED = {
    "vae.latent_chanels": (3, "vae.latent_chanels: unknown setting; did you mean vae.latent_channels?"),
    "vae.channels": ((4, 9), r"vae.channels = \(4, 9\): expected multiples of norm_groups = 2"),
    "data.height": (33, "data.height = 33: expected a multiple of 2 pixels"),
    "data.frames": ((1, 10), "data.frames = 10: expected 8k [+] 1"),
    "data.people": (3, "data.people: unknown setting"),
    "loss.kl": (-1.0, "loss.kl = -1.0: expected a number"),
    "train.base": ("x", "train.base: unknown setting"),
    "train.accumulate": (3, "data.batches = 8: expected a multiple of train.accumulate = 3"),
    "runtime.stream": (True, "runtime.stream = True: expected False"),
    "runtime.remat": ("dots", "runtime.remat = dots: expected none or full for a VAE"),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_wrong_settings_are_refused_by_name(setting):
    value, message = REFUSED[setting]
    values, (group, name) = dataclasses.asdict(CONFIG), setting.split(".")
    values[group][name] = value
    with pytest.raises(ConfigError, match=message):
        experiment_of(values)


def test_a_loss_that_sees_no_picture_is_refused():
    with pytest.raises(ConfigError, match="loss.l1 = 0.0: expected above 0"):
        tiny_vae.experiment(("photos",), loss={"l1": 0.0, "pyramid": 0.0})


def test_both_kinds_are_told_apart_and_survive_json(tmp_path):
    for config in (CONFIG, c.Experiment()):
        assert experiment_of(json.loads(json.dumps(runs.as_json(config)))) == config
        assert experiment_of(config.to_config_dict()) == config
    (tmp_path / "config.json").write_text(json.dumps(runs.as_json(CONFIG)))
    assert runs.read_experiment(tmp_path) == CONFIG and runs.get_config(tmp_path) == CONFIG.to_config_dict()
    with pytest.raises(CheckpointError, match="expected the run of a diffusion model, found one that trains a VAE"):
        runs.read_config(tmp_path)


def test_a_command_for_diffusion_models_refuses_it(monkeypatch):
    """`prepare`, `bench` and `bench_memory` all ask `cli.experiment`."""
    given = flags.FlagValues()
    flags.DEFINE_string("config", None, "", flag_values=given)
    monkeypatch.setattr(flags, "FLAGS", given)
    given.mark_as_parsed()
    given["config"].using_default_value, given["config"]._value = False, CONFIG.to_config_dict()
    assert cli.training_experiment() == CONFIG
    with pytest.raises(ConfigError, match="found tiny_vae, which trains a VAE: python -m mmjax.train alone takes it"):
        cli.experiment()


def test_a_diffusion_run_is_no_source_of_a_vae(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps(runs.as_json(tiny_run.experiment())))
    with pytest.raises(ConversionError, match="expected a run that trains a VAE, found one of a diffusion model"):
        convert.convert("vae", tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mini_has_the_latents_of_the_published_vae():
    vae = load("mini_vae.py").vae
    assert (vae.latent_channels, vae.spatial_compression, vae.temporal_compression) == (16, 8, 4)
