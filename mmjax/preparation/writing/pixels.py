"""The pixels of samples, read again by worker processes while records are encoded."""

import numpy as np
from jaxtyping import UInt8

from mmjax.faces.upright import turned
from mmjax.preparation.framing import apply_framing
from mmjax.preparation.inputs.decoding import read_frames, read_photo
from mmjax.preparation.items import Item, Sample
from mmjax.preparation.settings import Settings

_settings = Settings()  # of this worker process


def start_reading(settings: Settings) -> None:
    """Called once in each worker that `read_pixels` runs in."""
    global _settings
    _settings = settings


def read_pixels(task: tuple[Item, Sample]) -> UInt8[np.ndarray, "F h w 3"]:
    """A sample's pixels at the record's size. Raises `Rejected` where the file is not as it was."""
    item, sample = task
    if item.kind == "photo":
        frames = read_photo(item, _settings)[None]
    else:
        frames = read_frames(item, sample.frames, _settings, sample.times)
    return apply_framing(sample.framing, turned(frames, sample.turns))
