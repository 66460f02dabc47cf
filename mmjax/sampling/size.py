"""How large a video is, and which sizes a model takes."""

import numpy as np
from jaxtyping import UInt8

from mmjax import config as c
from mmjax import media
from mmjax.errors import ConfigError
from mmjax.model_settings import FRAME_GROUP
from mmjax.validation import off_grid

Size = tuple[int, int, int]  # frames, height, width of a video in pixels


def checked_size(
    config: c.Experiment, frames: int | None = None, height: int | None = None, width: int | None = None
) -> Size:
    """The size of a video in pixels, by default that of the experiment's longest source.

    Raises:
      ConfigError: a size off the model's grid, with the nearest ones that are on it.
    """
    frames = max(config.data.frames, default=1) if frames is None else frames
    size = frames, config.data.height if height is None else height, config.data.width if width is None else width
    unit = config.autoencoder.spatial * config.model.transformer.patch
    for name, value, multiple, rest, number in zip(
        ("frames", "height", "width"),
        size,
        (FRAME_GROUP, unit, unit),
        (1, 0, 0),
        (c.FRAMES, c.PIXELS, c.PIXELS),
        strict=True,
    ):
        if near := off_grid(value, multiple, rest):
            kind = "8k + 1 (1, 9, 17, ...)" if rest else f"a multiple of {unit} pixels (autoencoder x patch)"
            raise ConfigError(f"{name} = {value}: expected {kind}, nearest {near}")
        number.checked(name, value)
    return size


def frame_cells(video: UInt8[np.ndarray, "frames h w 3"], count: int = 4) -> list[tuple[str, np.ndarray]]:
    """Cells of a contact sheet: `count` frames from the first to the last, with their numbers."""
    return [(f"frame {index}", video[index]) for index in media.spread(count, len(video))]
