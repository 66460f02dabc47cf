"""Near-duplicates: the same photograph twice, resized, saved again or filed under two names.

Two pictures are near-duplicates when the difference hashes of their portraits differ in at most `HASH_BITS` of 64 bits
and their embeddings have a cosine of `DUPLICATE_COSINE` or more. The hash alone confuses portraits on plain
backgrounds, the embedding alone takes two photographs of one moment for one; together they ask for the same face in
the same surroundings.

Measured with w600k_mbf on 67 photographs of LFW and their versions (`MMJAX_MEASURE=1 pytest -s -k copies_are_found
tests/test_prepare_pairs.py`): found are all that were saved at quality 40, shrunk to 60 %, enlarged or given more
contrast, 97 % of those shrunk and saved again, 98.5 % of those 20 % brighter or black and white, but only 10 % of
those cut by a tenth so tightly that the portrait moves. Of 1,004 different photographs no two are taken for one.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from PIL import Image

from mmjax.preparation.samples import Dropped, Sample, Still

HASH_BITS, DUPLICATE_COSINE = 8, 0.9
_BANDS = 6  # of a hash, one of which near ones must share
_ROWS = 1024  # hashes that are compared at once


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
      The samples dropped, and the numbers of stills that a better one of their own group stands in for.
    """
    photos = np.array([number for number, still in enumerate(stills) if still.key == still.item], int)
    links = defaultdict(set)
    for one, other in zip(*(photos[side] for side in near_hashes(hashes[photos])), strict=True):
        if units[one] @ units[other] >= DUPLICATE_COSINE:
            links[one].add(other)
            links[other].add(one)
    keys, groups = {sample.key for sample in samples}, {number: group_of(stills[number]) for number in links}
    first: dict[str, str] = {}
    for number in sorted(links):
        first.setdefault(groups[number], stills[number].key)
    dropped, spare, kept = [], set(), set()
    for number in sorted(
        links, key=lambda n: (stills[n].key not in keys, first[groups[n]], -quality[n], stills[n].key, n)
    ):
        better = links[number] & kept
        if any(groups[other] == groups[number] for other in better):
            spare.add(int(number))
        if better and stills[number].key in keys:
            instead = min(better)
            dropped.append(_duplicate(stills[number], stills[instead], float(units[number] @ units[instead])))
        elif number not in spare:
            kept.add(number)
    return dropped, spare


def near_hashes(hashes: UInt64[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (i, j) of hashes that differ in at most `HASH_BITS` bits and agree in one of six bands of 10 or 11 bits.

    Five differing bits leave a band untouched and are always found; the bands save comparing all with all.
    """
    found = {(one, other) for rows in _bands(hashes) for one, other in _near_in(hashes, rows)}
    pairs = np.array(sorted(found), int).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _bands(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the hashes that share a band, for each band and each of its values that is there twice."""
    edges = np.linspace(0, 64, _BANDS + 1).astype(np.uint64)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        values = (hashes >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.diff(values[order])) + 1
        yield from (rows for rows in np.split(order, starts) if len(rows) > 1)


def _near_in(hashes: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    rows = np.sort(rows)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        far = np.bitwise_count(hashes[block][:, None] ^ hashes[rows])
        ones, others = np.nonzero(far <= HASH_BITS)
        upper = block[ones] < rows[others]
        yield from zip(block[ones[upper]].tolist(), rows[others[upper]].tolist(), strict=True)


def _duplicate(still: Still, better: Still, cosine: float) -> Dropped:
    detail = f"expected a picture of its own, found nearly the same as {better.key} (cosine {cosine:.3f})"
    return Dropped(still.key, "duplicate", detail, cosine, still.portrait)
