"""Pictures of the page, within a bound of bytes: strips of videos, and what stands at several places, held once."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

MOST_REFERENCES = 6  # of a person that are shown
_STRIPS = (16, 12, 8, 6, 4, 3, 2, 1, 0)  # frames of a strip that are tried, until all fits
_CASE = 3  # frames of a best or worst case


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Base64 JPEGs.

    strips: by video key.
    cases: by video key, names in `shared`.
    references: by person, names in `shared`, with the index of each among the person's pictures.
    shared: what is in the style sheet once, by the name of its class.
    thinned: frames that the strips were cut to for the page to stay small; None where none was cut.
    """

    strips: Mapping[str, Sequence[str]]
    cases: Mapping[str, Sequence[str]]
    references: Mapping[str, Sequence[tuple[str, int]]]
    shared: Mapping[str, str]
    thinned: int | None

    @property
    def size(self) -> int:
        return sum(map(len, self.shared.values())) + sum(len(each) for strip in self.strips.values() for each in strip)


def gallery(results: Mapping, pictures: Mapping, cases: Sequence[str], room: int) -> Gallery:
    """The pictures that fit into `room` bytes; strips lose frames, evenly, where they are too many.

    Args:
      pictures: "strips" by video key and "references" by person, JPEG bytes.
      cases: keys of the videos that are shown as best or worst.
    """
    for most in _STRIPS:
        found = _with_strips_of(most, results, pictures, cases)
        if found.size <= room:
            return found
    return Gallery({}, {}, {}, {}, 0)


def _with_strips_of(most: int, results: Mapping, pictures: Mapping, cases: Sequence[str]) -> Gallery:
    shared: dict[str, str] = {}  # JPEG to the name of its class

    def share(jpeg: bytes) -> str:
        return shared.setdefault(_base64(jpeg), f"p{len(shared)}")

    strips, longest = {}, 0
    for video in results["videos"]:
        strip = pictures.get("strips", {}).get(video["key"], ())
        longest = max(longest, len(strip))
        strips[video["key"]] = [_base64(each) for each in _evenly(strip, most)]
    shown = {
        key: [share(each) for each in _evenly(pictures.get("strips", {}).get(key, ()), min(most, _CASE))]
        for key in dict.fromkeys(cases)
    }
    references = {}
    for person in results["people"]:
        own, given = pictures.get("references", {}).get(person["name"], ()), person["given"]
        order = sorted(range(len(own)), key=lambda number: number != given)[:MOST_REFERENCES]
        references[person["name"]] = [(share(own[number]), number) for number in order]
    names = {name: jpeg for jpeg, name in shared.items()}
    return Gallery(strips, shown, references, names, most if longest > most else None)


def _evenly(strip: Sequence[bytes], most: int) -> Sequence[bytes]:
    """At most so many, spread from the first to the last."""
    if len(strip) <= most:
        return strip
    return [strip[int(number)] for number in np.linspace(0, len(strip) - 1, most).round()] if most else []


def _base64(jpeg: bytes) -> str:
    return base64.b64encode(jpeg).decode()
