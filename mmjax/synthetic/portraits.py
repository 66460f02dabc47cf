"""Portraits of drawn people as PNG files that say whom they show.

A drawn person has no face that a recogniser could know, so the picture carries the identity vector in a text chunk; the
drawn face encoder reads it there. That lets `mmjax.sample --reference person.png` work on drawn people the way it works
on photographs with a real encoder.
"""

import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, PngImagePlugin

from mmjax.errors import DataError
from mmjax.synthetic import drawing, people

CHUNK = "mmjax-identity"


def draw_portrait(number: int, side: int, seed: int = 0) -> Image.Image:
    """One portrait of person `number`, `side` pixels a side, with the identity vector in its `info`."""
    identity = people.make_identity(number)
    looks = people.portrait_looks(np.random.default_rng([number, seed]), 1)
    return label(drawing.draw(identity[None], looks, side, side).pixels[0], identity)


def label(pixels: UInt8[np.ndarray, "h w 3"], identity: Float[np.ndarray, " k"]) -> Image.Image:
    """A picture that says whom it shows."""
    image = Image.fromarray(pixels)
    image.info[CHUNK] = json.dumps([round(float(value), 6) for value in identity])
    return image


def save_portrait(path: str | os.PathLike, image: Image.Image) -> Path:
    """Writes a portrait of `draw_portrait` as a PNG, identity vector included."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = PngImagePlugin.PngInfo()
    notes.add_text(CHUNK, image.info[CHUNK])
    image.save(path, format="png", pnginfo=notes)
    return path


def read_identity(image: Image.Image, name: str) -> Float[np.ndarray, " k"]:
    """The identity vector that a portrait carries.

    Raises:
      DataError: the picture carries none, or a damaged one; `name` names it.
    """
    text = image.info.get(CHUNK)
    if text is None:
        raise DataError(
            f"reference {name}: expected a portrait written by mmjax.synthetic.portraits, found a picture without an "
            "identity vector; this model knows drawn people only (encoders.face = drawn), a photograph needs a model "
            "with a face recogniser"
        )
    try:
        identity = np.array(json.loads(text), np.float32)
    except ValueError:
        identity = np.zeros(0, np.float32)
    if identity.shape != (people.IDENTITY_DIM,) or not np.all(np.abs(identity) <= 1):
        raise DataError(
            f"reference {name}: expected {people.IDENTITY_DIM} numbers in [-1, 1] in its {CHUNK} chunk, found "
            f"{text[:60]!r}; write the portrait again"
        )
    return identity
