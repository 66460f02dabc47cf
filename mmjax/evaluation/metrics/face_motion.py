"""Face motion: how far five landmarks of the face are from the reference's, and from the frame before (METHOD 6).

FaceMotionToReference  FM_ref: whether the face holds the reference's pose and expression, or a copy of it was pasted
FaceMotionInTime       FM_inter: whether the face stands still

The paper gives no units and no script, so neither figure stands beside its 0.730 and 0.610; two systems scored here
may be compared. [ours] FM_ref is in sides of the face's box: each landmark's place is divided by the width and by the
height of its own box, which takes away where the face is, how large, and the box's aspect. FM_inter is in percent of
the picture's shorter side, so that the same video in another size has the same figure; a head that moves through the
picture counts, as "on the original image" says, and so does the camera. Its pairs of frames lie about an eighth of a
second apart, and what they move is brought to an eighth in proportion, so that videos of any pace and length compare;
where frames are too sparse for that it is not computed (`over_time.py`).

What to be near to is the figure of real clips, which can be evaluated beside as a system of their own.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import (
    FACES,
    NO_FACE,
    NO_PERSON,
    REFERENCES,
    MeanOverVideos,
    Metric,
    Score,
    VideoToScore,
    no_reference_face,
    not_computed,
)
from mmjax.evaluation.metrics.over_time import PACE, step_at, too_sparse
from mmjax.evaluation.observation import FacesSeen, Subject


def metrics() -> list[Metric]:
    """FM_ref and FM_inter."""
    return [FaceMotionToReference(), FaceMotionInTime()]


@dataclasses.dataclass(frozen=True)
class FaceMotionToReference(MeanOverVideos):
    """Mean distance of five landmarks to the reference's, in sides of the face's box; `series` is that of each frame.

    It says how far pose and expression are from the reference's, the shape of the face included; it does not say
    whether they change. Neither side is better: 0 is a copy of the reference, and far from it is a face out of shape.
    The reference is the picture that the generator was given; where it is not known, or no face was found on it, the
    mean over the person's pictures of the distance to each.
    """

    name: str = "fm_ref"
    title: str = "FM_ref: distance of the face's landmarks to the reference's, sides of the face box"
    better: str = ""
    needs: frozenset[str] = frozenset({FACES, REFERENCES})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        if case.subject is None:
            return not_computed(NO_PERSON)
        references = _reference_landmarks(case.subject)
        if not len(references):
            return no_reference_face(case.subject)
        faces = case.observation.faces
        if not faces.found.any():
            return not_computed(NO_FACE)
        series = _distances(landmarks_in_box(faces)[:, None], references).mean(axis=1)
        return Score(float(np.nanmean(series)), series.tolist())


@dataclasses.dataclass(frozen=True)
class FaceMotionInTime(MeanOverVideos):
    """Mean distance that five landmarks move in an eighth of a second, in percent of the picture's shorter side.

    Each pair of frames counts by its own distance in time, `details["seconds"]` on average. Neither side is better: 0
    is a frozen face, and far above real clips is one that shakes.
    It says whether the face moves in the picture; it does not say whether head, face or camera does, nor whether the
    motion is a natural one: a detector's trembling is in it as well. `series` has a value for each frame that another
    one follows, NaN where one of the two has no face.
    """

    name: str = "fm_inter"
    title: str = "FM_inter: motion of the face's landmarks in 1/8 s, % of the picture's shorter side"
    better: str = ""
    needs: frozenset[str] = frozenset({FACES})
    version: int = 2

    def score(self, case: VideoToScore) -> Score:
        seen = case.observation
        if len(seen.seconds) < 2:
            return not_computed("one frame; motion needs a video of two frames or more")
        if why := too_sparse(seen.seconds):
            return not_computed(why)
        step = step_at(seen.seconds)
        if len(seen.seconds) <= step:
            return not_computed(f"{len(seen.seconds)} frames; motion needs a video of 1/8 s or more")
        landmarks, apart = seen.faces.landmarks, seen.seconds[step:] - seen.seconds[:-step]
        moved = 100 * _distances(landmarks[step:], landmarks[:-step]) / min(seen.size)
        series = np.where(apart > 0, moved / np.where(apart > 0, PACE * apart, 1), np.nan)
        if np.isnan(series).all():
            return not_computed("no two frames, about an eighth of a second apart, in both of which a face was found")
        return Score(float(np.nanmean(series)), series.tolist(), details={"seconds": float(apart.mean())})


def landmarks_in_box(faces: FacesSeen) -> Float[np.ndarray, "n 5 2"]:
    """Where the landmarks are in the face's box, 0 to 1 from its left to its right and from its top to its bottom."""
    corner, size = faces.boxes[:, None, :2], (faces.boxes[:, 2:] - faces.boxes[:, :2])[:, None]
    return (faces.landmarks - corner) / size


def _reference_landmarks(subject: Subject) -> Float[np.ndarray, "m 5 2"]:
    landmarks, found = landmarks_in_box(subject.faces), subject.faces.found
    if subject.given is not None and found[subject.given]:
        return landmarks[[subject.given]]
    return landmarks[found]


def _distances(a: Float[np.ndarray, "... 5 2"], b: Float[np.ndarray, "... 5 2"]) -> Float[np.ndarray, "..."]:
    """Mean over the landmarks of how far each is from its like."""
    return np.linalg.norm(a - b, axis=-1).mean(axis=-1)
