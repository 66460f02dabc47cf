"""Frames that an embedder says nothing of: one that finds faces by itself, as dlib does, misses some that others find.

Likeness is a mean over the frames that it embedded; this is the share of those that it did not, to be read beside it.
"""

import dataclasses

import numpy as np

from mmjax.evaluation.metrics.interface import EMBEDDER, MeanOverVideos, Score, VideoToScore


@dataclasses.dataclass(frozen=True)
class FramesNotEmbedded(MeanOverVideos):
    """Share of the frames looked at in which this embedder found no face, whoever else did; `series` has 1 for each."""

    embedder: str
    better: str = "lower"
    needs: frozenset[str] = frozenset({EMBEDDER})
    version: int = 1

    @property
    def name(self) -> str:
        return f"no_face/{self.embedder}"

    @property
    def title(self) -> str:
        return f"frames in which {self.embedder} found no face, share"

    def score(self, case: VideoToScore) -> Score:
        missed = ~np.isfinite(case.observation.faces.embeddings[self.embedder]).all(axis=1)
        return Score(float(missed.mean()), missed.astype(float).tolist())
