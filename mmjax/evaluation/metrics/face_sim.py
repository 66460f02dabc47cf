"""FaceSim (ConsisID, OpenS2V): mean over frames of the cosine to the one reference, by their own way of detection.

As published it flatters: a frame in which nobody is found is skipped, and a cosine below zero counts as zero. Mended,
cosines count as they are and a frame without a face counts as 0, which is what a stranger gets. Beside `identity` it is
a coarser eye: one small look at each picture, one reference, and where the generator was given that very reference,
copying it wins.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax.errors import DataError
from mmjax.evaluation.frames import FrameSampling, chosen
from mmjax.evaluation.metrics.interface import (
    PIXELS,
    REFERENCES,
    MeanOverVideos,
    Score,
    VideoToScore,
    not_computed,
)
from mmjax.evaluation.observation import Subject
from mmjax.faces.embeddings import cosine_similarity
from mmjax.faces.face_sim import Embedding, FaceSimFaces, load_face_sim
from mmjax.pictures import read_picture

ARC, CUR = "arc", "cur"  # by the pack's ArcFace; by CurricularFace


@dataclasses.dataclass(frozen=True)
class FaceSim(MeanOverVideos):
    """`series` has the cosine of each frame as it is, NaN without a face; `details` how many frames had none.

    face_models: pack, by name or folder. curricularface: its ONNX file, which `recogniser` "cur" takes.
    sampling: the frames that are looked at; None for all that were decoded.
    zeros_dropped: whether frames whose cosine is zero or less are left out, as OpenS2V does for "cur" alone.
    fixed: count what the publications leave out.
    """

    recogniser: str
    face_models: str
    curricularface: str = ""
    sampling: FrameSampling | None = None
    zeros_dropped: bool = False
    fixed: bool = False
    better: str = "higher"
    needs: frozenset[str] = frozenset({PIXELS, REFERENCES})
    version: int = 1

    @property
    def name(self) -> str:
        return f"face_sim/{self.recogniser}"

    @property
    def title(self) -> str:
        by = "ArcFace" if self.recogniser == ARC else "CurricularFace"
        return f"FaceSim-{self.recogniser.capitalize()}: cosine to the reference, by {by}{', mended' * self.fixed}"

    def score(self, case: VideoToScore) -> Score:
        path = _given_picture(case.subject)
        if isinstance(path, Score):
            return path
        try:
            places = chosen(case.video, self.sampling)
            picture = np.asarray(read_picture(path))
        except DataError as error:
            return not_computed(str(error))
        reference = self._embed(picture)
        if reference is None:
            return not_computed(f"FaceSim finds no face on the reference {path}; give another one")
        embedded = {place: self._embed(case.video.frames[place]) for place in dict.fromkeys(places.tolist())}
        return self._aggregate(np.array([_cosine(embedded[place], reference) for place in places.tolist()]))

    def fingerprint(self) -> str:
        """Names and hashes of the networks' files."""
        return _faces(self.face_models, self.curricularface).fingerprint

    def _embed(self, picture: np.ndarray) -> Embedding | None:
        faces = _faces(self.face_models, self.curricularface)
        return faces.arcface(picture) if self.recogniser == ARC else faces.curricularface(picture)

    def _aggregate(self, cosines: Float[np.ndarray, " n"]) -> Score:
        faceless = np.isnan(cosines)
        if self.fixed:
            counted = np.where(faceless, 0.0, cosines)
        else:
            counted = np.maximum(cosines[~faceless], 0)
            counted = counted[counted != 0] if self.zeros_dropped else counted
        value = float(counted.mean()) if len(counted) else 0.0
        details = {"frames": len(cosines), "without_face": int(faceless.sum())}
        return Score(value, cosines.tolist(), details=details)


def _given_picture(subject: Subject | None) -> Path | Score:
    """The file of the one reference: the picture that the generator was given, or the only one."""
    if subject is None or not subject.pictures:
        return not_computed("no picture of the person is known; give --references with a folder or row of their name")
    if subject.given is None and len(subject.pictures) > 1:
        return not_computed(
            f"FaceSim compares with the one picture that the generator was given; say which of the "
            f"{len(subject.pictures)} of {subject.name} that is"
        )
    return Path(subject.pictures[subject.given or 0])


def _cosine(embedding: Embedding | None, reference: Embedding) -> float:
    return np.nan if embedding is None else float(cosine_similarity(embedding[None], reference[None])[0, 0])


@functools.lru_cache(maxsize=2)
def _faces(face_models: str, curricularface: str) -> FaceSimFaces:
    """Opened once in a process."""
    return load_face_sim(face_models, curricularface)
