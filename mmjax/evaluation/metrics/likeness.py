"""What metrics of likeness share: an embedder in whose eyes they look, and what it knows of a video and a person."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import (
    EMBEDDER,
    NO_FACE,
    NO_PERSON,
    REFERENCES,
    MeanOverVideos,
    Score,
    VideoToScore,
    no_reference_face,
    not_computed,
)
from mmjax.evaluation.observation import FacesSeen, Subject
from mmjax.faces.embeddings import cosine_similarity, mean_embedding


@dataclasses.dataclass(frozen=True)
class Likeness(MeanOverVideos):
    """A metric of likeness in the eyes of one embedder, by name; each embedder has columns of its own.

    column: the name before the embedder's. about: the title before the embedder's name.
    """

    column: ClassVar[str]
    about: ClassVar[str]

    embedder: str
    better: str = "higher"
    needs: frozenset[str] = frozenset({EMBEDDER, REFERENCES})
    version: int = 1

    @property
    def name(self) -> str:
        return f"{self.column}/{self.embedder}"

    @property
    def title(self) -> str:
        return f"{self.about}, by {self.embedder}"


def known_embeddings(faces: FacesSeen, embedder: str) -> Float[np.ndarray, "known width"]:
    """Those of the frames, or pictures, on which the embedder has a face."""
    embeddings = faces.embeddings[embedder]
    return embeddings[np.isfinite(embeddings).all(axis=1)]


def reference_embedding(subject: Subject, embedder: str) -> Float[np.ndarray, " width"] | None:
    """The direction of a person: the mean of their pictures' unit embeddings; None where no picture has a face."""
    known = known_embeddings(subject.faces, embedder)
    return mean_embedding(known) if len(known) else None


def similarity_by_frame(case: VideoToScore, embedder: str) -> Float[np.ndarray, " n"] | Score:
    """The cosine of each frame to the own person, NaN without a face; or why there is none."""
    if case.subject is None:
        return not_computed(NO_PERSON)
    person = reference_embedding(case.subject, embedder)
    if person is None:
        return no_reference_face(case.subject)
    embeddings = case.observation.faces.embeddings[embedder]
    seen = np.isfinite(embeddings).all(axis=1)
    if not seen.any():
        return not_computed(NO_FACE)
    series = np.full(len(embeddings), np.nan)
    series[seen] = cosine_similarity(embeddings[seen], person[None])[:, 0]
    return series


def own_and_others(case: VideoToScore, embedder: str) -> tuple[float, list[float]] | Score:
    """Cosines of the video's mean embedding to the own person and to all the others; or why there are none.

    A video without a face is told by `details["no_face"]`.
    """
    if case.subject is None:
        return not_computed(NO_PERSON)
    gallery = _gallery(case.people, embedder)
    own = gallery.pop(case.subject.name, None)
    if own is None:
        return no_reference_face(case.subject)
    if not gallery:
        return not_computed("nobody else is there to compare with; give references of two people or more")
    seen = known_embeddings(case.observation.faces, embedder)
    if not len(seen):
        return Score(None, why=NO_FACE, details={"no_face": True})
    cosines = cosine_similarity(mean_embedding(seen)[None], np.stack([own, *gallery.values()]))[0]
    return float(cosines[0]), cosines[1:].tolist()


def _gallery(people: Mapping[str, Subject], embedder: str) -> dict[str, Float[np.ndarray, " width"]]:
    """The direction of everybody who has a picture with a face, in the order of their names."""
    found = {name: reference_embedding(each, embedder) for name, each in sorted(people.items())}
    return {name: each for name, each in found.items() if each is not None}
