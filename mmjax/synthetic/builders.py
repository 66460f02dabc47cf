"""The builders whose names may stand in `data.sources`, for entry points to hand to `mmjax.records.sources`.

drawn_images   pictures of drawn people, one frame each
drawn_clips    short clips of drawn people
clip           windows of one real clip (`mmjax.records.clips`)
"""

from collections.abc import Iterator

from tqdm import tqdm

from mmjax.errors import ConfigError
from mmjax.records.builders import RecordBuilder
from mmjax.records.clips import ClipBuilder
from mmjax.synthetic import people, records
from mmjax.synthetic.drawing import DRAWING_VERSION


class _Drawn(RecordBuilder):
    """People who do not exist, drawn by `mmjax.synthetic.drawing`."""

    def _people(self, split: str) -> Iterator[int]:
        data = self.experiment.data
        count = data.people if split == "train" else data.held_out_people
        for index in tqdm(range(count), desc=f"drawing {self.name}, {split}", unit=" people", leave=False):
            yield people.person_number(split, index)

    def settings(self) -> dict:
        data = self.experiment.data
        return {"drawing": DRAWING_VERSION, "people": data.people, "held_out_people": data.held_out_people}


class DrawnImages(_Drawn):
    """Pictures of drawn people, one frame each, with portraits of the same person as reference."""

    def check(self):
        if self.frames != 1:
            raise ConfigError(
                f"data.frames = {self.frames}: expected 1 for the source drawn_images; clips are drawn_clips"
            )

    def settings(self) -> dict:
        return {**super().settings(), "pictures": self.experiment.data.pictures_per_person}

    def records(self, encoders, split):
        for number in self._people(split):
            yield from records.picture_records(
                self.experiment, encoders, number, self.experiment.data.pictures_per_person
            )


class DrawnClips(_Drawn):
    """Short clips of drawn people who turn, nod, talk and smile, with portraits of the same person as reference."""

    def settings(self) -> dict:
        return {**super().settings(), "clips": self.experiment.data.clips_per_person}

    def records(self, encoders, split):
        count = self.experiment.data.clips_per_person
        for number in self._people(split):
            yield from records.clip_records(self.experiment, encoders, number, count, self.frames)


BUILDERS: dict[str, type[RecordBuilder]] = {builder.name: builder for builder in (DrawnImages, DrawnClips, ClipBuilder)}
