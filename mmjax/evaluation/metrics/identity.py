"""Identity: how alike the person in a video is to the person of the references (METHOD 6).

Identity          mean over frames of the cosine to the mean embedding of the person's references
SimilarityDecay   what of it is lost from the first to the last part of the video
FramesWithoutFace share of frames in which nobody was found: a likeness over the others alone flatters
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import (
    EMBEDDER,
    FACES,
    REFERENCES,
    MeanOverVideos,
    Score,
    VideoToScore,
    not_computed,
)
from mmjax.evaluation.observation import Subject
from mmjax.faces.embeddings import cosine_similarity, mean_embedding

_PARTS = 4  # of a video, of which the first and the last are compared


@dataclasses.dataclass(frozen=True)
class Identity(MeanOverVideos):
    """Mean over frames of the cosine to the mean embedding of the references; `series` is that of each frame."""

    embedder: str
    better: str = "higher"
    needs: frozenset[str] = frozenset({EMBEDDER, REFERENCES})
    version: int = 1

    @property
    def name(self) -> str:
        return f"identity/{self.embedder}"

    @property
    def title(self) -> str:
        return f"identity: cosine to the person's references, by {self.embedder}"

    def score(self, case: VideoToScore) -> Score:
        series = similarity_by_frame(case, self.embedder)
        if isinstance(series, Score):
            return series
        return Score(float(np.nanmean(series)), series.tolist())


@dataclasses.dataclass(frozen=True)
class SimilarityDecay(MeanOverVideos):
    """Mean cosine of the first quarter of the frames less that of the last one."""

    embedder: str
    better: str = "lower"
    needs: frozenset[str] = frozenset({EMBEDDER, REFERENCES})
    version: int = 1

    @property
    def name(self) -> str:
        return f"decay/{self.embedder}"

    @property
    def title(self) -> str:
        return f"similarity decay: cosine lost from the first quarter to the last, by {self.embedder}"

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


def reference_embedding(subject: Subject, embedder: str) -> Float[np.ndarray, " width"] | None:
    """The direction of a person: the mean of their pictures' unit embeddings; None where no picture has a face."""
    known = subject.faces.embeddings[embedder]
    known = known[np.isfinite(known).all(axis=1)]
    return mean_embedding(known) if len(known) else None


def similarity_by_frame(case: VideoToScore, embedder: str) -> Float[np.ndarray, " n"] | Score:
    """The cosine of each frame to the own person, NaN without a face; or why there is none."""
    if case.subject is None:
        return not_computed("no person is known for this video; give --references with a folder or row of their name")
    person = reference_embedding(case.subject, embedder)
    if person is None:
        return not_computed(f"no face was found on the references of {case.subject.name}; give other pictures")
    embeddings = case.observation.faces.embeddings[embedder]
    seen = np.isfinite(embeddings).all(axis=1)
    if not seen.any():
        return not_computed("no face was found in any frame")
    series = np.full(len(embeddings), np.nan)
    series[seen] = cosine_similarity(embeddings[seen], person[None])[:, 0]
    return series
