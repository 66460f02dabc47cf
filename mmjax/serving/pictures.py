"""Small pictures for the page."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SHOWN = 320  # pixels of the longer side


def jpeg(pixels: UInt8[np.ndarray, "h w 3"], side: int = SHOWN) -> bytes:
    """A JPEG whose longer side has `side` pixels at most."""
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=85)
    return file.getvalue()
