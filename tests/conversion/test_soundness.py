"""Weights that cannot be weights: found when they are converted and when they are read."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mmjax import sharding
from mmjax.conversion import soundness
from mmjax.errors import CheckpointError, ConversionError

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def kernel(dtype=np.float32, size=64):
    return np.random.default_rng(0).standard_normal((size, 8)).astype(dtype)


def put(values, value, at=-1):
    values = values.copy()
    values.reshape(-1)[at] = value
    return values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -3e38])
def test_one_bad_value_anywhere_is_found(dtype, value):
    for at in (0, 17, -1):
        with np.errstate(over="ignore"):
            damaged = put(kernel(dtype), value, at)
        assert "expected trained weights, found" in soundness.fault(damaged)
        assert "expected trained weights" in soundness.fault(damaged[:, {0: 0, 17: 1, -1: 7}[at]])  # strided


@pytest.mark.parametrize("dtype", DTYPES)
def test_sound_weights_pass(dtype):
    tiny = ml_dtypes.finfo(dtype).tiny
    for values in (kernel(dtype), put(kernel(dtype), -6e4), np.full((3, 3), tiny, dtype), np.zeros((0, 4), dtype)):
        assert soundness.fault(values) == ""
    assert soundness.fault(np.zeros(8, dtype), zeros=False) == "" and soundness.fault(np.zeros((3, 3), np.int64)) == ""


def test_zeros_alone_and_holes():
    assert "zeros alone" in soundness.fault(np.zeros((4, 4), np.float32))
    assert "zeros alone" in soundness.fault(-np.zeros((4, 4), np.float32))
    hole = np.ones(3 * 2**20, np.float16)
    hole[2**20 :] = 0
    assert "1,048,576 zeros in a row" in soundness.fault(hole) and soundness.fault(hole, zeros=False) == ""


def placed(values, place):
    everywhere = sharding.replicated(jax.make_mesh((8,), ("data",)))
    spread = jax.sharding.NamedSharding(everywhere.mesh, jax.sharding.PartitionSpec("data"))
    return jax.device_put(values, {"one": jax.devices()[0], "all": everywhere, "spread": spread}[place])


@pytest.mark.parametrize("place", ["one", "all", "spread"])
@pytest.mark.parametrize("on_device", [False, True])
def test_parameters_are_looked_at_wherever_they_lie(place, on_device, monkeypatch):
    """`on_device`: as an accelerator computes it."""
    if on_device:
        monkeypatch.setattr(soundness, "_is_on_host", lambda leaf: False)

    def tree(values, dtype=jnp.float32):
        return {"a": {"kernel": placed(values.astype(dtype), place), "bias": jnp.zeros(8)}, "n": jnp.arange(3)}

    soundness.check_params(tree(kernel()), "here")
    soundness.check_params(tree(kernel(), jnp.bfloat16), "here")
    for value, said in [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (-1e37, r"1.0e\+37")]:
        with pytest.raises(CheckpointError, match=f"here: a/kernel: expected trained weights, found {said}"):
            soundness.check_params(tree(put(kernel(), value)), "here")
    with pytest.raises(CheckpointError, match="here: a/kernel: .*zeros alone"):
        soundness.check_params(tree(np.zeros((64, 8), np.float32)), "here")
    some = {"b": {"kernel": placed(kernel(), place)}}
    soundness.check_params(tree(np.zeros((64, 8), np.float32)) | some, "here", fresh=True)
    with pytest.raises(CheckpointError, match="zeros alone"):
        soundness.check_params(tree(np.zeros((64, 8), np.float32)), "here", fresh=True)


# The ways in


def nan(state, torch):
    state["transformer_blocks.2.attn1.to_k.weight"][5, 7] = float("nan")


def one_zero(state, torch):
    state["transformer_blocks.1.ff.net.2.weight"].zero_()


def all_zero(state, torch):
    for value in state.values():
        value.zero_()


@pytest.mark.parametrize(
    "change,message",
    [
        (nan, "transformer_blocks.2.attn1.to_k.weight: expected trained weights, found NaN"),
        (one_zero, "transformer_blocks.1.ff.net.2.weight: .*zeros alone"),
        (all_zero, "zeros alone"),
    ],
)
def test_found_when_converting(tmp_path, change, message):
    torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")
    from mmjax import conversion
    from tests.helpers.diffusers_folders import edited

    edited(tmp_path / "source", lambda state: change(state, torch))
    with pytest.raises(ConversionError, match=message):
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    assert not list(tmp_path.glob("*ours*"))


def test_found_when_a_converted_folder_is_read_or_written_back(tmp_path, monkeypatch):
    """Of a folder that was converted before the check, or damaged since."""
    pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")
    from mmjax import conversion
    from tests.helpers.diffusers_folders import edited

    edited(tmp_path / "source", lambda state: nan(state, None))
    with monkeypatch.context() as older:
        older.setattr(soundness, "checked", lambda read: read)
        conversion.convert("transformer", tmp_path / "source", tmp_path / "ours")
    for dtype in (None, "bfloat16"):
        with pytest.raises(CheckpointError, match="ours: blocks/even/attn/key/kernel: .*NaN"):
            conversion.load_component(tmp_path / "ours", dtype=dtype)
    with pytest.raises(CheckpointError, match="ours: blocks/even/attn/key/kernel: .*NaN"):
        conversion.convert_back("transformer", tmp_path / "ours", tmp_path / "back")
    assert json.loads((tmp_path / "ours" / "mmjax.json").read_text()) and not (tmp_path / "back").exists()
