"""Tables of an evaluation, as Markdown and CSV, laid out like the paper's table 1: a system a row, a metric a column.

Everything here is made of `results` as they are in results.json, so that tables can be made again. What the page shows
as well (`summary`, `not_computed`, `warnings`, `protocol_line`) is computed here, once.
"""

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmjax.evaluation.intervals import FEW
from mmjax.evaluation.published import OTHERWISE, PUBLISHED, PUBLISHED_NOTE
from mmjax.files import write_text

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0", "": ""}
NOTHING = "–"
FEWEST_TO_TELL = 6  # people: if all of five are on one side, that is chance in 6 % of cases, and of six in 3 %
SUCCESS_NOTE = "Thresholds are mmjax's own; intervals are of 95 %, over people."
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&!$])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes text that begins like this for a formula


@dataclasses.dataclass(frozen=True)
class Cell:
    """A figure of a table. best: nothing else of its column is as good, and the paired differences tell so."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    note: str = ""  # why there is no interval, or no value


@dataclasses.dataclass(frozen=True)
class SystemRow:
    """A system of a table; `measured` is False for figures that a publication gives."""

    system: str
    videos: int | None
    cells: Sequence[Cell]  # one for each of `results["metrics"]`
    measured: bool = True


def write_tables(folder: str | os.PathLike, results: Mapping) -> None:
    """Writes `table.md` and `table.csv` of `results`."""
    write_text(Path(folder) / "table.md", markdown(results))
    write_text(Path(folder) / "table.csv", comma_separated(results))


def summary(results: Mapping) -> list[SystemRow]:
    """The rows of the first table: systems as they come, then what was published for the protocol."""
    videos = {system: 0 for system in results["figures"]}
    for video in results["videos"]:
        videos[video["system"]] = videos.get(video["system"], 0) + 1
    rows = [
        SystemRow(system, videos[system], [_cell(results, system, metric) for metric in results["metrics"]])
        for system in results["figures"]
    ]
    names = [metric["name"] for metric in results["metrics"]]
    for system, values in PUBLISHED.get(results["protocol"]["name"], {}).items():
        rows.append(SystemRow(system, None, [Cell(values.get(name)) for name in names], measured=False))
    return rows


def not_computed(results: Mapping) -> list[dict]:
    """What has no value: `why`, `metrics`, `systems` and `videos` (the most of one metric), the commonest first."""
    found: dict[str, dict] = {}
    for system, figures in results["figures"].items():
        for metric, figure in figures.items():
            for why, count in figure["not_computed"].items():
                counts = found.setdefault(why, {}).setdefault(metric, {})
                counts[system] = counts.get(system, 0) + count
    rows = [
        {
            "why": why,
            "metrics": ["all metrics"] if 1 < len(by_metric) == len(results["metrics"]) else list(by_metric),
            "systems": list(dict.fromkeys(system for counts in by_metric.values() for system in counts)),
            "videos": max(sum(counts.values()) for counts in by_metric.values()),
        }
        for why, by_metric in found.items()
    ]
    return sorted(rows, key=lambda row: -row["videos"])


def warnings(results: Mapping) -> list[str]:
    """What a reader must know first: of the results, and one for each embedder that is not independent."""
    dependent = [each for each in results["embedders"] if each["independent"] is False]
    return [*results["warnings"], *map(_dependent, dependent)]


def protocol_line(results: Mapping) -> str:
    """One line that names the protocol, its version and the embedders."""
    protocol = results["protocol"]
    known = {True: "independent", False: "not independent", None: "independence not known"}
    embedders = ", ".join(
        f"{each['name']} ({each['fingerprint']}; {known[each['independent']]})" for each in results["embedders"]
    )
    return f"Protocol {protocol['label']}; embedders: {embedders or 'none'}."


def notes(results: Mapping) -> list[str]:
    """How the figures are to be read, in a few sentences."""
    figures = [figure for each in results["figures"].values() for figure in each.values()]
    kinds = {figure["interval"] for figure in figures if figure["low"] is not None}
    lines = [f"Intervals are of 95 %: {', '.join(sorted(kinds))}."] if kinds else []
    without = {each["interval"] for each in figures if each["low"] is None and each["value"] is not None}
    lines += [f"No interval: {why.removeprefix('none: ')}." for why in sorted(without)]
    people = [figure["people"] for figure in figures if figure["people"] > 1]
    if people and min(people) < FEW:
        lines.append(f"Intervals over few people (here from {min(people)} on) are rough.")
    if len(results["figures"]) > 1:
        lines.append(
            "Bold: better than every other system, for the paired difference from each excludes zero, of "
            f"{FEWEST_TO_TELL} people or more. With many columns some differences exclude zero by chance: one in "
            "twenty where nothing differs."
        )
    if any(metric["better"] == "zero" for metric in results["metrics"]):
        lines.append("→ 0: the nearer to 0, which real clips have, the better.")
    if any(metric["better"] == "" for metric in results["metrics"]):
        lines.append("Without an arrow: neither side is better; be near to the value of real clips.")
    if any(not row.measured for row in summary(results)):
        lines.append(PUBLISHED_NOTE)
    return [*lines, *OTHERWISE.get(results["protocol"]["name"], ())]


def tells(difference: Mapping) -> bool:
    """Whether a paired difference excludes zero, over people enough to say so."""
    if difference["low"] is None or difference["people"] < FEWEST_TO_TELL:
        return False
    return difference["low"] > 0 or difference["high"] < 0


def decimals(values: Iterable[float | None]) -> int:
    """How many decimals the numbers of a column have: three as a rule, fewer for large and more for tiny ones."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if 0 < largest < 0.01:
        return min(2 - math.floor(math.log10(largest)), 9)
    return 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0


def number(value: float | None, places: int, sign: bool = False) -> str:
    """A figure as text; a dash for none."""
    return NOTHING if value is None else f"{value:{'+' if sign else ''},.{places}f}"


def markdown(results: Mapping) -> str:
    """`table.md`: warnings, the table, paired differences, success rates, and what was not computed."""
    count = len(results["videos"])
    parts = [
        f"# {count:,} video{'s' * (count != 1)} of {_listed(results['figures']) or 'no system'}",
        *(f"> **Warning:** {_text(each)}" for each in warnings(results)),
        _text(protocol_line(results)),
        *(_text(each) for each in results["protocol"]["notes"]),
        _summary_table(results),
        "\n".join(f"- {_text(each)}" for each in notes(results)),
        _differences_table(results),
        _success_table(results.get("success_rates", [])),
        _missing_table(results),
        "## Metrics\n\n" + "\n".join(f"- {_heading(each)}: {_text(each['title'])}" for each in results["metrics"]),
        _text(results["notice"]),
    ]
    return _whole("\n\n".join(part for part in parts if part) + "\n")


def for_a_terminal(results: Mapping) -> str:
    """Warnings, then a line for each metric that has a value, a column for each system."""
    rows = [row for row in summary(results) if row.measured]
    lines = [f"warning: {each}" for each in warnings(results)]
    wide = max([len(metric["name"]) for metric in results["metrics"]], default=0) + 4
    lines.append("".join([" " * wide, *(f"{row.system[:28]:30}" for row in rows)]).rstrip())
    left_out = 0
    for number, metric in enumerate(results["metrics"]):
        cells = [row.cells[number] for row in rows]
        if all(cell.value is None for cell in cells):
            left_out += 1
            continue
        places = decimals(value for cell in cells for value in (cell.value, cell.low, cell.high))
        shown = "".join(f"{_plain_cell(cell, places):30}" for cell in cells)
        name = f"{metric['name']} {ARROWS[metric['better']]}"
        lines.append(f"{name:{wide}}{shown}".rstrip())
    if left_out:
        lines.append(f"{left_out} metrics were not computed; report.html says why, and what to give")
    return "\n".join(lines)


def _plain_cell(cell: Cell, places: int) -> str:
    interval = "" if cell.low is None else f" [{number(cell.low, places)}, {number(cell.high, places)}]"
    return number(cell.value, places) + interval


def comma_separated(results: Mapping) -> str:
    """`table.csv`: the first table with the bounds of each interval in columns of their own."""
    names = [metric["name"] for metric in results["metrics"]]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    bounds = [f"{name}{bound}" for name in names for bound in ("", " low", " high")]
    about = {"protocol": protocol_line(results), "warnings": " ".join(warnings(results)), "notice": results["notice"]}
    writer.writerow(["system", "videos", *map(_plain, bounds), "measured", *about])
    for row in summary(results):
        cells = [value for cell in row.cells for value in (cell.value, cell.low, cell.high)]
        measured = "here" if row.measured else "published, not measured here"
        writer.writerow([_plain(row.system), row.videos, *cells, measured, *map(_plain, about.values())])
    return _whole(file.getvalue())


def _cell(results: Mapping, system: str, metric: Mapping) -> Cell:
    figure = results["figures"][system].get(metric["name"])
    if figure is None:
        return Cell(None, note="not among the figures")
    value, interval = figure["value"], figure["interval"]
    note = "; ".join(figure["not_computed"]) if value is None else interval if figure["low"] is None else ""
    return Cell(value, figure["low"], figure["high"], _is_best(results, system, metric), note)


def _is_best(results: Mapping, system: str, metric: Mapping) -> bool:
    """Whether a system differs from every other one for the better, with an interval that excludes zero."""
    sign = {"higher": 1, "lower": -1}.get(metric["better"], 0)
    others = {other for other in results["figures"] if other != system}
    beaten = set()
    for each in results["differences"]:
        if each["metric"] != metric["name"] or not tells(each):
            continue
        if each["a"] == system and sign * each["value"] > 0:
            beaten.add(each["b"])
        if each["b"] == system and sign * each["value"] < 0:
            beaten.add(each["a"])
    return bool(others) and others <= beaten


def _dependent(embedder: Mapping) -> str:
    note = f": {embedder['note']}" if embedder["note"] else ""
    return (
        f"the embedder {embedder['name']} conditioned or trained a model that is judged here{note}; its similarities "
        "flatter that model: look at another embedder's."
    )


def _summary_table(results: Mapping) -> str:
    rows = summary(results)
    if not results["metrics"]:
        return "No metric was asked for."
    places = [decimals(row.cells[column].value for row in rows) for column in range(len(results["metrics"]))]
    body = []
    for row in rows:
        name = _text(row.system) if row.measured else f"{_text(row.system)} (published, not measured here)"
        cells = [_cell_text(cell, each) for cell, each in zip(row.cells, places, strict=True)]
        body.append([name, number(row.videos, 0), *cells])
    return _table(["system", "videos", *map(_heading, results["metrics"])], body)


def _differences_table(results: Mapping) -> str:
    if not results["differences"]:
        return ""
    metrics, rows = results["metrics"], {}
    for each in results["differences"]:
        rows.setdefault((each["a"], each["b"]), {})[each["metric"]] = each
    places = [decimals(row.get(metric["name"], {}).get("value") for row in rows.values()) for metric in metrics]
    body = []
    for (a, b), row in rows.items():
        cells = [_difference_text(row.get(each["name"]), n) for each, n in zip(metrics, places, strict=True)]
        body.append([f"{_text(a)} − {_text(b)}", number(max(each["people"] for each in row.values()), 0), *cells])
    return (
        "## Paired differences\n\nOver videos of the same person and prompt; bold where the 95 % interval excludes "
        f"zero, of {FEWEST_TO_TELL} people or more.\n\n"
        + _table(["difference", "people", *map(_heading, metrics)], body)
    )


def _success_table(rows: Sequence[Mapping]) -> str:
    if not rows:
        return ""
    body = [
        [
            _text(row["system"]),
            _text(row["criterion"]) + (f" ({_text(row['rule'])})" if row["rule"] else ""),
            f"{row['passed']} of {row['videos']}",
            _cell_text(Cell(row["value"], row["low"], row["high"]), 3),
            number(row["not_counted"] or None, 0),
        ]
        for row in rows
    ]
    head = ["system", "criterion", "videos", "rate", "not counted"]
    return f"## Success rates\n\n{SUCCESS_NOTE}\n\n{_table(head, body, numbers=False)}"


def _missing_table(results: Mapping) -> str:
    missing = [
        [_listed(row["metrics"]), _listed(row["systems"]), str(row["videos"]), _text(row["why"])]
        for row in not_computed(results)
    ]
    parts = ["## Not computed"]
    parts.append(
        _table(["metrics", "systems", "videos", "why, and what to give"], missing, numbers=False)
        if missing
        else "Nothing."
    )
    troubles = [
        f"- {_text(each['file'])} ({_text(each['system'])}): {_text(each['problem'])}"
        for each in results["videos"]
        if each["problem"]
    ]
    troubles += [f"- {_text(each['name'])}: {_text(each['problem'])}" for each in results["people"] if each["problem"]]
    return "\n\n".join([*parts, *(["Videos and people with a problem:", "\n".join(troubles)] if troubles else [])])


def _cell_text(cell: Cell, places: int) -> str:
    value = number(cell.value, places)
    value = f"**{value}**" if cell.best else value
    return value if cell.low is None else f"{value} [{number(cell.low, places)}, {number(cell.high, places)}]"


def _difference_text(difference: Mapping | None, places: int) -> str:
    if difference is None or difference["value"] is None:
        return NOTHING
    value, low, high = (number(difference[each], places, sign=True) for each in ("value", "low", "high"))
    if difference["low"] is None:
        return value
    return f"{f'**{value}**' if tells(difference) else value} [{low}, {high}]"


def _heading(metric: Mapping) -> str:
    return f"{_text(metric['name'])} {ARROWS[metric['better']]}".rstrip()


def _table(head: Sequence[str], body: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of text, or of numbers from its second column on."""
    line = ["---:" if number and numbers else "---" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *body))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(_text, names))


def _text(text: str) -> str:
    """Anybody's text on one line, in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _plain(text: str) -> str:
    """Anybody's text in a spreadsheet, where it is no formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _whole(text: str) -> str:
    """Without the bytes of file names that are no Unicode."""
    return text.encode(errors="backslashreplace").decode()
