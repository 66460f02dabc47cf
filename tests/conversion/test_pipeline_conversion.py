"""Conversion of whole CogVideoX pipelines, both ways: tiny random models of diffusers and transformers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from diffusers import CogVideoXPipeline  # noqa: E402
from huggingface_hub.utils import filter_repo_objects  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion  # noqa: E402
from mmjax.conversion import output_folder, pipeline, scheduler, store, transformer  # noqa: E402
from mmjax.errors import CheckpointError, ConversionError  # noqa: E402
from mmjax.model_settings import VAE  # noqa: E402
from tests.helpers import diffusers_folders, photomaker_files, reference, vae_reference  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A saved 5B pipeline in small, which no test changes."""
    folder = tmp_path_factory.mktemp("published") / "tiny"
    return diffusers_folders.pipeline(folder), folder


@pytest.fixture(scope="module")
def converted(published):
    return published[1].parent / "ours", conversion.convert_pipeline(published[1], published[1].parent / "ours")


@pytest.fixture
def source(published, tmp_path):
    """A copy to break."""
    return Path(shutil.copytree(published[1], tmp_path / "source"))


def change_json(path, change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def change_weights(path, change):
    state = load_file(path)
    change(state)
    save_file(state, path)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


# There and back


def test_parts_and_settings(published, converted):
    whole, folder = published
    ours, report = converted
    found = conversion.read_pipeline(ours)
    assert (found.frames, found.height, found.width, found.fps) == (9, 64, 96, 8)
    assert found.schedule == c.Schedule(snr_shift=1.0)
    assert found.sampling == c.Sampling(sampler="dpm", steps=50, guidance=6.0, dynamic_guidance=True)
    models = {"transformer": reference.ours(whole.transformer), "vae": vae_reference.ours(whole.vae)}
    for part, (record, expected) in models.items():
        config, params = conversion.load_component(found.folders[part])
        assert config == record == getattr(found, part)
        jax.tree.map(np.testing.assert_array_equal, params, expected)
    embed = conversion.load_component(found.folders["text_encoder"])[1]["embed"]
    np.testing.assert_array_equal(embed, whole.text_encoder.state_dict()["shared.weight"])
    for file in (folder / "tokenizer").iterdir():
        assert (found.folders["tokenizer"] / file.name).read_bytes() == file.read_bytes()
    ids = AutoTokenizer.from_pretrained(found.folders["tokenizer"])("A man").input_ids
    assert ids == whole.tokenizer("A man").input_ids
    count = sum(p.numel() for part in WEIGHTS for p in getattr(whole, part).parameters())
    assert report.parameters == count and report.notes == ()


def test_diffusers_loads_what_comes_back(tmp_path, published, converted):
    """Every tensor, setting and token, and the same frames from the same prompt and noise."""
    whole, folder = published
    conversion.convert_pipeline_back(converted[0], tmp_path / "back")
    for part, name in WEIGHTS.items():
        expected, found = (load_file(where / part / name) for where in (folder, tmp_path / "back"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    again = CogVideoXPipeline.from_pretrained(tmp_path / "back")
    assert type(again.scheduler) is type(whole.scheduler)
    for key, value in whole.scheduler.config.items():
        assert key.startswith("_") or again.scheduler.config[key] == value
    frames = [
        pipe(
            "A man",
            num_frames=5,
            num_inference_steps=2,
            max_sequence_length=7,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).frames
        for pipe in (whole, again)
    ]
    assert frames[0].std() > 0
    np.testing.assert_array_equal(*frames)


def test_dtype_casts_all_parts(tmp_path, published):
    report = conversion.convert_pipeline(published[1], tmp_path / "ours", dtype="bfloat16")
    assert report.dtypes == ("bfloat16",)
    again = conversion.convert_pipeline_back(tmp_path / "ours", tmp_path / "back", dtype="float32")
    assert again.dtypes == ("float32",) and again.parameters == report.parameters


@pytest.mark.parametrize(
    "variant,size",
    [("2b", (49, 480, 720, 8)), ("5b", (49, 480, 720, 8)), ("1.5-5b", (81, 768, 1360, 16))],
)
def test_published_variants_make_their_videos(variant, size):
    record = transformer.read_config(reference.PUBLISHED[variant], variant)
    assert tuple(pipeline._video(record, VAE()).values()) == size


def test_manifest_says_what_it_was_made_from(converted):
    ours = converted[0]
    manifest = json.loads((ours / store.MANIFEST).read_text())
    assert manifest["source"]["name"] == "tiny"
    assert set(manifest["source"]["sha256"]) == {"model_index.json", "scheduler/scheduler_config.json"}
    part = json.loads((ours / "text_encoder" / store.MANIFEST).read_text())
    assert part["source"]["name"] == "tiny/text_encoder"
    assert set(part["source"]["sha256"]) == {
        "config.json",
        "model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    }
    assert str(ours.parent) not in json.dumps([manifest, part])


def test_hub_id_is_downloaded_once(tmp_path, monkeypatch, published):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(published[1])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    conversion.convert_pipeline("zai-org/CogVideoX-5b", tmp_path / "ours")
    [(name, patterns)] = asked
    repository = [str(path.relative_to(published[1])) for path in published[1].rglob("*") if path.is_file()]
    others = ["README.md", "image.png", "transformer/diffusion_pytorch_model.bin", "figures/a.safetensors"]
    assert sorted(filter_repo_objects(repository + others, allow_patterns=patterns)) == sorted(repository)
    manifest = json.loads((tmp_path / "ours" / "vae" / store.MANIFEST).read_text())
    assert manifest["source"]["name"] == "zai-org/CogVideoX-5b/vae"


# What does not fit


def test_misfits_of_all_parts_are_in_one_error(tmp_path, source):
    change_weights(source / "transformer" / WEIGHTS["transformer"], lambda state: state.pop("proj_out.bias"))
    change_weights(source / "vae" / WEIGHTS["vae"], lambda state: state.update(stray=torch.zeros(1)))
    (source / "text_encoder" / "model.safetensors").unlink()
    change_json(source / "scheduler" / "scheduler_config.json", {"prediction_type": "epsilon"})
    with pytest.raises(ConversionError) as caught:
        conversion.convert_pipeline(source, tmp_path / "ours")
    print(caught.value)
    for line in (
        "missing: proj_out.bias",
        "surplus: stray",
        "expected model.safetensors or its shards, found config.json",
        "prediction_type = 'epsilon': expected 'v_prediction'",
    ):
        assert line in str(caught.value)
    assert listing(tmp_path) == ["source"]


def other_text(source):
    diffusers_folders.text_encoder(d_model=24).save_pretrained(source / "text_encoder")


def no_tokenizer(source):
    shutil.rmtree(source / "tokenizer")


def tokenizer_pointer(source):
    (source / "tokenizer" / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1")


def vae_for_transformer(source):
    shutil.rmtree(source / "transformer")
    shutil.copytree(source / "vae", source / "transformer")


IMAGE_TO_VIDEO = {"_class_name": "CogVideoXImageToVideoPipeline"}
REFUSED = [
    (other_text, "width of the text: the transformer takes 20, the text_encoder gives 24"),
    (no_tokenizer, "tokenizer: expected a tokenizer, found none; .*--tokenizer DIR"),
    (tokenizer_pointer, "tokenizer.json: expected a tokenizer, found a git-lfs pointer"),
    (vae_for_transformer, "expected the transformer of a pipeline, found its vae .*mmjax.convert vae"),
    (lambda source: change_json(source / "model_index.json", IMAGE_TO_VIDEO), "image-to-video models .* not built"),
    (lambda source: (source / "model_index.json").unlink(), "expected a pipeline's folder, with model_index.json"),
    (lambda source: (source / "scheduler/scheduler_config.json").unlink(), "scheduler_config.json: no such file"),
]


@pytest.mark.parametrize("damage,message", REFUSED)
def test_broken_pipeline_is_one_clear_error(tmp_path, source, damage, message):
    damage(source)
    with pytest.raises(ConversionError, match=message) as caught:
        conversion.convert_pipeline(source, tmp_path / "ours")
    print(caught.value)
    assert listing(tmp_path) == ["source"]


def test_disk_is_checked_for_all_parts_together(tmp_path, monkeypatch, published, converted):
    """Room for any one of them is not enough."""
    sizes = [path.stat().st_size for path in published[1].rglob("*.safetensors")]
    free = sum(sizes) * 3 // 4
    assert max(sizes) < free
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free})())
    with pytest.raises(ConversionError, match="ours needs .* GB"):
        conversion.convert_pipeline(published[1], tmp_path / "ours")
    assert not listing(tmp_path)


# The scheduler

PUBLISHED_5B = {  # with the settings that have no effect
    "_class_name": "CogVideoXDDIMScheduler",
    "_diffusers_version": "0.30.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}


def test_scheduler_comes_back():
    read = scheduler.read_scheduler(PUBLISHED_5B, "here")
    assert read == (c.Schedule(snr_shift=1.0), c.Sampling(sampler="ddim", dynamic_guidance=False), [])
    expected = {key: value for key, value in PUBLISHED_5B.items() if key != "_diffusers_version"}
    assert scheduler.write_scheduler(*read[:2]) == expected


def test_absent_settings_have_diffusers_defaults():
    """Those of CogVideoX's schedulers, most of which mmjax does not build."""
    with pytest.raises(ConversionError) as caught:
        scheduler.read_scheduler({"_class_name": "CogVideoXDPMScheduler"}, "here")
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == [
        "prediction_type",
        "rescale_betas_zero_snr",
        "clip_sample",
    ]
    small = {key: PUBLISHED_5B[key] for key in ("prediction_type", "rescale_betas_zero_snr", "clip_sample")}
    schedule, sampling, _ = scheduler.read_scheduler({"_class_name": "CogVideoXDPMScheduler"} | small, "here")
    assert schedule == c.Schedule(snr_shift=3.0) and sampling.sampler == "dpm" and sampling.dynamic_guidance


@pytest.mark.parametrize(
    "change,message",
    [
        ({"_class_name": "DPMSolverMultistepScheduler"}, "found DPMSolverMultistepScheduler"),
        ({"rescale_betas_zero_snr": False}, "rescale_betas_zero_snr = False: expected True"),
        ({"beta_schedule": "linear"}, "beta_schedule = 'linear': expected 'scaled_linear'"),
        ({"trained_betas": [0.1]}, r"trained_betas = \[0.1\]: expected None"),
        ({"set_alpha_to_one": False}, "set_alpha_to_one = False: expected True"),
        ({"clip_sample": True}, "clip_sample = True: expected False"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas = True: expected it absent"),
        ({"beta_end": "0.012"}, "beta_end = '0.012': expected a number"),
        ({"beta_end": 0.0001}, "beta_start = 0.00085: expected 0 < beta_start < beta_end"),
    ],
)
def test_schedulers_that_are_not_built_are_refused(change, message):
    with pytest.raises(ConversionError, match=message):
        scheduler.read_scheduler(PUBLISHED_5B | change, "here")


def test_other_spacing_of_timesteps_is_noted(tmp_path, source):
    change_json(source / "scheduler" / "scheduler_config.json", {"timestep_spacing": "linspace"})
    report = conversion.convert_pipeline(source, tmp_path / "ours")
    assert "spaces timesteps 'linspace'; mmjax samples with 'trailing'" in str(report)


# Interruptions, and folders that are not whole


STOPS = {
    "in the second part": "if count == 80:",
    "after the last part": "if count == 'manifest' and (folder / 'vae').exists():",
}
KILLED = """
import sys, time
from pathlib import Path
from mmjax import conversion
from mmjax.conversion import engine, store
flag, calls = Path("flag"), []
assemble, write_manifest = engine.assemble, store.write_manifest
def stop(count, folder=None):
    {stop}
        flag.touch()
        time.sleep(600)
def counted(*args):
    calls.append(None)
    stop(len(calls))
    return assemble(*args)
def manifest(folder, *args):
    stop("manifest", folder)
    return write_manifest(folder, *args)
engine.assemble, store.write_manifest = counted, manifest
conversion.convert_pipeline(sys.argv[1], "ours")
"""


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_kill_leaves_nothing_that_looks_complete(tmp_path, published, stop):
    code = KILLED.replace("{stop}", stop)
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    child = subprocess.Popen([sys.executable, "-c", code, str(published[1])], cwd=tmp_path, env=env)
    try:
        while not (tmp_path / "flag").exists():
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = [name for name in listing(tmp_path) if name != "flag"]
    assert len(left) == 1 and left[0].startswith("ours.partial-")
    assert (tmp_path / left[0] / "transformer" / store.MANIFEST).exists()  # it was at work
    with pytest.raises(CheckpointError, match="found no mmjax.json"):
        conversion.read_pipeline(tmp_path / left[0])
    with pytest.raises(CheckpointError, match="found no mmjax.json"):
        conversion.read_pipeline(tmp_path / "ours")
    conversion.convert_pipeline(published[1], tmp_path / "ours")
    assert conversion.read_pipeline(tmp_path / "ours").frames == 9


def test_leftovers_are_named_when_the_disk_is_full(tmp_path, monkeypatch, published):
    (tmp_path / "ours.partial-123").mkdir()
    monkeypatch.setattr(output_folder.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ConversionError, match="left ours.partial-123 there: delete"):
        conversion.convert_pipeline(published[1], tmp_path / "ours")


def lost_part(folder):
    shutil.rmtree(folder / "vae")


def lost_tokenizer(folder):
    (folder / "text_encoder" / "tokenizer" / "tokenizer.json").unlink()


def cut_short(folder):
    largest = max((folder / "vae" / store.PARAMS).rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])


def swapped(folder):
    shutil.rmtree(folder / "vae")
    shutil.copytree(folder / "transformer", folder / "vae")
    change_json(folder / store.MANIFEST, {"files": {}})


BROKEN = [
    (lost_part, "vae/mmjax.json is missing: the folder is incomplete"),
    (lost_tokenizer, "tokenizer/tokenizer.json is missing: the folder is incomplete"),
    (cut_short, "bytes of .* the folder is incomplete"),
    (swapped, "expected a converted vae, found a transformer"),
    (lambda folder: change_json(folder / store.MANIFEST, {"video": {"frames": 9}}), "another version of mmjax"),
]


@pytest.mark.parametrize("damage,message", BROKEN)
def test_broken_converted_pipeline_is_one_clear_error(tmp_path, converted, damage, message):
    shutil.copytree(converted[0], tmp_path / "ours")
    damage(tmp_path / "ours")
    with pytest.raises(CheckpointError, match=message):
        conversion.read_pipeline(tmp_path / "ours")


def test_a_part_is_no_pipeline_and_a_pipeline_no_part(tmp_path, converted):
    with pytest.raises(CheckpointError, match="expected a whole converted cogvideox, found a transformer"):
        conversion.read_pipeline(converted[0] / "transformer")
    with pytest.raises(CheckpointError, match="expected one component, found a whole cogvideox; give one of .*/vae"):
        conversion.load_component(converted[0])
    with pytest.raises(ConversionError, match="use convert_pipeline"):
        conversion.convert("cogvideox", "source", tmp_path / "ours")


# A text encoder by itself


def test_text_encoder_takes_its_tokenizer_along(tmp_path, published):
    conversion.convert("text-encoder", published[1], tmp_path / "ours")
    assert listing(tmp_path / "ours" / "tokenizer") == ["tokenizer.json", "tokenizer_config.json"]
    conversion.convert_back("text-encoder", tmp_path / "ours", tmp_path / "back")
    assert listing(tmp_path / "back") == ["config.json", "model.safetensors", "tokenizer"]
    conversion.convert("text-encoder", tmp_path / "back", tmp_path / "again")
    assert listing(tmp_path / "again" / "tokenizer") == ["tokenizer.json", "tokenizer_config.json"]


def test_text_encoder_without_a_tokenizer_says_so(tmp_path, published):
    shutil.copytree(published[1] / "text_encoder", tmp_path / "alone" / "encoder")
    report = conversion.convert("text-encoder", tmp_path / "alone" / "encoder", tmp_path / "ours")
    assert "prompts cannot be encoded without it" in str(report)
    tokenizer = published[1] / "tokenizer"
    report = conversion.convert("text-encoder", tmp_path / "alone" / "encoder", tmp_path / "two", tokenizer=tokenizer)
    assert not report.notes and (tmp_path / "two" / "tokenizer" / "tokenizer.json").is_file()
    with pytest.raises(ConversionError, match="expected a tokenizer .spiece.model or tokenizer.json., found config"):
        conversion.convert("text-encoder", published[1], tmp_path / "three", tokenizer=published[1] / "text_encoder")
    with pytest.raises(ConversionError, match="the component vae takes no text"):
        conversion.convert("vae", published[1], tmp_path / "three", tokenizer=tokenizer)


def test_a_second_conversion_leaves_what_lies_beside_it(tmp_path, published):
    """A PhotoMaker and the user's notes were eaten once."""
    ours = tmp_path / "ours"
    conversion.convert_pipeline(published[1], ours)
    conversion.convert("photomaker", photomaker_files.save(tmp_path / "v2.bin"), ours / "photomaker")
    (ours / "notes.txt").write_text("mine")
    (ours / "vae" / "notes.txt").write_text("mine")
    before = (ours / "transformer" / store.MANIFEST).stat().st_ino
    conversion.convert_pipeline(published[1], ours, dtype="bfloat16", overwrite=True)
    assert (ours / "notes.txt").read_text() == (ours / "vae" / "notes.txt").read_text() == "mine"
    assert conversion.read_record(ours / "photomaker", "photomaker")
    assert (ours / "transformer" / store.MANIFEST).stat().st_ino != before
    found = conversion.read_pipeline(ours)
    for part in WEIGHTS:
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(conversion.load_component(found.folders[part])[1])}
        assert dtypes == {"bfloat16"}
    conversion.convert("vae", published[1], ours / "vae", overwrite=True)  # one part anew
    assert (ours / "vae" / "notes.txt").read_text() == "mine"
    with pytest.raises(ConversionError, match="holds a converted cogvideox, which a vae would replace"):
        conversion.convert("vae", published[1], ours, overwrite=True)
    conversion.convert_pipeline_back(ours, tmp_path / "back")
    (tmp_path / "back" / "README.md").write_text("mine")
    conversion.convert_pipeline_back(ours, tmp_path / "back", overwrite=True)
    assert (tmp_path / "back" / "README.md").read_text() == "mine"
    with pytest.raises(ConversionError, match="mmjax did not write it"):
        conversion.convert_pipeline_back(ours, published[1], overwrite=True)
