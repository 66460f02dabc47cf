"""Samples that show how far a training run has come: clips of held-out people, and the contact sheet of them."""

import jax
import numpy as np

from mmjax import config as c
from mmjax import media
from mmjax.encoders.build import make_autoencoder
from mmjax.evaluation.samples import Samples
from mmjax.models.build import Params
from mmjax.records import pipeline
from mmjax.records.sources import Sources
from mmjax.sampling.denoiser import Denoiser
from mmjax.sampling.size import checked_size, frame_cells


class Preview:
    """A clip and a row of a sheet for each of a few held-out people of `sources`; it reads no text encoder.

    The same held-out people, prompts and seeds at every step, so that two sheets differ by the weights alone.

    source: of the people, among `data.sources`: that of the longest clips.
    records: of the people, one each.
    """

    def __init__(self, config: c.Experiment, sources: Sources, mesh: jax.sharding.Mesh | None = None):
        self.config, self.denoiser = config, Denoiser(config, mesh)
        self.autoencoder = make_autoencoder(config, self.denoiser.mesh)
        self.size = checked_size(config)
        self.source = config.data.sources[int(np.argmax(config.data.frames))]
        self.records = pipeline.validation_records(config, sources, self.source, config.train.sample_count)
        self._unconditional_text = sources.unconditional_text

    def __call__(self, params: Params, step: int) -> Samples:
        """Samples with `params`; a row of the sheet has a reference, frames of the clip, a frame of the real one."""
        batch, count = pipeline.collate(self.records), len(self.records)
        latents = self.denoiser(params, batch, self._unconditional_text, range(count), self.size)
        videos, real = (self.autoencoder.decode(each) for each in (latents, batch["latents"]))
        rows = []
        for record, video, seen in zip(self.records, videos, real, strict=True):
            cells = [("reference", record["reference"][0]), *frame_cells(video), ("real", seen[len(seen) // 2])]
            rows.append(media.SheetRow(cells, str(record["caption"])))
        by_heart = f"learned by heart, {media.psnr(videos, real):.1f} dB PSNR"
        shown = by_heart if self.source == "clip" else "people not trained on"
        sheet = media.contact_sheet(rows, title=f"{self.config.name}, step {step}: {shown}")
        people = [str(record["person"]) for record in self.records]
        return Samples(people, videos, self.config.data.fps, sheet)
