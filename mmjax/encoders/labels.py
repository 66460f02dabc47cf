"""Labelled pictures: a picture that carries the identity vector of the person on it, in memory and in a PNG.

A drawn person has no face that a recogniser could know, so the picture says whom it shows: the vector stands in a text
chunk, as a JSON list. `mmjax.synthetic.portraits` writes such pictures, `mmjax.encoders.placeholders.DrawnFaceEncoder`
reads them. NumPy only.
"""

import json

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax.errors import DataError

CHUNK = "mmjax-identity"  # name of the PNG's text chunk
IDENTITY_DIM = 24  # numbers in [-1, 1] of an identity vector: the traits of `mmjax.synthetic.people`


def label(pixels: UInt8[np.ndarray, "h w 3"], identity: Float[np.ndarray, " k"]) -> Image.Image:
    """A picture that says whom it shows, in its `info`."""
    image = Image.fromarray(pixels)
    image.info[CHUNK] = json.dumps([round(float(value), 6) for value in identity])
    return image


def read_label(image: Image.Image, name: str) -> Float[np.ndarray, " k"]:
    """The identity vector that a picture carries, float32.

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
    if identity.shape != (IDENTITY_DIM,) or not np.all(np.abs(identity) <= 1):
        raise DataError(
            f"reference {name}: expected {IDENTITY_DIM} numbers in [-1, 1] in its {CHUNK} chunk, found {text[:60]!r}; "
            "write the portrait again"
        )
    return identity
