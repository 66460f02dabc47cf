"""Small inputs for all entry points: a run and its adapter, published weights, photos, a clip, lists, latents."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers import hostile_files

CONFIG = """
from tests.sampling.test_sample_cli import experiment

def get_config():
    return experiment({data!r}).to_config_dict()
"""
SMALL = """
from tests.helpers import {module}

get_config = lambda: {module}.experiment({arguments}).to_config_dict()
"""


def make(folder: Path) -> None:
    """Writes all inputs into `folder`; takes half a minute. Needs the test extras."""
    import torch  # noqa: F401  the published pipeline is diffusers' own

    from mmjax import conversion
    from tests.helpers import diffusers_folders, photomaker_files, prepared_input, tiny_run

    diffusers_folders.pipeline(
        folder / "published",
        scheduler="CogVideoXDDIMScheduler",
        transformer=dict(in_channels=16, out_channels=16, max_text_seq_length=20),
        vae=dict(latent_channels=16),
    )
    conversion.convert_pipeline(folder / "published", folder / "converted")
    photomaker_files.save(folder / "photomaker.bin")
    _run(folder)
    _pictures(folder)
    _videos(folder)
    tiny_run.sources(tiny_run.experiment(folder / "records"))
    (folder / "train.py").write_text(SMALL.format(module="tiny_run", arguments=repr(str(folder / "records"))))
    (folder / "prepare.py").write_text(SMALL.format(module="prepared_input", arguments=""))
    prepared_input.many(folder / "photos", 3)
    _lists(folder)
    _arrays(folder)


def _run(folder: Path) -> None:
    """A workdir whose weights are drawn."""
    import jax

    from mmjax import convert, sharding
    from mmjax.records import pipeline
    from mmjax.training import optimizer, state
    from mmjax.training.checkpoints import Checkpoints
    from mmjax.training.tasks.registry import make_task
    from mmjax.training.workdir import write_run
    from tests.helpers.tiny_run import sources
    from tests.sampling.test_sample_cli import experiment

    config, workdir = experiment(folder / "data"), folder / "run"
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
    made = state.create_state(make_task(config), optimizer.make_optimizer(config.optim, 2), mesh)
    write_run(workdir, config, {})
    found = sources(config)
    checkpoints = Checkpoints(workdir, config, pipeline.order_fingerprint(config, found))
    checkpoints.save(made.replace(step=made.step + 2))
    checkpoints.close()
    convert("adapter", workdir, folder / "adapter.safetensors")


def _pictures(folder: Path) -> None:
    from mmjax.synthetic import portraits
    from tests.helpers import face_pictures

    (folder / "faces").mkdir()
    for number in range(2):
        portraits.save_portrait(folder / "faces" / f"{number}.png", portraits.draw_portrait(1_000_000 + number, 16))
    Image.fromarray(face_pictures.astronaut()).save(folder / "photo.jpg", quality=90)
    (folder / "clip.mp4").write_bytes(hostile_files.movie(frames=12))


def _videos(folder: Path) -> None:
    """A clip in the folder of a person's name, and a folder of frames."""
    (folder / "videos" / "000").mkdir(parents=True)
    (folder / "videos" / "000" / "a.mp4").write_bytes(hostile_files.movie(frames=3))
    (folder / "videos" / "001").mkdir()
    for number in range(2):
        (folder / "videos" / "001" / f"{number}.png").write_bytes(hostile_files.encoded("PNG"))


def _lists(folder: Path) -> None:
    (folder / "prompts.txt").write_text("A man img is smiling\nA woman img in a park\n")
    shots = 'clothes = "in a coat"\n[[shot]]\nprompt = "A man img walks"\n[[shot]]\nprompt = "A man img"\nframes = 1\n'
    (folder / "shots.toml").write_text(shots)
    (folder / "shots.txt").write_text("# a story\nA man img walks\n\nA man img smiles\n")
    (folder / "manifest.csv").write_text("path,caption\nphotos/000.jpg,A woman img smiles\nphotos/001.jpg,\n")
    lines = [{"path": f"photos/00{n}.jpg", "caption": "A woman img smiles", "person": "a"} for n in range(2)]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for number in range(3):
        (folder / "photos" / f"00{number}.txt").write_text("A woman img looks at the camera\n")


def _arrays(folder: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(folder / "latents.npy", draw.standard_normal((9, 16, 16, 3)).astype(np.float32))
    np.save(folder / "wide.npy", draw.standard_normal((3, 8, 12, 16)).astype(np.float32))
    np.save(folder / "nan.npy", np.full((9, 16, 16, 3), np.nan, np.float32))
