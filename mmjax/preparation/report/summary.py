"""What a preparation reports: counts, histograms and pictures, gathered as it goes and written at the end.

A `Summary` stays small however large the input is: counts, histograms of fixed bins, and a few pictures of each kind,
chosen by a hash of their keys. So the same input gives the same report, whatever the order, and summaries of parts of
an input (chunks read back after a restart, other machines) merge into that of the whole.
"""

import base64
import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mmjax.errors import DataError
from mmjax.files import write_json, write_text
from mmjax.media import spread
from mmjax.preparation.hashing import hash_of
from mmjax.preparation.inputs.kinds import Ignored
from mmjax.preparation.items import Dropped, Finding, SampleFrames, Still
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.reasons import REASONS, Rejected
from mmjax.preparation.report.page import render
from mmjax.preparation.settings import Settings

BINS = 40
DROPPED_SHOWN, KEPT_SHOWN, PAIRS_SHOWN = 12, 24, 10  # pictures: of each reason; pairs: the worst and others, each
_SIDE, _QUALITY = 144, 82  # of a picture in the page: pixels of its longer side, JPEG's quality
_STRIP = 4  # frames of an animated clip
_COUNTED = "items", "samples", "stills", "pairs", "records", "animated", "dropped"  # of the report
_LONGEST = 300  # characters of a key or detail that are kept


@dataclasses.dataclass(frozen=True)
class Measure:
    """A score that has a histogram.

    high: right end of the histogram, which begins at `low`; what lies outside counts in the last bin on its side.
    least, most: settings that hold its thresholds.
    reasons: of dropped things whose value is this measure.
    """

    title: str
    low: float
    high: float
    least: str = ""
    most: str = ""
    reasons: tuple[str, ...] = ()


SCORES = {
    "confidence": Measure("the detector's confidence", 0, 1, "min_confidence", "", ("low_confidence",)),
    "face": Measure("longer side of the face, pixels", 0, 400, "min_face"),
    "face_share": Measure("face by the record's shorter side", 0, 1, "min_face_share"),
    "sharpness": Measure("sharpness of the face", 0, 0.8, "min_sharpness", "", ("blurred",)),
    "yaw": Measure("head turned, degrees", 0, 90, "", "max_yaw", ("turned",)),
    "motion": Measure("motion, percent of the height a second", 0, 60, "min_motion", "max_motion", ("still", "shaky")),
    "text": Measure("share of the picture that is text", 0, 0.2, "", "max_text", ("text",)),
    "cosine": Measure("cosine to the reference", 0, 1, "min_cosine", "", ("other_person",)),
}


class Summary:
    """What was found, dropped, paired and written so far; see the module. `as_json` and `from_json` lose nothing."""

    def __init__(self):
        self.counts = Counter()  # items, samples, stills, turned, pairs, records, animated, dropped
        self.reasons = Counter()
        self.collections: dict[str, Counter] = {}
        self.origins, self.splits = Counter(), Counter()
        self.histograms = {name: {"kept": [0] * BINS, "dropped": [0] * BINS} for name in SCORES}
        self.pictures: dict[str, list[dict]] = {}

    def add_finding(self, finding: Finding, collection: str) -> None:
        """What the analysis of one item gave; its `dropped` included."""
        self._count("items", collection)
        self.counts["stills"] += len(finding.stills)
        for number, sample in enumerate(finding.samples):
            self._count("samples", collection)
            for name, value in sample.scores.items():
                self._measure(name, "kept", value)
            if number < len(finding.pictures):
                self._show("kept", sample.key, lambda n=number: finding.pictures[n], text=sample.caption)
        for turned in finding.turned:
            self.counts["turned"] += 1
            self._show("turned", turned.key, lambda t=turned: t.picture, text=turned.detail)
        for dropped in finding.dropped:
            self.add_dropped(dropped, collection)

    def add_dropped(self, dropped: Dropped, collection: str) -> None:
        """An item or sample that was dropped, at whichever step."""
        self.reasons[dropped.reason] += 1
        self._count("dropped", collection)
        if dropped.value is not None and (name := _measured(dropped)):
            self._measure(name, "dropped", dropped.value)
        fields = {"value": _number(dropped.value), "text": dropped.detail}
        self._show(f"dropped {dropped.reason}", dropped.key, lambda: dropped.picture, **fields)

    def add_pairs(
        self,
        pairs: Sequence[Pair],
        picture: Callable[[Still], UInt8[np.ndarray, "h w 3"]] = lambda still: still.portrait,
    ) -> None:
        """Samples with their references. `picture` is asked for the few that are shown, the worst and others."""
        for pair in pairs:
            self.counts["pairs"] += 1
            self.origins[pair.origin] += 1
            if pair.origin != "self":  # which is 1 for a photo, and says nothing
                self._measure("cosine", "kept", pair.cosine)
            fields = {"value": _number(pair.cosine), "text": pair.origin, "other": pair.stills[0].key}
            both = lambda pair=pair: _beside(picture(pair.own), picture(pair.stills[0]))  # noqa: E731
            self._show(f"pairs {pair.origin}", pair.sample.key, both, **fields)
            if pair.origin != "self":
                self._show("pairs worst", pair.sample.key, both, order=pair.cosine, **fields)

    def watched(
        self, pairs: Sequence[Pair], frames: Iterable[SampleFrames | Rejected]
    ) -> Iterator[SampleFrames | Rejected]:
        """The frames of pairs, one after the other; of some clips that are drawn from photos, pictures are kept."""
        for pair, found in zip(pairs, frames, strict=True):
            if pair.sample.animation and not isinstance(found, Rejected):
                strip = lambda found=found: np.hstack(found.pixels[spread(_STRIP, len(found.pixels))])  # noqa: E731
                self._show("animated", pair.sample.key, strip, text="")
            yield found

    def add_record(self, collection: str, split: str, animated: bool = False) -> None:
        """A record that was written; `animated` ones are drawn from photos."""
        self._count("records", collection)
        self.counts["animated"] += animated
        self.splits[split] += 1

    def as_json(self) -> dict:
        """Plain JSON values; about 5 kB a picture."""
        return json.loads(json.dumps(vars(self)))

    @classmethod
    def from_json(cls, values: dict) -> "Summary":
        """Raises `DataError` for what `as_json` did not write."""
        summary = cls()
        if not isinstance(values, dict) or values.keys() != vars(summary).keys():
            found = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
            raise DataError(
                f"summary of a preparation: expected {', '.join(vars(summary))}, found {found}; it was written by "
                "another version of mmjax: prepare into a new folder"
            )
        for name in ("counts", "reasons", "origins", "splits"):
            getattr(summary, name).update(values[name])
        summary.collections = {name: Counter(counts) for name, counts in values["collections"].items()}
        summary.histograms |= values["histograms"]
        summary.pictures = values["pictures"]
        return summary

    def _count(self, what: str, collection: str) -> None:
        self.counts[what] += 1
        self.collections.setdefault(collection, Counter())[what] += 1

    def _measure(self, name: str, side: str, value: float) -> None:
        if name in SCORES and np.isfinite(value):
            score = SCORES[name]
            place = (abs(value) - score.low) / (score.high - score.low)
            self.histograms[name][side][min(max(int(place * BINS), 0), BINS - 1)] += 1

    def _show(self, kind: str, key: str, picture: Callable, order: float | None = None, **fields) -> None:
        """Keeps a picture if it is among those of its kind that come first, by hash or by `order`."""
        most = _most(kind)
        shown, order = self.pictures.setdefault(kind, []), hash_of(key) if order is None else _number(order)
        if len(shown) == most and (order, _text(key)) >= (shown[-1]["order"], shown[-1]["key"]):
            return
        row = {name: _text(value) if isinstance(value, str) else value for name, value in fields.items()}
        shown.append({"order": order, "key": _text(key), "jpeg": _jpeg(picture()), **row})
        _first(shown, most)


def merge(a: Summary, b: Summary) -> Summary:
    """The summary of both parts of an input."""
    merged = Summary.from_json(a.as_json())
    for name in ("counts", "reasons", "origins", "splits"):
        getattr(merged, name).update(getattr(b, name))
    for name, counts in b.collections.items():
        merged.collections.setdefault(name, Counter()).update(counts)
    for name, sides in merged.histograms.items():
        for side, bins in sides.items():
            sides[side] = [one + other for one, other in zip(bins, b.histograms[name][side], strict=True)]
    for kind, shown in b.pictures.items():
        joined = merged.pictures.setdefault(kind, [])
        joined += shown
        _first(joined, _most(kind))
    return merged


def write_report(folder: str | os.PathLike, summary: Summary, numbers: dict) -> None:
    """Writes `report.json`, all numbers, and `report.html`, one page with the pictures that needs no other file.

    Args:
      numbers: of `report_of`.
    """
    folder = Path(folder)
    write_json(folder / "report.json", numbers)
    write_text(folder / "report.html", render(numbers, summary.as_json()["pictures"], REASONS))


def report_of(
    summary: Summary,
    settings: Settings,
    command: str,
    seconds: float,
    versions: Mapping[str, str],
    ignored: Sequence[Ignored] = (),
) -> dict:
    """The numbers of a report as JSON values; reasons and collections with the most first.

    Args:
      command: the line that made it, as it can be run again.
      seconds: that the run took, for items a second.
      versions: of the packages, by name.
      ignored: files of the input that were not taken.
    """
    histograms = {}
    for name, sides in summary.histograms.items():
        score = SCORES[name]
        thresholds = {key: getattr(settings, key) for key in (score.least, score.most) if key}
        if any(map(any, sides.values())):
            histograms[name] = {"title": score.title, "low": score.low, "high": score.high, "thresholds": thresholds}
            histograms[name] |= sides
    return {
        "counts": {name: summary.counts[name] for name in _COUNTED},
        "items_per_second": round(summary.counts["items"] / seconds, 3) if seconds > 0 else None,
        "seconds": round(seconds, 1),
        "dropped": dict(summary.reasons.most_common()),
        "ignored": [dataclasses.asdict(each) | {"ending": _text(each.ending)} for each in ignored],
        "turned": summary.counts["turned"],
        "origins": dict(summary.origins.most_common()),
        "splits": dict(summary.splits),
        "collections": {_text(name): dict(counts) for name, counts in sorted(summary.collections.items())},
        "histograms": histograms,
        "settings": dataclasses.asdict(settings),
        "command": _text(command, 4000),
        "versions": dict(versions),
    }


def _measured(dropped: Dropped) -> str:
    """The score that a dropped thing's value is of; "" for values that have no histogram."""
    if dropped.reason == "small_face":  # in pixels, or a share of the picture
        return "face" if dropped.value > 1 else "face_share"
    return next((name for name, score in SCORES.items() if dropped.reason in score.reasons), "")


def _most(kind: str) -> int:
    return KEPT_SHOWN if kind == "kept" else PAIRS_SHOWN if kind.startswith("pairs") else DROPPED_SHOWN


def _first(shown: list[dict], most: int) -> None:
    """Leaves the first, in order; of two samples that are each other's reference one."""
    shown.sort(key=lambda each: (each["order"], each["key"]))
    seen: dict[frozenset, dict] = {}
    for each in shown:
        seen.setdefault(frozenset((each["key"], each.get("other"))), each)
    shown[:] = list(seen.values())[:most]


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two square portraits side by side."""
    return np.hstack([np.asarray(Image.fromarray(each).resize((_SIDE, _SIDE))) for each in (left, right)])


def _jpeg(picture: UInt8[np.ndarray, "h w 3"] | None) -> str:
    """In base64; "" of what never became a picture."""
    if picture is None:
        return ""
    image = Image.fromarray(picture)
    image.thumbnail((2 * _SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "jpeg", quality=_QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _text(text: str, longest: int = _LONGEST) -> str:
    """Short enough, and no bytes of file names that are no Unicode."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
