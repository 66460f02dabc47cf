"""Copy-paste: is a video nearer to the one picture that it was made from than a person is to a picture of their own?

A generator that pastes its reference looks like that picture, with its light, its age and its expression, rather than
like the person. Its cosine to the given picture then exceeds that to the person's other pictures by more than another
real picture of the person does. 0 is as in real pictures; above it, pasted.

By w600k_mbf three real clips have -0.02 to 0.07, and 0.12 to 0.18 with the face of the given picture laid over theirs
in every frame. Of 20 people of LFW another photo has -0.01 +- 0.06, the given one 0.39 +- 0.18
(`pytest -s tests/evaluation/test_face_distortions.py`). Single pictures scatter: compare means over people.
"""

import dataclasses

import numpy as np

from mmjax.evaluation.metrics.interface import NO_FACE, NO_PERSON, Score, VideoToScore, not_computed
from mmjax.evaluation.metrics.likeness import Likeness, known_embeddings
from mmjax.faces.embeddings import cosine_similarity, mean_embedding, unit


@dataclasses.dataclass(frozen=True)
class CopyPaste(Likeness):
    """(cosine to the given picture less the mean to the others), less what the person's other pictures have of it.

    Of a real picture the excess is its cosine to the given one less its mean to the remaining ones; the person's is the
    mean over all but the given one. It takes three pictures of the person. 0, that of real pictures, is best; below it
    the video avoids the picture that it was given, as one of another age or light does.
    """

    column, about = "copy_paste", "copy-paste index: nearer to the given picture than real ones are"

    better: str = "zero"

    def score(self, case: VideoToScore) -> Score:
        subject = case.subject
        if subject is None:
            return not_computed(NO_PERSON)
        if subject.given is None:
            return not_computed(
                "which picture the generator was given is not known; say so in a manifest of references (role given)"
            )
        pictures = subject.faces.embeddings[self.embedder]
        known = np.isfinite(pictures).all(axis=1)
        if not known[subject.given]:
            return not_computed("no face was found on the picture that the generator was given")
        others = np.flatnonzero(known & (np.arange(len(known)) != subject.given))
        if len(others) < 2:
            return not_computed(
                f"{subject.name} has {len(others)} other pictures with a face; give two more pictures of the person"
            )
        seen = known_embeddings(case.observation.faces, self.embedder)
        if not len(seen):
            return not_computed(NO_FACE)
        given, rest = pictures[subject.given], pictures[others]
        video = excess(mean_embedding(seen), given, rest)
        real = np.mean([excess(rest[each], given, np.delete(rest, each, axis=0)) for each in range(len(rest))])
        return Score(float(video - real), details={"video": video, "real": float(real)})


def excess(of: np.ndarray, given: np.ndarray, others: np.ndarray) -> float:
    """How much nearer an embedding is to the given one than, on average, to the others."""
    return float(unit(of) @ unit(given) - cosine_similarity(of[None], others).mean())
