"""Who is kept for validation: a split for every sample, so that nobody is in both."""

from collections import Counter
from collections.abc import Sequence

from mmjax.preparation.hashing import hash_of
from mmjax.preparation.items import Sample
from mmjax.preparation.pairing.duplicates import group_of
from mmjax.records.schema import SPLITS


def assign_splits(datasets: Sequence[Sequence[Sample]], share: float, seed: int = 0) -> dict[str, str]:
    """Split of each sample, by its key: nobody is in both, and none is empty in any data set if that can be had.

    A group (a person, or an item without one) is in the split that its hash says, alone or among others: two inputs
    with a person in common agree. Training asks for both splits, so where hashes leave one of a data set empty, its
    group with the fewest samples moves there, in all data sets. A single group is split by items and a single item by
    samples: the same person is then in both, which shows whether a model learns but not whether it carries over. A
    single sample is for training.

    Args:
      datasets: the samples of each.
      share: of the groups that are for validation, 0 to 1; at least one is.
    """
    named = [_units(samples) for samples in datasets]
    splits = {unit: split_of(unit, share, seed) for units in named for unit in units.values()}
    moved: set[str] = set()
    for units in named:
        counts = Counter(units.values())
        for split in SPLITS if len(counts) > 1 else ():
            if split not in {splits[unit] for unit in counts}:
                order = {each: (each in moved, count, hash_of(f"{seed}/{each}")) for each, count in counts.items()}
                unit = min(order, key=order.get)
                splits[unit] = split
                moved.add(unit)
        splits |= dict.fromkeys(counts, "train") if len(counts) == 1 else {}
    return {key: splits[unit] for units in named for key, unit in units.items()}


def _units(samples: Sequence[Sample]) -> dict[str, str]:
    """What decides the split of each sample, by its key: its group, or where all have one, its item or itself."""
    units: dict[str, str] = {}
    for name in (group_of, lambda sample: sample.item, lambda sample: sample.key):
        units = {sample.key: name(sample) for sample in samples}
        if len(set(units.values())) > 1:
            break
    return units


def split_of(group: str, share: float, seed: int = 0) -> str:
    """ "train", or "validation" for the `share` of all groups whose hash is lowest."""
    return "validation" if hash_of(f"{seed}/{group}") < share * 2**64 else "train"
