"""From converted weights to a video: a tiny published pipeline, prompt string in, frames out, against diffusers."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from mmjax import config as c  # noqa: E402
from mmjax import conversion, convert, media, sample, sharding  # noqa: E402
from mmjax.errors import CheckpointError, ConfigError  # noqa: E402
from mmjax.models import build  # noqa: E402
from mmjax.precision import FLOAT32  # noqa: E402
from mmjax.sampling import Request, load_sampler  # noqa: E402
from mmjax.training import optimizer, state  # noqa: E402
from mmjax.training.checkpoints import Checkpoints  # noqa: E402
from mmjax.training.tasks.registry import make_task  # noqa: E402
from mmjax.training.workdir import write_run  # noqa: E402
from mmjax.weights import start  # noqa: E402
from tests.helpers import diffusers_folders, face_pictures, photomaker_files, tiny  # noqa: E402

SIZE = (9, 64, 96)
PROMPT, NEGATIVE = "A cat sits.", "blur"
STEPS = 6
FACES = dataclasses.replace(photomaker_files.TINY, id_dim=512)
FLAGS = ["--frames", "9", "--height", "64", "--width", "96"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(diffusers' pipeline, the folder of its conversion)."""
    folder = tmp_path_factory.mktemp("pipeline")
    whole = diffusers_folders.pipeline(
        folder / "theirs",
        scheduler="CogVideoXDDIMScheduler",
        transformer=dict(in_channels=16, out_channels=16, max_text_seq_length=20),
        vae=dict(latent_channels=16),
    )
    conversion.convert_pipeline(folder / "theirs", folder / "ours")
    return whole, folder / "ours"


@pytest.fixture(scope="module")
def sampler(published):
    return load_sampler(published[1], precision="float32", steps=STEPS)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).standard_normal((3, 8, 12, 16), np.float32)


def theirs(whole, noise, **settings):
    whole.set_progress_bar_config(disable=True)
    settings = dict(guidance_scale=6.0, num_inference_steps=STEPS, output_type="np") | settings
    with torch.no_grad():
        found = whole(
            PROMPT,
            NEGATIVE,
            num_frames=SIZE[0],
            height=SIZE[1],
            width=SIZE[2],
            max_sequence_length=20,
            latents=torch.from_numpy(np.ascontiguousarray(np.moveaxis(noise, -1, 1)[None])),
            **settings,
        ).frames
    return np.asarray(found[0])


@pytest.mark.slow
def test_a_prompt_gives_the_frames_of_diffusers(published, sampler, noise):
    expected = theirs(published[0], noise)
    (encoded,) = sampler.encode([Request(PROMPT, negative_prompt=NEGATIVE)])
    found = sampler.decode(sampler.latents([encoded], SIZE, noise=noise[None]))[0]
    assert found.shape == (*SIZE, 3) and found.dtype == np.uint8
    assert np.std(expected) > 0.05  # a picture, not a flat colour
    psnr = media.psnr(found, np.round(expected * 255).astype(np.uint8))
    print(f"whole pipeline, {STEPS} DDIM steps, guidance 6, prompt to frames: {psnr:.1f} dB PSNR")
    assert psnr >= 50
    other = sampler.decode(sampler.latents(sampler.encode([Request("A dog.")]), SIZE, noise=noise[None]))[0]
    assert media.psnr(other, found) < 45  # the prompt matters


def test_low_memory_gives_the_same_latents(published, sampler, noise):
    sparing = load_sampler(published[1], precision="float32", steps=STEPS, low_memory=True)
    encoded = sampler.encode([Request(PROMPT)])
    expected, found = (each.latents(encoded, SIZE, noise=noise[None]) for each in (sampler, sparing))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_the_command_line_from_noise_to_files_and_back_from_latents(published, noise, tmp_path, capsys):
    np.save(tmp_path / "noise.npy", noise)
    common = ["--model", str(published[1]), *FLAGS, "--precision", "float32", "--steps", "2"]
    common += ["--compilation-cache", str(tmp_path / "programs")]
    made = ["--prompt", PROMPT, "--output", str(tmp_path / "clip.mp4"), "--init-latents", str(tmp_path / "noise.npy")]
    sample.main([*common, *made, "--save-latents", str(tmp_path / "clean.npy")])
    record = json.loads((tmp_path / "clip.json").read_text())
    assert {"text_seconds", "loading_seconds", "denoising_seconds", "decoding_seconds"} <= record["timings"].keys()
    assert record["source"] == {"model": str(published[1])} and record["precision"]["compute"] == "float32"
    printed = capsys.readouterr().out
    assert "denoising holds" in printed and "9 frames of 64 x 96" in printed
    latents = np.load(tmp_path / "clean.npy")
    assert latents.shape == (3, 8, 12, 16) and not list(tmp_path.glob("*.latents.npy"))
    sample.main([*common, "--decode", str(tmp_path / "clean.npy"), "--output", str(tmp_path / "again.mp4")])
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "clip.mp4").read_bytes()
    again = json.loads((tmp_path / "again.json").read_text())
    assert {name: again[name] for name in ("prompt", "seed", "hash")} == {
        name: record[name] for name in ("prompt", "seed", "hash")
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--reference", "face.jpg"], "this model has no adapter"),
        (["--init-latents", "flat.npy"], "expected floats [latent frames, height, width, channels]"),
        (["--init-latents", "small.npy"], "expected [3, 8, 12, 16] [latent frames"),
        (["--precision", "float16"], "black videos"),
        (["--adapter", "nowhere"], "expected the workdir of a training run"),
        (["--identity-scale", "-1"], "--identity-scale: -1: expected a number of 0 to 100"),
        (["--frames", "10"], "nearest 9 or 17"),
        (["--videos", "2", "--save-latents", "x.npy"], "expected one video"),
    ],
)
def test_what_cannot_work_is_said(published, changed, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("flat.npy", np.zeros(3))
    np.save("small.npy", np.zeros((3, 4, 4, 16)))
    command = ["--model", str(published[1]), *FLAGS, "--precision", "float32", "--prompt", PROMPT, "--output", "o.mp4"]
    with pytest.raises(SystemExit) as stopped:
        sample.main([*command, "--steps", "2", "--compilation-cache", "programs", *changed])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and message in printed and "Traceback" not in printed


def test_an_unknown_setting_of_the_sampler_is_refused(published):
    with pytest.raises(ConfigError, match="no setting of a sampler"):
        load_sampler(published[1], stpes=4)


@pytest.fixture(scope="module")
def adapter(published, tmp_path_factory):
    """The workdir of a run that trained an adapter on the published transformer: its weights are drawn."""
    transformer = conversion.read_pipeline(published[1]).transformer
    settings = dict(perceiver_width=64, perceiver_depth=1, perceiver_head_dim=32, queries=4, can_hidden=16)
    model = c.Model(transformer, c.Adapter(**(FACES.adapter_settings | settings | {"can_condition_dim": 16})))
    data = c.Data(sources=("clips",), weights=(1.0,), batches=(8,), frames=(9,), height=64, width=96)
    train = c.Train(base=str(published[1] / "transformer"))
    config = c.Experiment(model=model, data=data, train=train, precision=FLOAT32).validated()
    workdir, mesh = tmp_path_factory.mktemp("adapter"), sharding.make_mesh(config.mesh, jax.devices()[:1])
    known = start.load_start(config, build.abstract_params(config, mesh))
    fresh = state.create_state(make_task(config), optimizer.make_optimizer(config.optim, 2), mesh, known)
    drawn = jax.device_put(tiny.redrawn(fresh.trained), jax.tree.map(lambda leaf: leaf.sharding, fresh.trained))
    write_run(workdir, config, {})
    checkpoints = Checkpoints(workdir, config, "no records")
    checkpoints.save(fresh.replace(step=fresh.step + 7, trained=drawn, ema=drawn))
    checkpoints.close()
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"precision": "float32"}, {"low_memory": True}], ids=["float32", "low memory"])
def test_an_exported_adapter_gives_the_weights_of_the_run(published, adapter, settings, tmp_path):
    convert.convert("adapter", adapter, tmp_path / "a.safetensors")
    convert.convert("adapter", tmp_path / "a.safetensors", tmp_path / "made")
    given = (adapter, tmp_path / "a.safetensors", tmp_path / "made")
    one, *others = (load_sampler(published[1], adapter=each, **settings) for each in given)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other.params, one.params)
        assert other.source | {"adapter": str(adapter)} == one.source


@pytest.mark.slow
def test_an_exported_adapter_is_refused_on_another_base(published, adapter, tmp_path):
    convert.convert("adapter", adapter, tmp_path / "a.safetensors")
    diffusers_folders.pipeline(
        tmp_path / "theirs",
        transformer=dict(in_channels=16, out_channels=16, max_text_seq_length=20),
        vae=dict(latent_channels=16),
    )
    file = tmp_path / "theirs/transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["transformer_blocks.0.attn1.to_q.weight"] *= 1.5  # as a LoRA that was merged would
    save_file(tensors, file)
    conversion.convert_pipeline(tmp_path / "theirs", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="trained on another base than --model .*/ours: expected ") as refused:
        load_sampler(tmp_path / "ours", adapter=tmp_path / "a.safetensors")
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def photomaker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photomaker")
    tensors = {f"id_encoder.{name}": value for name, value in photomaker_files.state(FACES).items()}
    save_file(tensors, folder / "photomaker-v2.safetensors")
    conversion.convert("photomaker", folder / "photomaker-v2.safetensors", folder / "ours")
    return folder / "ours"


@pytest.mark.slow
@face_pictures.needs_pack
def test_a_photo_and_a_prompt_become_a_video(published, adapter, photomaker, tmp_path, capsys):
    Image.fromarray(face_pictures.astronaut()).save(tmp_path / "face.png")
    command = [
        "--model",
        str(published[1]),
        "--adapter",
        str(adapter),
        *FLAGS,
        "--precision",
        "float32",
        "--steps",
        "2",
    ]
    command += ["--photomaker", str(photomaker), "--face-models", str(face_pictures.PACK), "--seed", "5"]
    command += ["--compilation-cache", str(tmp_path / "programs"), "--reference", str(tmp_path / "face.png")]
    command += ["--prompt", "A man img ok."]
    sample.main([*command, "--output", str(tmp_path / "clip.mp4"), "--save-latents", str(tmp_path / "a.npy")])
    record, printed = json.loads((tmp_path / "clip.json").read_text()), capsys.readouterr().out
    assert record["source"] == {
        "model": str(published[1]),
        "adapter": str(adapter),
        "step": 7,
        "weights": "ema",
    }
    assert record["timings"]["faces_seconds"] > 0 and printed.count("people who agreed") == 1
    with Image.open(tmp_path / "clip.png") as sheet:
        assert sheet.width > 7 * 96
    convert.convert("adapter", adapter, tmp_path / "a.safetensors")
    exported = [str(tmp_path / "a.safetensors") if part == str(adapter) else part for part in command]
    sample.main([*exported, "--output", str(tmp_path / "b.mp4"), "--save-latents", str(tmp_path / "b.npy")])
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.load(tmp_path / "a.npy"))
    command += ["--identity-scale", "0.2"]
    sample.main([*command, "--output", str(tmp_path / "c.mp4"), "--save-latents", str(tmp_path / "c.npy")])
    latents, weaker = (np.load(tmp_path / name) for name in ("a.npy", "c.npy"))
    assert np.abs(weaker - latents).max() > 1e-3 * np.abs(latents).max()


@face_pictures.needs_pack
def test_a_picture_without_a_face_is_refused_before_anything_slow(
    published, adapter, photomaker, tmp_path, monkeypatch, capsys
):
    Image.new("RGB", (300, 300), (90, 120, 150)).save(tmp_path / "wall.png")
    monkeypatch.setattr("mmjax.sampling.Sampler.estimate", lambda *_: pytest.fail("compiled before the check"))
    command = ["--model", str(published[1]), "--adapter", str(adapter), "--photomaker", str(photomaker), *FLAGS]
    command += ["--face-models", str(face_pictures.PACK), "--reference", str(tmp_path / "wall.png")]
    with pytest.raises(SystemExit) as stopped:
        sample.main([*command, "--prompt", "A man img ok.", "--output", str(tmp_path / "o.mp4")])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and "wall.png: expected a face, found none" in printed
