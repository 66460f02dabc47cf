"""Conversion of the autoencoder, both ways: tiny random models of diffusers, and the true sizes without memory."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers import AutoencoderKLCogVideoX  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from mmjax import conversion, trees  # noqa: E402
from mmjax.conversion import engine, vae  # noqa: E402
from mmjax.errors import ConversionError  # noqa: E402
from mmjax.model_settings import VAE  # noqa: E402
from tests.helpers import vae_reference as reference  # noqa: E402

PUBLISHED = {  # the settings of the published config.json files that differ from the class's defaults
    "2b": {},
    "5b": dict(scaling_factor=0.7),
    "1.5-5b": dict(scaling_factor=0.7, invert_scale_latents=True),
}


def weights(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def settings(model):
    return {key: value for key, value in model.config.items() if not key.startswith("_")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_round_trip_is_bit_for_bit(tmp_path, dtype):
    model = reference.torch_vae().to(dtype)
    model.save_pretrained(tmp_path / "source", max_shard_size="100KB")
    there = conversion.convert("vae", tmp_path / "source", tmp_path / "ours")
    back = conversion.convert_back("vae", tmp_path / "ours", tmp_path / "back")
    expected, found = weights(tmp_path / "source"), weights(tmp_path / "back")
    assert expected.keys() == found.keys()
    assert all(found[key].dtype == dtype and torch.equal(bits(expected[key]), bits(found[key])) for key in expected)
    assert there.parameters == back.parameters == sum(p.numel() for p in model.parameters())


def test_diffusers_loads_what_comes_back(tmp_path):
    """The reversed folder gives the same autoencoder: its settings, and the same output to the last bit."""
    model = reference.torch_vae()
    model.save_pretrained(tmp_path / "source")
    conversion.convert("vae", tmp_path / "source", tmp_path / "ours")
    conversion.convert_back("vae", tmp_path / "ours", tmp_path / "back")
    again = AutoencoderKLCogVideoX.from_pretrained(tmp_path / "back").eval()
    assert json.dumps(settings(model), sort_keys=True) == json.dumps(settings(again), sort_keys=True)
    latents = torch.randn(1, 4, 3, 1, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(*(m.decode(latents).sample for m in (model, again)))


def test_loaded_parameters_are_the_references(tmp_path):
    model = reference.torch_vae()
    model.save_pretrained(tmp_path / "source")
    conversion.convert("vae", tmp_path / "source", tmp_path / "ours")
    record, params = conversion.load_component(tmp_path / "ours")
    expected_record, expected = reference.ours(model)
    assert record == expected_record
    expected, found = trees.flatten(expected), trees.flatten(params)
    assert expected.keys() == found.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_true_sizes_match_without_memory(variant):
    """Every key and shape of the published sizes, from diffusers on the meta device against the networks' own tree."""
    with torch.device("meta"):
        model = AutoencoderKLCogVideoX(**PUBLISHED[variant])
    record = vae.read_config(dict(model.config), variant)
    leaves = vae.COMPONENT.leaves(record)
    engine.check(leaves, {key: tuple(value.shape) for key, value in model.state_dict().items()}, variant)
    found = trees.count(vae.COMPONENT.shapes(record))
    print(f"{variant}: {found:,} parameters")
    assert found == sum(weight.numel() for weight in model.parameters()) == 215_583_907
    assert vae.read_config(vae.write_config(record), variant) == record


def test_default_record_is_the_5b():
    assert vae.read_config(PUBLISHED["5b"], "5b") == VAE()
    assert vae.read_config(PUBLISHED["2b"], "2b") == VAE(scaling_factor=1.15258426)


def test_a_compression_written_as_a_float_is_a_whole_number():
    record = vae.read_config({"temporal_compression_ratio": 4.0, "scaling_factor": 1}, "x")
    assert (record.temporal_compression, record.scaling_factor) == (4, 1.0)
    assert isinstance(record.temporal_compression, int)
    assert isinstance(record.scaling_factor, float)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"_class_name": "AutoencoderKL"}, "expected the config.json of a AutoencoderKLCogVideoX, found one of a Auto"),
        ({"use_quant_conv": True}, "use_quant_conv = True: expected False"),
        ({"shift_factor": 0.1}, "shift_factor = 0.1: expected None"),
        ({"norm_eps": 1e-5}, "norm_eps = 1e-05: expected 1e-06"),
        ({"block_out_channels": [128, 250]}, r"channels = \(128, 250\): expected multiples of norm_groups = 32"),
        ({"block_out_channels": "wide"}, "block_out_channels = 'wide': expected something like"),
        ({"temporal_compression_ratio": 4.5}, "temporal_compression_ratio = 4.5: expected something like 4"),
        ({"temporal_compression_ratio": 16}, "temporal_compression = 16: expected one of 1, 2, 4, 8"),
        (
            {"down_block_types": ["DownEncoderBlock2D"] * 4},
            "down_block_types = .*expected 4 times CogVideoXDownBlock3D",
        ),
        ({"mid_block_attention": True}, "mid_block_attention = True: expected it absent"),
    ],
)
def test_other_autoencoders_are_refused(change, message):
    with pytest.raises(ConversionError, match=message):
        vae.read_config({"_class_name": vae.CLASS_NAME} | change, "config.json")


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda s: s.pop("decoder.conv_out.conv.bias"), "missing: decoder.conv_out.conv.bias"),
        (lambda s: s.update({"patch_embed.proj.weight": torch.zeros(1)}), "the file is the transformer"),
        (
            lambda s: s.update({"decoder.conv_in.conv.weight": torch.zeros(32, 16, 3, 3, 3)}),
            "16 latent channels and 32 at the deepest level, config.json says 4 and 32",
        ),
    ],
    ids=["missing", "another model", "other size"],
)
def test_misfits_are_told(change, message):
    model = reference.torch_vae()
    state = dict(model.state_dict())
    change(state)
    record = vae.read_config(dict(model.config), "x")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    with pytest.raises(ConversionError, match=message):
        engine.check(vae.COMPONENT.leaves(record), shapes, "x", vae.causes(record))
