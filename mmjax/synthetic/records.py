"""Records of drawn people: their pictures and clips, each with portraits of the same person from another occasion."""

from collections.abc import Iterator

import numpy as np

from mmjax.config import Experiment
from mmjax.encoders.interface import reference_side
from mmjax.encoders.labels import label
from mmjax.records.making import EncoderSet, Footage, make_record
from mmjax.records.schema import Record
from mmjax.synthetic import people
from mmjax.synthetic.drawing import Drawing, draw
from mmjax.synthetic.people import Looks

_PICTURES, _CLIPS = 1, 2  # independent streams of random numbers for each person


def picture_records(config: Experiment, encoders: EncoderSet, number: int, count: int) -> Iterator[Record]:
    """`count` pictures (one-frame records) of person `number`."""
    rng = np.random.default_rng([number, _PICTURES])
    looks, words = people.picture_looks(rng, count)
    yield from _records(config, encoders, number, rng, looks, words, frames=1, source="drawn_images")


def clip_records(config: Experiment, encoders: EncoderSet, number: int, count: int, frames: int) -> Iterator[Record]:
    """`count` clips of `frames` frames of person `number`."""
    rng = np.random.default_rng([number, _CLIPS])
    clips = [people.clip_looks(rng, frames) for _ in range(count)]
    looks, words = Looks.concatenate([looks for looks, _ in clips]), [words for _, words in clips]
    yield from _records(config, encoders, number, rng, looks, words, frames=frames, source="drawn_clips")


def _records(config, encoders, number, rng, looks, words, *, frames, source):
    identity, side, references = people.make_identity(number), reference_side(config), config.data.references
    scenes = _draw(identity, looks, config.data.height, config.data.width)
    poses = _draw(identity, people.portrait_looks(rng, len(words) * references), side, side)
    for index, said in enumerate(words):
        shown = poses.pixels[index * references : (index + 1) * references]
        faces = encoders.face.encode([label(picture, identity) for picture in shown])
        part = slice(index * frames, (index + 1) * frames)
        footage = Footage(scenes.pixels[part], scenes.mask[part], scenes.boxes[part], scenes.landmarks[part])
        caption, person = people.caption(identity, said), people.person_name(number)
        yield make_record(encoders, footage, faces, caption=caption, person=person, source=source)


def _draw(identity, looks: Looks, height: int, width: int) -> Drawing:
    return draw(np.repeat(identity[None], len(looks), 0), looks, height, width)
