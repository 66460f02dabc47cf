"""The people of an evaluation, made of what was seen on their pictures, and what is doubtful about these pictures."""

import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmjax.evaluation.inputs import ReferenceInput
from mmjax.evaluation.metrics.likeness import reference_embedding
from mmjax.evaluation.observation import FacesSeen, Subject
from mmjax.evaluation.store import Kept
from mmjax.faces.embeddings import cosine_similarity


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceSet:
    """A person's references: the files that could be read, what was seen on them, and what to know of them, in words.

    subject: None where no picture could be read.
    """

    subject: Subject | None
    paths: Sequence[Path]
    problems: Sequence[str]


def make_people(
    references: Sequence[ReferenceInput], seen: Sequence[Kept], searched: bool, fed_otherwise: Collection[str] = ()
) -> dict[str, ReferenceSet]:
    """People by name, of their pictures in order.

    Args:
      seen: of each reference.
      searched: whether a detector looked for faces.
      fed_otherwise: people of whom the generator was given another picture than these; of everybody else who has one
        picture it was that one.
    """
    people, listed = {}, Counter(each.person for each in references)
    single = {name for name, count in listed.items() if count == 1} - set(fed_otherwise)
    for name in dict.fromkeys(each.person for each in references):
        own = [(each, kept) for each, kept in zip(references, seen, strict=True) if each.person == name]
        problems = [f"{each.path}: {kept.problem}" for each, kept in own if kept.observation is None]
        own = [(each, kept.observation) for each, kept in own if kept.observation is not None]
        if not own:
            people[name] = ReferenceSet(None, (), problems)
            continue
        for each, found in own:
            count = int(found.faces.counts[0])
            if searched and count != 1:
                told = "no face was found" if not count else f"{count} faces; the largest is taken"
                problems.append(f"{each.path}: {told}")
        given = [number for number, (each, _) in enumerate(own) if each.given]
        subject = Subject(
            name,
            [os.fspath(each.path) for each, _ in own],
            [found.size for _, found in own],
            _joined([found.faces for _, found in own]),
            given[0] if len(given) == 1 else 0 if name in single else None,
            [found.strip[0] for _, found in own],
        )
        people[name] = ReferenceSet(subject, [each.path for each, _ in own], problems)
    return people


def strangers_among(people: Mapping[str, ReferenceSet], embedder: str) -> dict[str, list[str]]:
    """Pictures that look more like somebody else than like their own person, as sentences by person.

    Two names may be one person, or a folder may hold pictures of two; either spoils what is compared with it.
    """
    people = {name: each for name, each in people.items() if each.subject is not None}
    gallery = {name: reference_embedding(each.subject, embedder) for name, each in people.items()}
    gallery = {name: each for name, each in gallery.items() if each is not None}
    if len(gallery) < 2:
        return {}
    names, everybody, doubts = list(gallery), np.stack(list(gallery.values())), {}
    for name, person in people.items():
        embeddings = person.subject.faces.embeddings[embedder]
        known = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
        if len(known) < 2:
            continue
        for picture in known:
            rest = embeddings[known[known != picture]]
            own = float(cosine_similarity(embeddings[picture][None], rest).max())
            cosines = cosine_similarity(embeddings[picture][None], everybody)[0]
            cosines[names.index(name)] = -1
            if cosines.max() > own:
                other = names[int(cosines.argmax())]
                said = f"{person.subject.pictures[picture]} looks more like {other} ({cosines.max():.2f}) than like"
                doubts.setdefault(name, []).append(f"{said} any other picture of {name} ({own:.2f})")
    return doubts


def _joined(faces: Sequence[FacesSeen]) -> FacesSeen:
    fields = {
        field.name: np.concatenate([getattr(each, field.name) for each in faces])
        for field in dataclasses.fields(FacesSeen)
        if field.name != "embeddings"
    }
    embeddings = {name: np.concatenate([each.embeddings[name] for each in faces]) for name in faces[0].embeddings}
    return FacesSeen(**fields, embeddings=embeddings)
