"""`report.html`: everything that an evaluation found, on one page that works offline.

It is made of `results` as they are in results.json and of small pictures. Names, prompts and reasons are anybody's
text: Jinja2 escapes them, and the script of the page reads them as text alone.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from mmjax.evaluation import tables
from mmjax.evaluation.page import charts
from mmjax.evaluation.page.gallery import Gallery, gallery
from mmjax.evaluation.page.script import SCRIPT
from mmjax.evaluation.page.template import PAGE, STYLE
from mmjax.evaluation.statistics import score_of
from mmjax.files import write_text
from mmjax.page_style import STYLE as COMMON_STYLE
from mmjax.page_style import environment, policy

MOST_BYTES = 14_500_000  # of the page; strips lose frames beyond
_CASES = 3  # best and worst videos by a metric
_CHIPS = 3  # scores that stand in the heading of a video


def write_page(folder: str | os.PathLike, results: Mapping, pictures: Mapping) -> None:
    """Writes `report.html`; see `render`."""
    write_text(Path(folder) / "report.html", render(results, pictures))


def render(results: Mapping, pictures: Mapping) -> str:
    """The page.

    Args:
      results: of an evaluation, as in results.json.
      pictures: "strips" by video key and "references" by person, each a list of small JPEGs as bytes; what is missing
        is left out of the page. Above `MOST_BYTES` strips lose frames.
    """
    made = environment()
    made.filters["fixed"] = tables.number
    made.filters["breakable"] = lambda name: Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))
    template = made.from_string(PAGE)
    values = _values(results)
    cases = [video["key"] for each in values["cases"] for side in ("best", "worst") for video, _ in each[side]]

    def page(shown: Gallery) -> str:
        text = template.render(**values, gallery=shown)
        return text.encode(errors="backslashreplace").decode()  # bytes of file names that are no Unicode

    empty = page(Gallery({}, {}, {}, {}, None))
    return page(gallery(results, pictures, cases, MOST_BYTES - len(empty.encode())))


def _values(results: Mapping) -> dict:
    """What the template is given, but for the pictures."""
    shown = _shown_metrics(results)
    places = {each["name"]: tables.decimals(_values_of(results, each["name"])) for each in results["metrics"]}
    systems = list(dict.fromkeys([*results["figures"], *(video["system"] for video in results["videos"])]))
    people = list(dict.fromkeys(each["person"] for each in results["videos"] if each["person"] is not None))
    return {
        "style": Markup(COMMON_STYLE + STYLE),
        "script": Markup(SCRIPT),
        "policy": policy(SCRIPT),
        "results": results,
        "arrows": tables.ARROWS,
        "tells": tables.tells,
        "fewest": tables.FEWEST_TO_TELL,
        "success_note": tables.SUCCESS_NOTE,
        "warnings": tables.warnings(results),
        "protocol": tables.protocol_line(results),
        "notes": tables.notes(results),
        "missing": tables.not_computed(results),
        "success": results.get("success_rates", []),
        "systems": systems,
        "people": people,
        "system_number": {name: number for number, name in enumerate(systems)},
        "person_number": {name: number for number, name in enumerate(people)},
        "embedder_number": {each["name"]: number for number, each in enumerate(results["embedders"])},
        "given": {each["name"]: each["given"] for each in results["people"]},
        "rows": tables.summary(results),
        "lines": list(_summary_lines(results)),
        "differences": _difference_lines(results),
        "histograms": [
            charts.histogram(name, each["own"], each["impostor"])
            for name, each in results["distributions"].items()
            if each["own"] or each["impostor"]
        ],
        "shown": shown,
        "places": places,
        "videos": list(_videos(results, shown)),
        "cases": list(_cases(results)),
        "settings": list(_flat(results["settings"])),
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
        "foot": charts.FOOT,
        "track": charts.TRACK,
        "spark": (charts.SPARK_WIDTH, charts.SPARK_HEIGHT),
    }


def _shown_metrics(results: Mapping) -> list[Mapping]:
    """Those that any video has a value of: columns of the table of videos."""
    known = {
        name for video in results["videos"] for name, score in video["scores"].items() if score["value"] is not None
    }
    return [each for each in results["metrics"] if each["name"] in known]


def _values_of(results: Mapping, metric: str) -> list[float | None]:
    return [score_of(video, metric)["value"] for video in results["videos"]]


def _summary_lines(results: Mapping) -> Iterator[dict]:
    """A metric a line, a system a column: figure and interval, drawn on one scale for the metric."""
    rows = tables.summary(results)
    for column, metric in enumerate(results["metrics"]):
        cells = [row.cells[column] for row in rows]
        ends = charts.ends_of([value for cell in cells for value in (cell.value, cell.low, cell.high)])
        yield {
            "metric": metric,
            "places": tables.decimals(cell.value for cell in cells),
            "cells": [
                (cell, None if cell.value is None else charts.track(cell.value, cell.low, cell.high, ends))
                for cell in cells
            ],
        }


def _difference_lines(results: Mapping) -> dict:
    """A metric a line, two systems a column; only metrics of which there is a difference."""
    by_pair: dict[tuple[str, str], dict] = {}
    for each in results["differences"]:
        by_pair.setdefault((each["a"], each["b"]), {})[each["metric"]] = each
    lines = []
    for metric in results["metrics"]:
        found = [of.get(metric["name"]) for of in by_pair.values()]
        cells = [each if each and each["value"] is not None else None for each in found]
        if any(cells):
            lines.append((metric, tables.decimals(each["value"] for each in cells if each), cells))
    return {"pairs": list(by_pair), "lines": lines}


def _videos(results: Mapping, shown: Sequence[Mapping]) -> Iterator[dict]:
    """What is drawn of each video: similarity over time, a line for each score, and the scores of its heading."""
    impostors = {
        name: sum(each["impostor"]) / len(each["impostor"])
        for name, each in results["distributions"].items()
        if each["impostor"]
    }
    lines = [_similarity(video) for video in results["videos"]]
    scale = charts.scale_of([series for each in lines for series in each.values()], list(impostors.values()))
    for video, similarity in zip(results["videos"], lines, strict=True):
        scores = [(metric, score_of(video, metric["name"])) for metric in results["metrics"]]
        yield {
            "row": video,
            "chart": charts.time_chart(video["seconds"], similarity, impostors, scale) if similarity else None,
            "scores": [
                (metric, score, charts.sparkline(score["series"])) for metric, score in scores if video["scores"]
            ],
            "chips": [each for each in scores if each[1]["value"] is not None and each[0] in shown][:_CHIPS],
        }


def _similarity(video: Mapping) -> dict[str, Sequence[float | None]]:
    """By embedder, the cosine of each frame to the person; without lines that have no value or another length."""
    series = {
        name.removeprefix("identity/"): score["series"]
        for name, score in video["scores"].items()
        if name.startswith("identity/") and len(score["series"]) == len(video["seconds"])
    }
    return {name: each for name, each in series.items() if any(value is not None for value in each)}


def _cases(results: Mapping) -> Iterator[dict]:
    """Best and worst videos by each metric of which one side is better."""
    numbers = {video["key"]: number for number, video in enumerate(results["videos"])}
    for metric in results["metrics"]:
        scored = [(each, score_of(each, metric["name"])["value"]) for each in results["videos"]]
        scored = [(video, value) for video, value in scored if value is not None]
        if not metric["better"] or len({value for _, value in scored}) < 2:
            continue
        badness = {"higher": lambda value: -value, "lower": lambda value: value, "zero": abs}[metric["better"]]
        scored.sort(key=lambda each: (badness(each[1]), each[0]["key"]))
        count = min(_CASES, len(scored) // 2)
        yield {"metric": metric, "best": scored[:count], "worst": scored[-count:][::-1], "numbers": numbers}


def _flat(settings: Mapping, within: str = "") -> Iterator[tuple[str, object]]:
    """Settings and those within them, as `a.b`."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value
