"""Training of a VAE: the loss, a run, its figures, resuming, skipping, and what becomes of its weights."""

import itertools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mmjax import convert, media, sharding
from mmjax.encoders.vae import load_autoencoder
from mmjax.errors import ConfigError, ConversionError, DataError
from mmjax.records.sources import find_pixel_records
from mmjax.training import latent_scale, loop, vae_evaluation
from mmjax.training.evaluators import Evaluation
from mmjax.training.objectives import reconstruction
from mmjax.training.reconstructions import Reconstructions
from mmjax.training.tasks.registry import make_task
from mmjax.weights import parameters
from tests.helpers import random_records, same_run, tiny_run, tiny_vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vae")


@pytest.fixture(scope="module")
def config(folder):
    return tiny_vae.experiment(tiny_vae.records(folder / "data"), train={"keep_best": "reconstructions/psnr"})


def train(config, workdir, *more):
    sources = find_pixel_records(config.data)
    return loop.train(config, workdir, sources, [Reconstructions(config, sources), *more])


@pytest.fixture(scope="module")
def photos(config):
    """The experiment on photos alone, without validation: quicker to compile."""
    return tiny_vae.experiment(config.data.sources[:1], train={"validate_every": 0, "reconstruct_every": 0})


@pytest.fixture(scope="module")
def run(config, folder):
    """A run of four steps, photos and clips, that nothing disturbed: (workdir, state)."""
    return folder / "run", train(config, folder / "run")


# The loss


@jax.jit
def terms(found, video):
    return [term(found, video) for term in (reconstruction.l1, reconstruction.psnr, reconstruction.pyramid)]


def test_terms_of_known_value():
    rng = np.random.default_rng(0)
    video = rng.uniform(-0.9, 0.8, (2, 3, 16, 16, 3)).astype(np.float32)
    moved = video + np.asarray([0.1, 0.05], np.float32).reshape(2, 1, 1, 1, 1)
    l1, psnr, pyramid = terms(moved, video)
    np.testing.assert_allclose(l1, [0.1, 0.05], rtol=1e-5)
    np.testing.assert_allclose(psnr, 20 * np.log10([20, 40]), rtol=1e-5)
    np.testing.assert_allclose(pyramid, 0, atol=1e-6)  # a constant is in no band
    ones, zeros = np.ones((1, 1, 2, 2, 4), np.float32), np.zeros((1, 1, 2, 2, 4), np.float32)
    kl = jax.jit(reconstruction.kl)
    assert (kl(zeros, zeros), kl(ones, zeros)) == (0, 0.5)
    pixels = lambda x: np.round((x + 1) * 127.5).astype(np.uint8)  # noqa: E731
    assert media.psnr(pixels(moved[0]), pixels(video[0])) == pytest.approx(20 * np.log10(20), abs=0.05)


def test_the_pyramid_sees_edges_that_l1_hardly_does():
    """The same absolute difference as a checkerboard, and as one flat step."""
    board, flat = 0.1 * (-1.0) ** np.add.outer(np.arange(16), np.arange(16)), np.full((16, 16), 0.1)
    flat[:, 8:] *= -1
    found = np.broadcast_to(np.stack([board, flat])[:, None, :, :, None], (2, 3, 16, 16, 3)).astype(np.float32)
    l1, _, pyramid = terms(found, np.zeros_like(found))
    assert l1[0] == pytest.approx(l1[1]) and pyramid[0] > 2 * pyramid[1]


def test_chance_is_the_posteriors_noise_and_validation_has_none(config):
    task, mesh = make_task(config), sharding.make_mesh(config.mesh, jax.devices()[:1])
    objective = task.objective(find_pixel_records(config.data), mesh)
    batch = {"latents": jnp.zeros((8, 9, 16, 16, 3), jnp.bfloat16)}
    key = jax.random.key(0)
    _, noise = objective.draw(key, batch)
    assert noise.shape == (8, 5, 8, 8, 2) and 0.8 < float(noise.std()) < 1.2
    assert not objective.fixed_draws(key, np.arange(8), 8, batch)[1].any() and not objective.judges
    assert list(task.fields(9)) == ["latents"] and task.fields(9)["latents"].shape == (9, 16, 16, 3)


# A run


@pytest.mark.slow
def test_a_run_leaves_figures_a_sheet_and_the_scale_of_its_latents(run, config):
    workdir, state = run
    rows = same_run.rows(workdir)
    assert int(state.step) == 4 and [row["step"] for row in rows if "train/l1" in row] == [2, 4]
    names = [os.path.basename(source) for source in config.data.sources]
    for row in (row for row in rows if "validation/loss" in row):
        assert all(np.isfinite(row[f"validation/{n}/{tag}"]) for n in names for tag in ("l1", "kl", "psnr", "pyramid"))
    found = [row["reconstructions/psnr"] for row in rows if "reconstructions/psnr" in row]
    print(f"measured: {found[0]:.2f} dB after 2 steps, {found[1]:.2f} after 4")
    assert found[1] > found[0] > 5
    assert Image.open(workdir / "reconstructions" / "4.png").size[0] > 300
    assert (workdir / "reconstructions" / "4.mp4").is_file()
    assert parameters.best_checkpoint(workdir)[0] == 4
    scale = json.loads((workdir / "latents.json").read_text())
    assert scale["step"] == 4 and scale["scaling_factor"] == pytest.approx(1 / scale["std"])
    assert json.loads((workdir / "encoders.json").read_text()) == {"autoencoder": "pixel/1"}


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(photos, folder):
    class Stop:
        name, every, higher_is_better = "stop", 2, {}

        def __call__(self, state, step):
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return Evaluation()

    workdir, undisturbed = folder / "stopped", folder / "undisturbed"
    train(photos, undisturbed)
    assert int(train(photos, workdir, Stop()).step) == 3
    assert int(train(photos, workdir).step) == 4
    (found, order), (expected, other) = same_run.saved(workdir, 4), same_run.saved(undisturbed, 4)
    tiny_run.assert_bit_equal(found, expected)
    assert order == other and latent_scale.read(workdir, 4) == latent_scale.read(undisturbed, 4)


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_skipped(photos, folder, monkeypatch):
    put, count = loop.put_batch, itertools.count(1)

    def poisoned(*arguments):
        made = put(*arguments)
        return {"latents": made["latents"] * (float("nan") if next(count) == 2 else 1)}

    monkeypatch.setattr(loop, "put_batch", poisoned)
    state = train(photos, folder / "poisoned")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.trained)))
    lines = (folder / "poisoned" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]


# What becomes of its weights


@pytest.mark.slow
def test_its_weights_become_a_folder_that_the_autoencoder_loads(run, config, folder, capsys):
    workdir, state = run
    there = ["vae", "--source", str(workdir), "--output", str(folder / "ours")]
    convert.main(there)
    printed = capsys.readouterr().out
    scale = latent_scale.read(workdir, 4)
    assert f"scaling factor {scale.factor:.6g}, measured at the end of the run of" in printed
    autoencoder = load_autoencoder(folder / "ours")
    assert autoencoder.record.scaling_factor == scale.factor and autoencoder.record.sample_height == 16
    video = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    latents = autoencoder.encode(video)
    params = jax.device_get(state.params())
    (_, expected), *_ = vae_evaluation.encode(
        config.vae, config.precision, params["encoder"], [{"latents": video / np.float32(127.5) - 1}], 1
    )
    np.testing.assert_allclose(latents, expected[0] * scale.factor, rtol=1e-4, atol=1e-4)
    assert autoencoder.decode(latents).shape == video.shape
    (folder / "run" / "latents.json").unlink()  # as of a checkpoint before the last: measured anew, and the same
    convert.main([*there, "--overwrite", "--step", "best"])
    assert "measured now of" in capsys.readouterr().out
    assert load_autoencoder(folder / "ours").fingerprint == autoencoder.fingerprint
    with pytest.raises(ConversionError, match="--step: expected none with vae of this source"):
        convert.convert("vae", folder / "ours", folder / "never", step=3, reverse=True)


@pytest.mark.slow
def test_diffusers_reads_it_and_gives_the_same_picture(run, folder):
    """Compared with what a run's own weights encode; measured differences are printed."""
    torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")
    from diffusers import AutoencoderKLCogVideoX

    from tests.helpers import vae_reference as reference

    convert.convert("vae", run[0], folder / "for_diffusers")
    convert.convert("vae", folder / "for_diffusers", folder / "diffusers", reverse=True)
    model = AutoencoderKLCogVideoX.from_pretrained(folder / "diffusers").eval()
    autoencoder = load_autoencoder(folder / "for_diffusers")
    assert model.config.scaling_factor == autoencoder.record.scaling_factor
    video = np.random.default_rng(1).integers(0, 256, (1, 9, 16, 16, 3), np.uint8)
    with torch.no_grad():
        mean = model.encode(reference.to_torch(video.astype(np.float32) / 127.5 - 1)).latent_dist.mean
    found, expected = autoencoder.encode(video), reference.from_torch(mean) * model.config.scaling_factor
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"measured: latents differ by {difference:.1e} of the largest one")
    assert difference < 1e-4


@pytest.mark.slow
def test_a_run_may_begin_with_a_converted_vae(run, config, folder):
    convert.convert("vae", run[0], folder / "begin")
    train_settings = {"vae": str(folder / "begin"), "trainable": ("decoder/.*",), "keep_best": ""}
    config = tiny_vae.experiment(config.data.sources, train=train_settings)
    task, mesh = make_task(config), sharding.make_mesh(config.mesh, jax.devices()[:1])
    task.check(resumes=False)
    task.check_start(mesh)
    loaded, expected = task.load_start(mesh), jax.device_get(run[1].params())
    tiny_run.assert_bit_equal(jax.device_get(loaded["decoder"]), expected["decoder"])
    random = tiny_vae.experiment(config.data.sources, train=train_settings | {"vae": ""})
    with pytest.raises(ConfigError, match="frozen parameters, such as encoder/.* come from nowhere"):
        make_task(random).check_start(mesh)


# Records that it cannot train on


def test_records_of_another_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match='expected the path of a prepared folder, found "drawn_images"'):
        find_pixel_records(tiny_vae.experiment(("drawn_images",)).data)
    pixels = random_records.write(tmp_path / "pixels", tiny_run.experiment())
    assert find_pixel_records(tiny_vae.experiment((str(pixels),)).data).folders == (str(pixels),)
    with pytest.raises(DataError, match=r"fields.latents: expected \['bfloat16', 1, 32, 32, 3\], found"):
        find_pixel_records(tiny_vae.experiment((str(pixels),), data={"height": 32, "width": 32}).data)
    latents = {"autoencoder": {"name": "cogvideox"}, "data": {"height": 16, "width": 16}}
    transformer = {"model": {"transformer": tiny_run.transformer(latent_channels=16)}}
    encoded = random_records.write(tmp_path / "encoded", tiny_run.experiment(**latents, **transformer))
    with pytest.raises(DataError, match="expected records whose latents are pixels, .* found cogvideox"):
        find_pixel_records(tiny_vae.experiment((str(encoded),)).data)
