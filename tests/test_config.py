"""A wrong experiment fails before JAX starts, and says which setting, what it is and what it may be."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from mmjax import config as c
from mmjax.errors import ConfigError
from tests.helpers.configurations import CONFIGS, DIFFUSION, load

ROOT = Path(__file__).parents[1]


def changed(**overrides):
    """The tiny experiment's ConfigDict with dotted settings changed: `model__transformer__heads=7`."""
    values = load("tiny.py").to_config_dict()
    for key, value in overrides.items():
        *groups, last = key.split("__")
        node = values
        for group in groups:
            node = node[group]
        with node.unlocked(), node.ignore_type():
            node[last] = value
    return values


@pytest.mark.parametrize("file", CONFIGS)
def test_published_configurations_are_sound(file):
    experiment = load(file)
    assert experiment.validated() == experiment
    assert experiment.name.startswith(file.partition(".")[0].removesuffix("s"))


def test_no_two_configurations_share_a_workdir():
    assert len({load(file).name for file in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize("file", [file for file in DIFFUSION if load(file).train.adapter])
def test_a_second_stage_starts_from_a_first_one_of_the_same_model(file):
    second = load(file)
    (first,) = [each for each in map(load, DIFFUSION) if f"runs/{each.name}" == second.train.adapter]
    assert first.model == second.model and not first.train.adapter
    if second.name == "mini_stage2":
        return  # no budget of the paper's
    assert (first.train.steps, set(first.data.batches), set(first.data.frames)) == (30_000, {64}, {1})
    assert (second.train.steps, second.data.batches) == (5_000, (8,)) and second.data.frames[0] >= 49


def test_the_rows_of_table_3_leave_out_what_they_say():
    full = load("ablations.py:full")
    assert dataclasses.replace(full, name="stage2_video") == load("stage2_video.py")
    off = {file.partition(":")[2]: _switched_off(load(file)) for file in CONFIGS if file.startswith("ablations.py")}
    assert off["full"] == off["without_pretraining"] == set()
    assert off["without_can"] == {"can"} and off["without_face_modulation"] == {"face_modulation"}
    assert off["identity_branch_alone"] == {"structural_branch", "face_modulation", "can"}
    assert off["structural_branch_alone"] == {"identity_branch", "can"}
    assert load("ablations.py:without_pretraining").train.adapter == ""


def _switched_off(experiment):
    adapter = dataclasses.asdict(experiment.model.adapter)
    return {name for name, value in adapter.items() if value is False}


def test_a_file_with_variants_takes_one_of_them_and_names_them_all():
    with pytest.raises(ConfigError, match="'3b': expected FILE:NAME, with a NAME among 2b, 5b, 1_5_5b"):
        load("stage1_image.py:3b")
    with pytest.raises(ConfigError, match="'': expected .*full, .*without_can_images"):
        load("ablations.py")
    assert load("stage1_image.py") == load("stage1_image.py:5b")


WRONG = [
    ({"sead": 1}, "sead: unknown setting; did you mean seed?"),
    (
        {"model__transformer__hedas": 1},
        "model.transformer.hedas: unknown setting; did you mean model.transformer.heads?",
    ),
    ({"seed": "zero"}, "seed = 'zero': expected int, found str"),
    ({"seed": True}, "seed = True: expected int, found bool"),
    ({"optim__learning_rate": "fast"}, "optim.learning_rate = 'fast': expected float, found str"),
    ({"data__frames": (1, 50)}, "data.frames = 50: expected 8k \\+ 1 .* nearest: 49 or 57"),
    ({"data__frames": (1,)}, "data.frames = .*: expected one entry for each of the 2 sources"),
    ({"model__transformer__heads": 3, "mesh__tensor": 2}, "heads = 3: expected a multiple of mesh.tensor = 2"),
    ({"model__transformer__layers": 5}, "layers = 5: expected even"),
    ({"model__transformer__head_dim": 20}, "head_dim = 20: expected a multiple of 16"),
    ({"model__transformer__position": "learned"}, "position = 'learned': expected one of sincos, rope, rope_slice"),
    ({"model__adapter__identity_branch": False}, "can = True: expected False when identity_branch is False"),
    ({"precision__compute": "float16"}, "compute = float16: expected bfloat16 or float32: CogVideoX overflows"),
    ({"precision__trained": "bfloat16"}, "precision.trained = bfloat16: expected float32: at these learning rates"),
    ({"train__accumulate": 3}, "data.batches = .*: expected a multiple of train.accumulate = 3"),
    ({"train__trainable": ()}, "train.trainable = .*: expected at least one path pattern"),
    ({"train__trainable": (".*", "(")}, "train.trainable = .*: expected regular expressions; '\\(' is none"),
    ({"data__height": 30}, "data.height = 30: expected a multiple of 4 pixels"),
    ({"autoencoder__name": "cogvideox"}, "latent_channels = 3: expected 16, as the cogvideox autoencoder has"),
    ({"sampling__steps": 2000}, "sampling.steps = 2000: expected at most schedule.steps = 1000"),
    ({"loss__drop_text": 1.5}, "loss.drop_text = 1.5: expected a probability"),
    ({"mesh__data": -1, "mesh__fsdp": -1}, "-1 on one axis at most"),
    ({"model": 3}, "model = 3: expected a group of settings"),
]


@pytest.mark.parametrize("overrides,message", WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_wrong_setting_is_named_with_what_is_allowed(overrides, message):
    with pytest.raises(ConfigError, match=message):
        c.Experiment.from_config_dict(changed(**overrides))


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        c.Experiment.from_config_dict(changed(sead=1, precision__compute=16, data__wieght=2))
    assert str(caught.value).count("\n") == 3


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.Experiment().seed = 1


def test_the_configuration_needs_no_jax():
    code = "import sys, mmjax.config as c; c.Experiment().validated(); sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
