"""How alike the people in clips are to their references, in the eyes of one embedder. NumPy only.

    similarity = SimilarityToPeople(embedder, {"anna": pictures_of_anna, "ben": pictures_of_ben})
    print(similarity(["anna", "ben"], videos))

As METHOD 6 has it, a frame is compared with the mean embedding of the person's reference set, so that copying one
picture does not win. Frames in which the embedder finds no face say nothing of likeness, and are counted beside it:
read `own` and `no_face` together. A recogniser that conditions the model, or judges it in the identity loss, finds
clips more alike than they are: figures of such a one are tagged `identity_not_independent/...`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from mmjax import media
from mmjax.errors import DataError
from mmjax.evaluation.retrieval import retrieval
from mmjax.faces.embeddings import cosine_similarity, mean_embedding

FRAMES = 16  # of a clip that are looked at, spread evenly: detection takes most of the time
_HIGHER_IS_BETTER = {"own": True, "other": False, "retrieval": True, "no_face": False}


class Embedder(Protocol):
    """Who knows faces: `mmjax.encoders.recogniser` on photographs, `Fisherfaces` on drawings."""

    def embed(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Sequence[Float[np.ndarray, " width"] | None]:
        """An embedding of the face in each RGB frame, None where there is none."""


@dataclasses.dataclass(frozen=True)
class IdentitySimilarity:
    """Figures over clips. One that cannot be had is NaN: without a face in any frame, or without another person."""

    own: float  # mean cosine to the own person: over a clip's frames, then over clips
    other: float  # the same to all the other people
    retrieval: float  # share of clips whose own person is the nearest of all; a clip without a face is none of them
    no_face: float  # share of frames in which no face was found

    def __str__(self) -> str:
        return (
            f"cosine {self.own:.3f} to their own person, {self.other:.3f} to others; own person nearest in "
            f"{self.retrieval:.0%} of clips; no face in {self.no_face:.0%} of frames"
        )


class SimilarityToPeople:
    """Looks at clips of people whose references it has seen.

    Args:
      embedder: finds and recognises faces.
      references: pictures of people by name, those in the clips among them; the more others, the harder retrieval is.
      independent: whether the embedder has no part in the training.

    Raises:
      DataError: the embedder finds no face on the references of anybody.
    """

    def __init__(
        self, embedder: Embedder, references: Mapping[str, UInt8[np.ndarray, "n h w 3"]], independent: bool = True
    ):
        self._embedder, self.independent = embedder, independent
        self.name = "identity" if independent else "identity_not_independent"
        found = {person: _seen(embedder.embed(pictures)) for person, pictures in references.items()}
        self.gallery = {person: mean_embedding(seen) for person, seen in found.items() if len(seen)}
        self.unseen = tuple(person for person in references if person not in self.gallery)  # without a face
        if not self.gallery:
            raise DataError(
                f"identity: expected a face on a reference picture, found none on those of {len(references)} people; "
                "give another train.identity_embedder, or none"
            )

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Of each figure, by its tag."""
        return {f"{self.name}/{each}": higher for each, higher in _HIGHER_IS_BETTER.items()}

    def figures(self, found: IdentitySimilarity) -> dict[str, float]:
        """What was found, by the tags of `higher_is_better`."""
        return {f"{self.name}/{each}": value for each, value in dataclasses.asdict(found).items()}

    def __call__(self, people: Sequence[str], videos: UInt8[np.ndarray, "clips frames h w 3"]) -> IdentitySimilarity:
        """The figures of some clips.

        Args:
          people: who is in each clip, by name; who has no face on the references counts for `no_face` alone.
        """
        frames = [video[media.spread(FRAMES, len(video))] for video in videos]
        embedded = iter(self._embedder.embed(np.concatenate(frames)))
        seen = [_seen([next(embedded) for _ in each]) for each in frames]
        names, gallery = list(self.gallery), np.stack(list(self.gallery.values()))
        known = [(each, names.index(who)) for each, who in zip(seen, people, strict=True) if who in self.gallery]
        cosines = [(cosine_similarity(each, gallery).mean(axis=0), own) for each, own in known if len(each)]
        return IdentitySimilarity(
            own=_mean([row[own] for row, own in cosines]),
            other=_mean([np.delete(row, own).mean() for row, own in cosines]) if len(names) > 1 else float("nan"),
            retrieval=_retrieval(known, gallery),
            no_face=1 - sum(map(len, seen)) / sum(map(len, frames)),
        )


def _seen(embeddings: Sequence[Float[np.ndarray, " width"] | None]) -> Float[np.ndarray, "found width"]:
    """Those of the frames with a face."""
    found = [each for each in embeddings if each is not None]
    return np.stack(found) if found else np.zeros((0, 0))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _retrieval(known: Sequence[tuple[np.ndarray, int]], gallery: Float[np.ndarray, "people width"]) -> float:
    """Rank-1 rate of the clips' mean embeddings; NaN without a clip, or where there is nobody to confuse them with."""
    if not known or len(gallery) < 2:
        return float("nan")
    nobody = np.zeros(gallery.shape[1])  # as near to one person as to another
    probes = np.stack([mean_embedding(each) if len(each) else nobody for each, _ in known])
    return retrieval(probes, gallery, [own for _, own in known]).rate
