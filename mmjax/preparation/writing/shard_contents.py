"""Which records go into which data set and shard.

Photos go into `images`, windows of videos into `clips`, and clips that are drawn from photos into `animated`, which is
apart from both, so that training can weigh it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from mmjax.config import Experiment
from mmjax.errors import ConfigError
from mmjax.preparation.items import Item, Sample
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.settings import Settings
from mmjax.records.schema import SPLITS

DATASETS = {"photo": "images", "video": "clips"}  # folder of the records that are made of each kind of item
ANIMATED = "animated"  # that of clips drawn from photos


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """Shard `number` of a split of a data set, and the pairs that it holds the records of."""

    dataset: str
    split: str
    number: int
    pairs: tuple[Pair, ...]


def frames_by_dataset(config: Experiment, settings: Settings) -> dict[str, int]:
    """Frames of the records of each data set that the experiment trains on. Raises `ConfigError`."""
    lengths = sorted(set(config.data.frames))
    clips = [frames for frames in lengths if frames > 1]
    if not lengths or len(clips) > 1:
        raise ConfigError(
            f"data.frames = {config.data.frames}: expected 1 for photos, one length of clips such as 49, or both; "
            "prepare another length into another folder"
        )
    if settings.animated_clips and not (1 in lengths and clips):
        raise ConfigError(
            f"settings.animated_clips = {settings.animated_clips}: expected data.frames with 1, for the photos, and a "
            f"length of clips, such as (1, 17), found {config.data.frames}"
        )
    found = {"images": 1} if 1 in lengths else {}
    found |= {"clips": clips[0]} if clips else {}
    return found | ({ANIMATED: clips[0]} if settings.animated_clips else {})


def pairs_by_dataset(
    pairs: Sequence[Pair], items: Mapping[str, Item], datasets: Sequence[str]
) -> dict[str, list[Pair]]:
    """Pairs of photos and videos for each of the data sets, in their order. `items` are the samples', by key."""
    parts: dict[str, list[Pair]] = {name: [] for name in datasets}
    for pair in pairs:
        parts[DATASETS[items[pair.sample.item].kind]].append(pair)
    return parts


def animated_pairs(photos: Sequence[Pair], each: int, frames: int, fps: float) -> list[Pair]:
    """Pairs of the clips that are drawn from photos, `each` of every one, with the references of the photo."""
    return [
        dataclasses.replace(pair, sample=_animation(pair.sample, number + 1, frames, fps))
        for pair in photos
        for number in range(each)
    ]


def _animation(photo: Sample, number: int, frames: int, fps: float) -> Sample:
    return dataclasses.replace(
        photo,
        key=f"{photo.key}#animated-{number}",
        frames=photo.frames * frames,
        times=(0.0, (frames - 1) / fps),
        animation=number,
    )


def divide_into_shards(
    parts: Mapping[str, Sequence[Pair]], splits: Mapping[str, str], settings: Settings
) -> list[Shard]:
    """Shards of all data sets, in an order that does not depend on how many processes write them.

    Args:
      parts: pairs of each data set.
      splits: "train" or "validation" for each sample, by key.
    """
    sizes = {"images": settings.shard_photos, "clips": settings.shard_clips, ANIMATED: settings.shard_clips}
    shards = []
    for name, pairs in parts.items():
        for split in SPLITS:
            part = [pair for pair in pairs if splits[pair.sample.key] == split]
            starts = range(0, len(part), sizes[name])
            shards += [Shard(name, split, n, tuple(part[at : at + sizes[name]])) for n, at in enumerate(starts)]
    return shards
