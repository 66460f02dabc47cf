"""Which videos an evaluation asks for: each person with each prompt and each seed."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmjax.errors import DataError
from mmjax.sampling.text_to_video import Request

PLACE = "{class_word}"
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclasses.dataclass(frozen=True)
class PersonToShow:
    """A person whose videos are made: the pictures that the model is given, and words of their own."""

    name: str
    references: Sequence[str | os.PathLike]
    class_word: str = ""  # "woman": takes the place of {class_word} in prompts
    prompt: str = ""  # in place of the others'
    seed: int | None = None  # in place of the others'


@dataclasses.dataclass(frozen=True)
class VideoToMake:
    """A request with whom it shows and where its video goes."""

    person: str
    request: Request
    path: Path


def videos_to_make(
    people: Sequence[PersonToShow], prompts: Sequence[str], seeds: Sequence[int], folder: Path
) -> list[VideoToMake]:
    """Each person with each prompt and each seed, at FOLDER/PERSON/PROMPT-SEED.mp4; prompts are numbered.

    Raises `DataError` where a person has no prompt, or a prompt asks for a class word that the person has not.
    """
    found, folders = [], _folders([person.name for person in people])
    for person in people:
        own = [person.prompt] if person.prompt else list(prompts)
        if not own:
            raise DataError(f"prompts: expected one for {person.name}, found none; give --prompts, or a column prompt")
        for number, prompt in enumerate(own):
            if PLACE in prompt and not person.class_word:
                raise DataError(
                    f"prompt {prompt!r}: expected a class word for {person.name}, found none; give the column "
                    "class_word in --people, or write man, woman, boy or girl"
                )
            prompt = prompt.replace(PLACE, person.class_word)
            for seed in seeds if person.seed is None else [person.seed]:
                path = folder / folders[person.name] / f"p{number:03d}-s{seed}.mp4"
                found.append(VideoToMake(person.name, Request(prompt, tuple(person.references), seed), path))
    return found


def _folders(names: Sequence[str]) -> dict[str, str]:
    """A name of a folder for each person, none twice."""
    found: dict[str, str] = {}
    for number, name in enumerate(dict.fromkeys(names)):
        plain = _UNSAFE.sub("_", name).strip("._")[:80] or "person"
        found[name] = plain if plain not in found.values() else f"{plain}-{number}"
    return found
