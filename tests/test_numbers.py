"""NaN, infinity, absurd and negative numbers are refused by every setting and flag, and seeds use all their bits."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from mmjax import config as c
from mmjax import model_settings
from mmjax.diffusion.samplers import sample_keys
from mmjax.errors import ConfigError
from mmjax.models import sizes
from mmjax.preparation.settings import Settings
from mmjax.sampling import checked_size
from mmjax.seeds import random_key
from mmjax.training.state import random_keys
from mmjax.validation import COUNT, SEED, Number, settings_of, validated_record
from tests.test_config import changed


def replaced(record, name, value) -> dict:
    """The record as nested dictionaries, the setting of this dotted name changed."""
    values = dataclasses.asdict(record)
    *groups, last = name.split(".")
    node = values
    for group in groups:
        node = node[group]
    node[last] = value
    return values


RECORDS = [c.Experiment(), Settings(), model_settings.VAE(), sizes.T5(), sizes.PhotoMaker()]
NUMBERS = [
    (record, name, type(value))
    for record in RECORDS
    for name, value in settings_of(record).items()
    if type(value) in (int, float)
]


@pytest.mark.parametrize("record,name,kind", NUMBERS, ids=[f"{type(r).__name__}.{n}" for r, n, _ in NUMBERS])
def test_no_setting_takes_what_nobody_can_mean(record, name, kind):
    """Every number of every record, whatever its own range is; -2 is in no range but a cosine's, -inf in none."""
    absurd = [math.nan, math.inf, -math.inf, 1e39, -1e9] if kind is float else [10**30, -(10**30), -2]
    for value in absurd:
        with pytest.raises(ConfigError, match=rf"{name} = "):
            validated_record(type(record), replaced(record, name, value))


@pytest.mark.parametrize("name", ["data__weights", "data__batches", "data__frames"])
def test_lists_of_numbers_are_looked_into(name):
    for value in (math.nan, 10**30):
        with pytest.raises(ConfigError, match=f"{name.replace('__', '.')} = "):
            c.Experiment.from_config_dict(changed(**{name: (1, value)}))


def test_zero_divides_nothing():
    """Where one size must be a multiple of another, and that is zero."""
    for record, name in [
        (c.Experiment(), "model.adapter.perceiver_head_dim"),
        (model_settings.VAE(), "norm_groups"),
        (sizes.CLIPVision(), "patch"),
        (sizes.CLIPVision(), "heads"),
        (sizes.PhotoMaker(), "head_dim"),
    ]:
        with pytest.raises(ConfigError, match=f"{name} = 0: expected a whole number of 1"):
            validated_record(type(record), replaced(record, name, 0))


FLAGS = [
    (COUNT, "0", "a whole number of 1 to 2147483647"),
    (COUNT, "1.5", "a whole number"),
    (COUNT, "", "a whole number"),
    (SEED, str(2**64), "of 0 to 18446744073709551615"),
    (c.FPS, "nan", "a number of 0.1 to 1000"),
    (c.FPS, "1e-4", "a number of 0.1 to 1000"),
    (c.GUIDANCE, "inf", "1 is off"),
    (Number(float, 0, 1, above=True), "0", "a number above 0 up to 1"),
]


@pytest.mark.parametrize("number,text,message", FLAGS)
def test_flags_say_what_they_take(number, text, message):
    with pytest.raises(Exception, match=message) as caught:
        number(text)
    assert str(caught.value).startswith(f"{text}: expected ")


def test_arguments_from_python_may_be_numpys():
    assert SEED.checked("seed", np.int64(3)) == 3 and c.FPS.checked("fps", np.float32(8)) == 8
    for wrong in (True, "3", None, 1.5, np.nan):
        with pytest.raises(ConfigError, match="seed = .*: expected a whole number"):
            SEED.checked("seed", wrong)


def test_sizes_from_python():
    config = c.Experiment()
    for wrong in ({"frames": np.nan}, {"frames": 8 * 10**9 + 1}, {"height": 16 * 10**9}, {"width": np.inf}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} = .*: expected"):
            checked_size(config, **wrong)
    assert checked_size(config, 49, 480, 720) == (49, 480, 720)


# Seeds


def data(key):
    return jax.random.key_data(key).tolist()


def test_seeds_below_32_bits_give_what_they_always_gave():
    for seed in (0, 5, 2**31 - 1, 2**31, 2**32 - 1):
        assert data(random_key(seed)) == data(jax.random.key(seed))
    assert data(sample_keys(5, np.arange(1))) == [[2724472204, 3573582090]]


def test_every_bit_of_a_seed_counts():
    seeds = [0, 1, *(2**bit for bit in range(1, 64)), 5, 2**32 + 5, 2**64 - 1]
    assert len({tuple(data(random_key(seed))) for seed in seeds}) == len(seeds)
    assert data(sample_keys(2**32 + 5, np.arange(1))) != data(sample_keys(5, np.arange(1)))
    assert data(random_keys(2**32 + 5).init) != data(random_keys(5).init)


def test_a_seeds_high_word_is_no_samples_number():
    """Request 2^32 + 5 must not go on where sample 1 of request 5 does."""
    assert data(random_key(2**32 + 5)) not in [data(jax.random.fold_in(jax.random.key(5), n)) for n in range(8)]


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match="seed = .*: expected a whole number of 0 to 18446744073709551615"):
        random_key(seed)
