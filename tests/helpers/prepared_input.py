"""A small input for preparations, from pictures and a clip that packages ship: portraits of seven people, one video."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from mmjax import config as c
from mmjax.preparation.settings import Settings
from mmjax.records import clips
from tests.helpers import face_pictures as fp

ROOT = Path(__file__).resolve().parents[2]
CAPTION = "A {class_word} img looks at the camera"
# the recogniser takes 5 faces, or 64 at a time
SETTINGS = Settings(caption_template=CAPTION, class_word="person", max_upscale=2.0, max_text=0.0, chunk_photos=5)
SIDE = 32


def experiment(*sources: str, **changes) -> c.Experiment:
    """Pixels of 32 x 32, one frame and nine."""
    small = dict(layers=2, heads=2, head_dim=16, text_dim=8, text_length=20, time_dim=16, patch=4, latent_channels=3)
    adapter = dict(id_dim=512, clip_dim=16, clip_tokens=5, perceiver_width=32, perceiver_depth=1)
    data = dict(weights=(0.5, 0.5), batches=(4, 2), frames=(1, 9), height=SIDE, width=SIDE) | changes
    return c.Experiment(
        name="prepared",
        model=c.Model(
            c.Transformer(**small), c.Adapter(**adapter, perceiver_head_dim=16, queries=4, can_condition_dim=8)
        ),
        autoencoder=c.Autoencoder("pixel"),
        encoders=c.Encoders("word_table", "arcface", face_models=str(fp.PACK)),
        data=c.Data(sources=sources or ("images", "clips"), **data),
    ).validated()


def write(folder: Path) -> Path:
    """astronaut/: one woman on three pictures and a copy; crew/: six people, one picture each; carphone.mp4."""
    portrait = Image.fromarray(fp.astronaut())
    (folder / "astronaut").mkdir(parents=True)
    (folder / "crew").mkdir()
    portrait.save(folder / "astronaut" / "1.png")
    portrait.resize((360, 360)).save(folder / "astronaut" / "9.jpg", quality=60)
    portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((60, 0, 460, 400)).save(folder / "astronaut" / "2.png")
    dark = ImageEnhance.Brightness(portrait.crop((100, 0, 400, 300)).rotate(8)).enhance(0.7)
    dark.save(folder / "astronaut" / "3.webp")
    (folder / "astronaut" / "1.txt").write_text("A woman in an orange suit smiles.\n")
    six = fp.read(fp.SIX)
    for number, face in enumerate(fp.tools().detect(six)):
        left, top, right, bottom = np.round(face.box + face.side * np.array([-0.4, -0.4, 0.4, 0.4])).astype(int)
        Image.fromarray(six[max(top, 0) : bottom, max(left, 0) : right]).save(folder / "crew" / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not much of a picture")
    (folder / "carphone.mp4").write_bytes(clips.clip_path("carphone").read_bytes())
    return folder


def start(folder: Path, output: Path, *more: str, **options) -> subprocess.Popen:
    """`python -m mmjax.prepare` on a folder, with the experiment and settings of this module."""
    config = output.with_name(f"{output.name}-config.py")
    lines = [
        "from tests.helpers import prepared_input",
        "get_config = lambda: prepared_input.experiment().to_config_dict()",
    ]
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "mmjax.prepare", "--config", str(config), "--workers", "1"]
    command += ["--input", str(folder), "--output", str(output), f"--settings.caption_template={CAPTION}"]
    command += ["--settings.class_word=person", "--settings.max_upscale=2", "--settings.max_text=0"]
    command += [f"--settings.chunk_photos={SETTINGS.chunk_photos}", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def many(folder: Path, count: int) -> Path:
    """Portraits of one woman, all different: turned, darkened, cut."""
    folder.mkdir()
    portrait, draw = Image.fromarray(fp.astronaut()).crop((60, 0, 460, 400)), np.random.default_rng(0)
    for number in range(count):
        turned = portrait.rotate(draw.uniform(-20, 20), Image.Resampling.BILINEAR)
        left, top = draw.integers(0, 80, 2)
        picture = turned.crop((left, top, left + 300, top + 300)).resize((150, 150))
        ImageEnhance.Brightness(picture).enhance(draw.uniform(0.5, 1.4)).save(folder / f"{number:03d}.jpg")
    return folder
