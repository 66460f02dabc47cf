"""Portraits of drawn people as PNG files that say whom they show.

Each is labelled with the person's identity vector (`mmjax.encoders.labels`), which the drawn face encoder reads. That
lets `mmjax.sample --reference person.png` work on drawn people the way it works on photographs with a real encoder.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from mmjax import files
from mmjax.encoders.labels import CHUNK, label
from mmjax.synthetic import drawing, people


def draw_portrait(number: int, side: int, seed: int = 0) -> Image.Image:
    """One portrait of person `number`, `side` pixels a side, with the identity vector in its `info`."""
    identity = people.make_identity(number)
    looks = people.portrait_looks(np.random.default_rng([number, seed]), 1)
    return label(drawing.draw(identity[None], looks, side, side).pixels[0], identity)


def save_portrait(path: str | os.PathLike, image: Image.Image) -> Path:
    """Writes a portrait of `draw_portrait` as a PNG, identity vector included, whole or not at all."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text(CHUNK, image.info[CHUNK])
    with files.written_whole(path) as partial:
        image.save(partial, format="png", pnginfo=notes)
    return Path(path)
