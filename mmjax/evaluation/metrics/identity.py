"""Identity: how alike the person in a video is to the person of the references (METHOD 6).

Identity          mean over frames of the cosine to the mean embedding of the person's references
SimilarityDecay   what of it is lost from the first to the last part of the video
FramesWithoutFace share of frames in which nobody was found: a likeness over the others alone flatters
"""

import dataclasses
import math

import numpy as np

from mmjax.evaluation.metrics.interface import FACES, MeanOverVideos, Score, VideoToScore, not_computed
from mmjax.evaluation.metrics.likeness import Likeness, similarity_by_frame

_PARTS = 4  # of a video, of which the first and the last are compared


@dataclasses.dataclass(frozen=True)
class Identity(Likeness):
    """Mean over frames of the cosine to the mean embedding of the references; `series` is that of each frame.

    Higher is better, as far as real clips of the people go; a reference that is pasted can exceed them: see
    `CopyPaste`.
    """

    column, about = "identity", "identity: cosine to the person's references"

    def score(self, case: VideoToScore) -> Score:
        series = similarity_by_frame(case, self.embedder)
        return series if isinstance(series, Score) else Score(float(np.nanmean(series)), series.tolist())


@dataclasses.dataclass(frozen=True)
class SimilarityDecay(Likeness):
    """Mean cosine of the first quarter of the frames less that of the last one.

    0 is best: a likeness that holds. Below it the person only comes to be in the course of the video, or turns to the
    camera; one video's sign says little.
    """

    column, about = "decay", "similarity decay: cosine lost from the first quarter to the last"

    better: str = "zero"

    def score(self, case: VideoToScore) -> Score:
        series = similarity_by_frame(case, self.embedder)
        if isinstance(series, Score):
            return series
        if len(series) < 2:
            return not_computed("one frame; decay needs a video of two frames or more")
        part = math.ceil(len(series) / _PARTS)
        first, last = series[:part], series[-part:]
        if np.isnan(first).all() or np.isnan(last).all():
            return not_computed("no face in the first or in the last quarter of the frames")
        return Score(float(np.nanmean(first) - np.nanmean(last)))


@dataclasses.dataclass(frozen=True)
class FramesWithoutFace(MeanOverVideos):
    """Share of the frames looked at in which no face was found."""

    name: str = "no_face"
    title: str = "frames without a face, share"
    better: str = "lower"
    needs: frozenset[str] = frozenset({FACES})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        found = case.observation.faces.found
        return Score(float(1 - found.mean()), (1.0 - found).tolist())
