"""People to test with: held-out drawn people, and people of the training split to fit a recogniser on."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import files, media
from mmjax.config import Experiment
from mmjax.encoders.interface import reference_side
from mmjax.synthetic import people, portraits
from mmjax.synthetic.drawing import draw
from mmjax.synthetic.fisherfaces import Fisherfaces, fit_fisherfaces

FIT_PEOPLE, PICTURES = 800, 12  # training people that the recogniser is fitted on; pictures of each person
_GALLERY = 3  # a stream of random numbers apart from those of the records


@dataclasses.dataclass(frozen=True)
class Person:
    """One drawn person with real pictures of them."""

    number: int
    name: str
    class_word: str
    caption: str  # a prompt for a video of them, with class word and trigger
    references: list[Image.Image]  # portraits that the face encoder accepts
    frames: UInt8[np.ndarray, "n h w 3"]  # scenes of all kinds, to know them by
    boxes: Float[np.ndarray, "n 4"]
    landmarks: Float[np.ndarray, "n 5 2"]


def held_out_people(config: Experiment, count: int | None = None, frames: int = 16) -> list[Person]:
    """People whom training never saw, the first `count` of `data.held_out_people`, with `frames` pictures each."""
    count = config.data.held_out_people if count is None else count
    return [_person(config, people.person_number("validation", index), frames) for index in range(count)]


def training_people(config: Experiment, count: int | None = None, frames: int = 16) -> list[Person]:
    """People of the training split, the first `count` of `data.people`, with `frames` pictures each."""
    count = config.data.people if count is None else count
    return [_person(config, people.person_number("train", index), frames) for index in range(count)]


def fit_recogniser(config: Experiment) -> Fisherfaces:
    """Fisherfaces of `FIT_PEOPLE` people of the training split, drawn at the experiment's size."""
    people = training_people(config, FIT_PEOPLE, PICTURES)
    return fit_fisherfaces(
        np.concatenate([person.frames for person in people]), np.repeat(np.arange(len(people)), PICTURES)
    )


def write_people(config: Experiment, folder: Path, count: int | None = None) -> Path:
    """Writes held-out people for `mmjax.evaluate`: a portrait to make videos from and pictures to know them by.

    Returns the list of them, a CSV with each one's prompt and the seed that `mmjax.tiny` takes. Nothing is compared
    with the portrait, which is no scene.
    """
    rows = ["path,person,role,class_word,prompt,seed"]
    for seed, person in enumerate(held_out_people(config, count, PICTURES)):
        (folder / person.name).mkdir(parents=True, exist_ok=True)
        portraits.save_portrait(folder / person.name / "portrait.png", person.references[0])
        rows.append(f'{person.name}/portrait.png,{person.name},input,{person.class_word},"{person.caption}",{seed}')
        for number, frame in enumerate(person.frames):
            path = f"{person.name}/{number:02d}.png"
            media.write_png(folder / path, frame)
            rows.append(f"{path},{person.name},,,,")
    return files.write_text(folder / "people.csv", "\n".join(rows) + "\n")


def _person(config, number, frames) -> Person:
    identity, side = people.make_identity(number), reference_side(config)
    rng = np.random.default_rng([number, _GALLERY])
    looks, words = people.picture_looks(rng, frames)
    drawing = draw(np.repeat(identity[None], frames, 0), looks, config.data.height, config.data.width)
    return Person(
        number=number,
        name=people.person_name(number),
        class_word=people.class_word(identity),
        caption=people.caption(identity, words[0]),
        references=[portraits.draw_portrait(number, side, seed) for seed in range(config.data.references)],
        frames=drawing.pixels,
        boxes=drawing.boxes,
        landmarks=drawing.landmarks,
    )
