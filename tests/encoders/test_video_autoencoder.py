"""The published autoencoder behind the interface: uint8 in and out, scaled latents, meshes, tiles, memory, errors."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers.video_processor import VideoProcessor  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, sharding  # noqa: E402
from mmjax.encoders import vae as features  # noqa: E402
from mmjax.encoders.interface import VideoAutoencoder  # noqa: E402
from mmjax.encoders.vae import CogVideoXAutoencoder, load_autoencoder  # noqa: E402
from mmjax.errors import CheckpointError, ConfigError, DataError  # noqa: E402
from tests.helpers import photomaker_files  # noqa: E402
from tests.helpers import vae_reference as reference  # noqa: E402

FLOAT32 = c.Precision(encode="float32", decode="float32")
SIZE = (16, 12)
SETTINGS = reference.SHALLOW | dict(sample_height=48, sample_width=40, temporal_compression_ratio=1)


@pytest.fixture(scope="module")
def model():
    return reference.torch_vae(**SETTINGS)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    model.save_pretrained(folder / "source")
    conversion.convert("vae", folder / "source", folder / "ours")
    return folder / "ours"


@pytest.fixture(scope="module")
def autoencoder(folder) -> VideoAutoencoder:
    return load_autoencoder(folder, precision=FLOAT32)


def clip(frames=9, size=SIZE, lead=()):
    return np.random.default_rng(0).integers(0, 256, (*lead, frames, *size, 3), np.uint8)


def latents(frames=9, size=(8, 6), lead=()):
    return 0.7 * reference.drawn((*lead, frames, *size, 4))


def test_encodes_to_the_scaled_mean(model, autoencoder):
    video = clip()
    pixels = reference.to_torch(video[None].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        expected = 0.7 * reference.from_torch(model.encode(pixels).latent_dist.mean)[0]
    found = autoencoder.encode(video)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_decodes_as_the_pipeline_does(model, autoencoder):
    """Scaled latents to uint8 frames, but for values that rounding of the last bit moves over a half."""
    z = latents()
    with torch.no_grad():
        decoded = model.decode(reference.to_torch(z[None]) / 0.7).sample
    frames = VideoProcessor(vae_scale_factor=2).postprocess_video(decoded, output_type="np")[0]
    found = autoencoder.decode(z)
    assert found.dtype == np.uint8
    assert found.shape == frames.shape
    apart = np.abs(found.astype(int) - np.round(frames * 255))
    assert apart.max() <= 1
    assert apart.mean() < 1e-3
    assert 0.1 < (found == 255).mean() + (found == 0).mean() < 0.9  # some are clipped and not all


def test_leading_axes_are_kept(autoencoder):
    """One video, a batch, or none at all of axes in front; every video is encoded for itself."""
    one, other = clip(), clip()[::-1]
    pair = autoencoder.encode(np.stack([one, other]))
    np.testing.assert_allclose(pair[1], autoencoder.encode(other), atol=2e-6)
    assert autoencoder.encode(one[None, None]).shape == (1, 1, *pair.shape[1:])
    assert autoencoder.decode(latents(1, lead=(1, 1))).shape == (1, 1, 1, *SIZE, 3)


@pytest.mark.slow
def test_a_mesh_gives_the_same(folder, autoencoder):
    mesh = sharding.make_mesh(c.Mesh(data=2, context=4))
    spread = load_autoencoder(folder, mesh, FLOAT32)
    for lead in ((), (2,)):  # all axes share one video's height, or `data` takes the batch
        video, z = clip(1, lead=lead), latents(1, lead=lead)
        np.testing.assert_allclose(spread.encode(video), autoencoder.encode(video), atol=2e-6)
        assert np.abs(spread.decode(z).astype(int) - autoencoder.decode(z)).max() <= 1


@pytest.mark.slow
def test_tiles_are_diffusers_tiles(model, folder):
    """Through the uint8 border too; a picture of one tile is not cut."""
    tiled = load_autoencoder(folder, precision=FLOAT32, tiling=True)
    z = latents(1, (12, 13))
    model.enable_tiling()
    with torch.no_grad():
        expected = reference.from_torch(model.decode(reference.to_torch(z[None]) / 0.7).sample)[0]
    model.disable_tiling()
    found = tiled.decode(z)
    assert np.abs(found - np.clip((expected + 1) * 127.5, 0, 255)).max() <= 0.51
    assert np.abs(found.astype(int) - load_autoencoder(folder, precision=FLOAT32).decode(z)).max() > 3
    assert tiled.encode(clip(1, (24, 26))).shape == z.shape


def loaded(autoencoder):
    return {name for name, half in autoencoder._halves.items() if half.loaded}


def test_weights_come_to_the_device_in_halves_and_go(folder):
    autoencoder = load_autoencoder(folder)

    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(autoencoder._at_rest))
    assert loaded(autoencoder) == set()
    before = autoencoder.decode(latents(1))
    assert loaded(autoencoder) == {"decoder"}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(autoencoder._halves["decoder"].get()))
    autoencoder.encode(clip(1))
    assert loaded(autoencoder) == {"encoder", "decoder"}
    autoencoder.free()
    assert loaded(autoencoder) == set()
    np.testing.assert_array_equal(autoencoder.decode(latents(1)), before)


def test_the_policy_says_the_dtypes(folder, autoencoder):
    """By default latents are made in float32 and pixels in bfloat16, near those of float32."""
    default = load_autoencoder(folder)
    np.testing.assert_array_equal(default.encode(clip()), autoencoder.encode(clip()))
    apart = np.abs(default.decode(latents()).astype(int) - autoencoder.decode(latents()))
    print(f"bfloat16 against float32: mean {apart.mean():.2f}, at most {apart.max()} of 255")
    assert 0 < apart.mean() < 2


def test_the_fingerprint_tells_what_changes_latents(folder, autoencoder, tmp_path):
    assert load_autoencoder(folder, precision=FLOAT32).fingerprint == autoencoder.fingerprint
    other = reference.torch_vae(1, **SETTINGS)
    other.save_pretrained(tmp_path / "source")
    conversion.convert("vae", tmp_path / "source", tmp_path / "other")
    made = [
        autoencoder,
        load_autoencoder(tmp_path / "other", precision=FLOAT32),
        load_autoencoder(folder, precision=c.Precision(encode="bfloat16")),
        load_autoencoder(folder, precision=FLOAT32, tiling=True),
    ]
    assert len({each.fingerprint for each in made}) == len(made)
    decode_only = load_autoencoder(folder, precision=c.Precision(encode="float32", decode="bfloat16"))
    assert decode_only.fingerprint == autoencoder.fingerprint


def test_weights_are_read_where_the_host_is_no_device(folder, autoencoder, monkeypatch):
    """JAX_PLATFORMS=cuda leaves the host out: they pass the first device, and rest in host memory all the same."""
    found = jax.local_devices

    def without_host(backend=None, **kwargs):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return found(backend=backend, **kwargs)

    monkeypatch.setattr(jax, "local_devices", without_host)
    again = load_autoencoder(folder)
    jax.tree.map(np.testing.assert_array_equal, again._at_rest, autoencoder._at_rest)


@pytest.mark.parametrize(
    "video,message",
    [
        (
            clip().astype(np.float32),
            r"expected uint8 \[..., frames, height, width, 3\], found float32 \[9, 16, 12, 3\]",
        ),
        (clip()[0], r"found uint8 \[16, 12, 3\]"),
        (clip(8), r"8 frames cannot be encoded: expected 8k \+ 1, such as 9 or 17; cut it to 1"),
        (clip(20), "cut it to 17"),
        (clip(1, (15, 13)), "15 x 13 pixels cannot be encoded: expected multiples of 2; cut or scale it to 14 x 12"),
    ],
    ids=["floats", "a picture", "8 frames", "20 frames", "odd sides"],
)
def test_videos_that_do_not_fit_are_refused(autoencoder, video, message):
    with pytest.raises(DataError, match=message):
        autoencoder.encode(video)


@pytest.mark.parametrize("z", [latents()[..., :3], latents(4), latents()[0]], ids=["channels", "even", "one frame"])
def test_latents_that_do_not_fit_are_refused(autoencoder, z):
    with pytest.raises(DataError, match=r"expected \[..., frames, height, width, 4\] with 1, 3, 5, ... frames, found"):
        autoencoder.decode(z)


def test_records_that_cannot_be_tiled_are_refused(folder):
    record, params = conversion.load_component(folder)
    record = type(record)(**record.__dict__ | {"sample_width": 30})
    CogVideoXAutoencoder(record, params)
    with pytest.raises(ConfigError, match="sample_width = 30"):
        CogVideoXAutoencoder(record, params, tiling=True)


def test_another_component_is_refused_before_its_weights_are_read(tmp_path, monkeypatch):
    conversion.convert("photomaker", photomaker_files.save(tmp_path / "v2.bin"), tmp_path / "faces")
    monkeypatch.setattr(features, "load_component", lambda *_: pytest.fail("its weights were read"))
    with pytest.raises(CheckpointError, match="expected a converted vae, found a photomaker"):
        load_autoencoder(tmp_path / "faces")
