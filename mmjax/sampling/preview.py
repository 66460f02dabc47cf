"""The contact sheet that shows how far a training run has come."""

import jax
import numpy as np
from jaxtyping import UInt8

from mmjax import config as c
from mmjax import media
from mmjax.encoders.build import make_autoencoder
from mmjax.models.build import Params
from mmjax.records import pipeline
from mmjax.records.sources import Sources
from mmjax.sampling.denoiser import Denoiser
from mmjax.sampling.size import checked_size, frame_cells


class Preview:
    """A sheet with one row for each of a few held-out people of `sources`; it reads no text encoder.

    The same held-out people, prompts and seeds at every step, so that two sheets differ by the weights alone.
    """

    def __init__(self, config: c.Experiment, sources: Sources, mesh: jax.sharding.Mesh | None = None):
        self.config, self.denoiser = config, Denoiser(config, mesh)
        self.autoencoder = make_autoencoder(config, self.denoiser.mesh)
        self.size = checked_size(config)
        source = config.data.sources[int(np.argmax(config.data.frames))]
        self._by_heart = source == "clip"
        self._records = pipeline.validation_records(config, sources, source, config.train.sample_count)
        self._unconditional_text = sources.unconditional_text

    def __call__(self, params: Params, step: int) -> UInt8[np.ndarray, "h w 3"]:
        """Samples with `params` and draws one row for each person: reference, frames, a frame of the real clip."""
        batch, count = pipeline.collate(self._records), len(self._records)
        latents = self.denoiser(params, batch, self._unconditional_text, range(count), self.size)
        videos, real = (self.autoencoder.decode(each) for each in (latents, batch["latents"]))
        rows = []
        for record, video, seen in zip(self._records, videos, real, strict=True):
            cells = [("reference", record["reference"][0]), *frame_cells(video), ("real", seen[len(seen) // 2])]
            rows.append(media.SheetRow(cells, str(record["caption"])))
        shown = (
            f"learned by heart, {media.psnr(videos, real):.1f} dB PSNR" if self._by_heart else "people not trained on"
        )
        return media.contact_sheet(rows, title=f"{self.config.name}, step {step}: {shown}")
