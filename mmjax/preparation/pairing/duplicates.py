"""Near-duplicates: the same photograph twice, resized, saved again or filed under two names.

Two pictures are near-duplicates when the difference hashes of their portraits differ in at most `HASH_BITS` of 64 bits
and their embeddings have a cosine of `DUPLICATE_COSINE` or more. The hash alone confuses portraits on plain
backgrounds, the embedding alone takes two photographs of one moment for one; together they ask for the same face in
the same surroundings.

Measured with w600k_mbf on 67 photographs of LFW and their versions (`MMJAX_MEASURE=1 pytest -s -k copies_are_found
tests/preparation/test_prepare_pairs.py`): found are all that were saved at quality 40, shrunk to 60 %, enlarged or
given more contrast, 97 % of those shrunk and saved again, 98.5 % of those 20 % brighter or black and white, but
only 10 % of those cut by a tenth so tightly that the portrait moves. Of 1,004 other photographs no two pass for one.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

from mmjax.preparation.items import Dropped, Sample, Still

HASH_BITS, DUPLICATE_COSINE = 8, 0.9
_BANDS = 6  # of a hash, one of which near ones must share


def group_of(thing: Sample | Still) -> str:
    """Who may be paired: the person where the input names one, else the item."""
    return f"item {thing.item}" if thing.person is None else f"person {thing.person}"


def difference_hash(portrait: UInt8[np.ndarray, "side side 3"]) -> int:
    """64 bits: whether each of 8 x 8 fields is brighter than its left neighbour (N. Krawetz, "Kind of like that")."""
    grey = Image.fromarray(portrait).convert("L").resize((9, 8), Image.Resampling.BOX)
    brighter = np.diff(np.asarray(grey, np.int16), axis=1) > 0
    return int.from_bytes(np.packbits(brighter).tobytes(), "big")


def near_duplicates(
    samples: Sequence[Sample],
    stills: Sequence[Still],
    hashes: UInt64[np.ndarray, " n"],
    units: Float[np.ndarray, "n width"],
    quality: Float[np.ndarray, " n"],
) -> tuple[list[Dropped], set[int]]:
    """What to drop of photos that are there several times.

    Of a group's near-duplicates the best photo stays; of those in several groups the one in the group whose first key
    comes first. A photo that is only ever a reference costs no sample its place.

    Args:
      samples, stills: of the whole input, in the order of their keys; a photo is a still whose key is its item.
      hashes, units, quality: of the stills: difference hashes, embeddings of length one, the higher the better.

    Returns:
      The samples dropped, and the numbers of stills that a better one of their own group makes superfluous.
    """
    keys, first = {sample.key for sample in samples}, {}
    photos = [number for number, still in enumerate(stills) if still.key == still.item]
    for number in photos:
        first.setdefault(group_of(stills[number]), stills[number].key)

    def rank(number: int) -> tuple:
        still = stills[number]
        return still.key not in keys, first[group_of(still)], -quality[number], still.key, number

    dropped, spare = [], set()
    kept = NearPictures(hashes, units)
    for number in sorted(photos, key=rank):
        still, better = stills[number], kept.near(number)
        if any(group_of(stills[other]) == group_of(still) for other in better):
            spare.add(number)
        if better and still.key in keys:
            dropped.append(_duplicate(still, stills[better[0]], float(units[number] @ units[better[0]])))
        elif number not in spare:
            kept.add(number)
    return dropped, spare


class NearPictures:
    """Pictures that were added one by one, and which of them are near-duplicates of another one.

    Only those are compared whose hashes agree in one of six bands of 10 or 11 bits, which saves comparing all with all.
    Five differing bits leave a band untouched and are always found.
    """

    def __init__(self, hashes: UInt64[np.ndarray, " n"], units: Float[np.ndarray, "n width"]):
        edges = np.linspace(0, 64, _BANDS + 1).astype(np.uint64)
        masks = (np.uint64(1) << np.diff(edges)) - np.uint64(1)
        self._hashes, self._units = hashes, units
        self._bands = (hashes[:, None] >> edges[:-1]) & masks
        self._added: dict[tuple[int, int], list[int]] = defaultdict(list)  # by number and value of a band

    def add(self, number: int) -> None:
        for band in enumerate(self._bands[number].tolist()):
            self._added[band].append(number)

    def near(self, number: int) -> list[int]:
        """Numbers of those added that are near-duplicates of this one, in order."""
        bands = enumerate(self._bands[number].tolist())
        rows = np.array(sorted({row for band in bands for row in self._added.get(band, ())}), int)
        rows = rows[np.bitwise_count(self._hashes[rows] ^ self._hashes[number]) <= HASH_BITS]
        return rows[self._units[rows] @ self._units[number] >= DUPLICATE_COSINE].tolist()


def _duplicate(still: Still, better: Still, cosine: float) -> Dropped:
    detail = f"expected a picture of its own, found nearly the same as {better.key} (cosine {cosine:.3f})"
    return Dropped(still.key, "duplicate", detail, cosine, still.portrait)
