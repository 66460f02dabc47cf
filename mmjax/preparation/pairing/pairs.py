"""Who is whose reference: the pictures of the same person that every sample is paired with.

A sample is paired with stills of the same group, that is of the same person where the input names people, else of the
same item. A name is a claim, so the recogniser has the last word: a reference is kept only above
`settings.min_cosine` to the sample's embedding (METHOD 4), the mean direction of its own stills. References come from

  other  another photo or video,
  shot   the same video: another shot, or the same one at least 2 s before or after the sample's frames,
  self   the sample's own picture or frames, where `settings.self_reference` allows it,

in this order. A pair must not be a copy: an "other" that is a near-duplicate of the sample is none
(`mmjax.preparation.pairing.duplicates`). A sample has no self-reference beside others, from which a model would learn
to copy: where the others are fewer than a record's references, they are repeated.

Among the stills that will do, a sample draws at random, the better ones more often, so that the references of a
person's samples differ. What is random is hashed from the keys (`mmjax.preparation.hashing`): the same input gives the
same pairs, in any order and on any machine. NumPy and Pillow only.

Measured with w600k_mbf on 1,004 photographs of 300 people of LFW, each with another one of its person (`MMJAX_MEASURE=1
pytest -s -k real_people tests/preparation/test_prepare_pairs.py`): no pair is of two people, neither within LFW's names
nor with all 300 thrown into one group. How many get an "other" is another matter:

| min_cosine | 0.4 | 0.5 | 0.6 | 0.65 | 0.7 |
|---|---|---|---|---|---|
| samples with a reference of another photo | 98.9 % | 94.7 % | 74.8 % | 57.5 % | 39.3 % |

The paper's 0.65 is strict for a small recogniser; where other pictures are few, 0.5 loses little and was as safe.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from mmjax.faces.embeddings import mean_embedding, unit
from mmjax.preparation.hashing import hash_of, mixed
from mmjax.preparation.items import Dropped, Sample, Still
from mmjax.preparation.pairing.duplicates import DUPLICATE_COSINE, HASH_BITS, difference_hash, group_of, near_duplicates
from mmjax.preparation.settings import Settings

_APART = 2.0  # seconds between a sample and a reference of the same shot
_SHARP, _LARGE = 0.57, 112  # sharpness of a good photograph and pixels of a face that the aligned crop can use
_ROWS = 1024  # embeddings or cosines that are computed at once


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A sample and its references.

    stills: as many as a record has references; some repeat where there are too few.
    origin: "other", "shot" or "self"; of several that of the first, which is "other" if any is.
    cosine: the lowest between the sample's embedding and its references.
    own: the best of the sample's own stills, to show beside the references.
    """

    sample: Sample
    stills: tuple[Still, ...]
    origin: str
    cosine: float
    own: Still


def choose_pairs(
    samples: Sequence[Sample], stills: Sequence[Still], references: int, settings: Settings
) -> tuple[list[Pair], list[Dropped]]:
    """References for every sample, and the samples that get none.

    Args:
      samples: of the whole input; near-duplicates and a person's references are searched among all.
      stills: of the whole input, with embeddings. Portraits are only hashed and may have been shrunk to 32 pixels, and
        `aligned` is not read, so that a large input fits in memory.
      references: pictures that a record has, 1 or more.

    Returns:
      Pairs, and what was dropped as "duplicate", "other_person" (value: the best cosine) or "no_reference"; both in the
      order of their keys.
    """
    samples = sorted(samples, key=lambda sample: sample.key)
    table = _StillTable.of(sorted(stills, key=lambda still: (still.key, still.frame)), settings)
    dropped, spare = near_duplicates(samples, table.stills, table.hashes, table.units, table.quality)
    table.fit[list(spare)] = False
    gone, pairs = {each.key for each in dropped}, []
    for mine, rows in _groups([sample for sample in samples if sample.key not in gone], table.stills):
        for sample, cosines, own in _compared(mine, rows, table):
            found = _pair(sample, rows, cosines, own, table, references, settings)
            (pairs if isinstance(found, Pair) else dropped).append(found)
    return sorted(pairs, key=lambda pair: pair.sample.key), sorted(dropped, key=lambda each: each.key)


@dataclasses.dataclass(frozen=True, eq=False)
class _StillTable:
    """Stills, and what is asked of them, as arrays; a row is a still."""

    stills: list[Still]
    units: Float[np.ndarray, "n width"]
    hashes: UInt64[np.ndarray, " n"]
    quality: Float[np.ndarray, " n"]
    fit: Bool[np.ndarray, " n"]  # as a reference
    hashed: UInt64[np.ndarray, " n"]  # from their names
    places: Float[np.ndarray, "n 2"]  # number of the shot, seconds
    items: Int[np.ndarray, " n"]  # equal where the items are

    @classmethod
    def of(cls, stills: list[Still], settings: Settings) -> "_StillTable":
        width, items = len(stills[0].embedding) if stills else 0, {}
        units = np.zeros((len(stills), width), np.float32)
        for start in range(0, len(stills), _ROWS):  # unit() works in float64
            units[start : start + _ROWS] = unit([still.embedding for still in stills[start : start + _ROWS]])
        return cls(
            stills,
            units,
            np.array([difference_hash(still.portrait) for still in stills], np.uint64),
            np.array([_quality(still) for still in stills]),
            np.array([_fit(still, settings) for still in stills], bool),
            np.array([hash_of(f"{still.key} {still.frame}") for still in stills], np.uint64),
            np.array([(still.shot, still.time) for still in stills]).reshape(-1, 2),
            np.array([items.setdefault(still.item, len(items)) for still in stills], int),
        )


def _quality(still: Still) -> float:
    """How good a reference is, 0 to 1: as sharp as photographs are, from the front, as large as the aligned crop."""
    scores = still.scores
    front = max(float(np.cos(np.radians(scores["yaw"]))), 0.0)
    return min(max(scores["sharpness"], 0) / _SHARP, 1.0) * front * min(scores["face"] / _LARGE, 1.0)


def _fit(still: Still, settings: Settings) -> bool:
    scores = still.scores
    return (
        still.role in ("reference", "both")
        and abs(scores["yaw"]) <= settings.reference_yaw
        and scores["sharpness"] >= settings.min_sharpness
        and scores["face"] >= settings.min_face
    )


def _groups(samples: list[Sample], stills: list[Still]) -> Iterator[tuple[list[Sample], Int[np.ndarray, " m"]]]:
    """Samples of each group, and the rows of its stills."""
    mine, rows = defaultdict(list), defaultdict(list)
    for sample in samples:
        mine[group_of(sample)].append(sample)
    for row, still in enumerate(stills):
        rows[group_of(still)].append(row)
    yield from ((group, np.array(rows[name], int)) for name, group in mine.items())


def _compared(
    samples: list[Sample], rows: np.ndarray, table: _StillTable
) -> Iterator[tuple[Sample, Float[np.ndarray, " m"], Int[np.ndarray, " o"]]]:
    """Each sample of a group with its cosines to the group's stills, and the rows of its own stills."""
    own = defaultdict(list)
    for row in rows.tolist():
        own[table.stills[row].key].append(row)
    units = table.units[rows]
    nobody = np.zeros(units.shape[1])
    for start in range(0, len(samples), _ROWS):
        block = samples[start : start + _ROWS]
        means = [mean_embedding(table.units[own[sample.key]]) if own[sample.key] else nobody for sample in block]
        cosines = np.stack(means).astype(np.float32) @ units.T
        for sample, line in zip(block, cosines, strict=True):
            yield sample, line, np.array(own[sample.key], int)


def _pair(
    sample: Sample,
    rows: Int[np.ndarray, " m"],
    cosines: Float[np.ndarray, " m"],
    own: Int[np.ndarray, " o"],
    table: _StillTable,
    references: int,
    settings: Settings,
) -> Pair | Dropped:
    if not len(own):
        return Dropped(sample.key, "no_reference", "expected a still of its own to compare with, found none")
    other, shot = _candidates(sample, rows, own, table)
    near = cosines > settings.min_cosine
    drawn: list[int] = []
    for candidates in (other & near, shot & near):
        drawn += _draw(sample, np.flatnonzero(candidates), rows, table)[: references - len(drawn)]
    origin = "" if not drawn else "other" if other[drawn[0]] else "shot"
    if not drawn and _self_allowed(sample, settings):
        mine = near & np.isin(rows, own) & table.fit[rows]
        drawn, origin = _draw(sample, np.flatnonzero(mine), rows, table)[:references], "self"
    best = table.stills[max(own, key=lambda row: table.quality[row])]
    if drawn:
        drawn = [drawn[number % len(drawn)] for number in range(references)]
        found = tuple(table.stills[rows[each]] for each in drawn)
        return Pair(sample, found, origin, float(min(cosines[drawn])), best)
    return _unpaired(sample, cosines[other | shot], best, settings)


def _candidates(
    sample: Sample, rows: np.ndarray, own: np.ndarray, table: _StillTable
) -> tuple[Bool[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
    """Which of a group's stills may be the sample's references as "other", and which as "shot", whoever they show."""
    same = table.items[rows] == table.items[own[0]]
    shots, times = table.places[rows].T
    apart = (shots != sample.shot) | (times <= sample.times[0] - _APART) | (times >= sample.times[1] + _APART)
    other, shot = table.fit[rows] & ~same, table.fit[rows] & same & apart & ~np.isin(rows, own)
    other[other] = ~_copies(rows[other], own, table)
    return other, shot


def _copies(rows: np.ndarray, own: np.ndarray, table: _StillTable) -> Bool[np.ndarray, " m"]:
    """Which stills are near-duplicates of one of the sample's own."""
    near = np.bitwise_count(table.hashes[rows][:, None] ^ table.hashes[own]) <= HASH_BITS
    if not near.any():
        return np.zeros(len(rows), bool)
    return (near & (table.units[rows] @ table.units[own].T >= DUPLICATE_COSINE)).any(1)


def _draw(sample: Sample, chosen: np.ndarray, rows: np.ndarray, table: _StillTable) -> list[int]:
    """Candidates in the order of a draw without replacement, with chances in proportion to quality squared.

    The key of P. Efraimidis and P. Spirakis (2006), -log(u) / weight, with u a hash of sample and still.
    """
    hashed = mixed(table.hashed[rows[chosen]] ^ np.uint64(hash_of(sample.key)))
    uniform = (hashed.astype(np.float64) + 0.5) / 2**64
    return chosen[np.argsort(-np.log(uniform) / np.maximum(table.quality[rows[chosen]] ** 2, 1e-6))].tolist()


def _self_allowed(sample: Sample, settings: Settings) -> bool:
    kind = "photos" if sample.key == sample.item else "clips"
    return settings.self_reference in ("always", kind)


def _unpaired(sample: Sample, cosines: np.ndarray, own: Still, settings: Settings) -> Dropped:
    if len(cosines):
        best = float(cosines.max())
        detail = f"expected a reference with a cosine above {settings.min_cosine}, found {best:.3f} at best"
        return Dropped(sample.key, "other_person", detail, best, own.portrait)
    wanted = "a reference that is sharp, large and from the front"
    detail = f"expected {wanted}, found none; settings.self_reference = {settings.self_reference}"
    return Dropped(sample.key, "no_reference", detail, None, own.portrait)
