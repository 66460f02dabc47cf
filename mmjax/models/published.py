"""The published base models, 2B, 5B and 1.5-5B, and what belongs to each: schedule, sampler, clips (METHOD 1).

Experiments of full size begin here: `configs/magicmirror_*.py`, the two stages, the ablations.
"""

import dataclasses

from mmjax import config as c
from mmjax.validation import chosen

_ROPE_5B = c.Experiment(
    data=c.Data(sources=("records/images", "records/clips"), weights=(0.5, 0.5), batches=(64, 8), frames=(1, 49)),
    encoders=c.Encoders("t5", "photomaker"),  # their folders: --config.encoders.text_encoder=DIR ...
    train=c.Train(sample_every=0),  # sheets of samples need the autoencoder's weights
)
_PUBLISHED = {
    "2b": dataclasses.replace(
        _ROPE_5B,
        model=c.Model(c.Transformer(layers=30, heads=30, position="sincos")),
        schedule=c.Schedule(snr_shift=3.0),
        sampling=c.Sampling(sampler="ddim", dynamic_guidance=False),
    ),
    "5b": _ROPE_5B,
    "1_5_5b": dataclasses.replace(
        _ROPE_5B,
        model=c.Model(c.Transformer(position="rope_slice", patch_t=2, base_frames=21, base_height=300, base_width=300)),
        data=dataclasses.replace(_ROPE_5B.data, frames=(1, 81), height=768, width=1360, fps=16),
    ),
}
SIZES = tuple(_PUBLISHED)  # by the names that a configuration's file takes behind a colon


def published(size: str) -> c.Experiment:
    """An experiment on a published model, with pictures and clips of its size from one folder, `records`.

    Args:
      size: one of `SIZES`. Raises `ConfigError` for another word.
    """
    return dataclasses.replace(chosen(size, _PUBLISHED), name=f"magicmirror_{size}")
