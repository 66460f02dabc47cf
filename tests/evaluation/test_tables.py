"""Tables: what is bold, what stands above, and that nobody's name is markup or a formula."""

import copy
import csv
import io
import json
import re

import pytest

from mmjax.evaluation import tables
from mmjax.evaluation.statistics import differences, figures
from mmjax.evaluation.success_rates import Threshold, success_rates
from mmjax.outputs import is_own
from tests.helpers.random_results import Plain, results, scored

HOSTILE = "a|b\n# c `d` <script>*x*</script> [e](http://f) \udcff"


def made(values, better="higher", **fields):
    """Results of one metric: `values` by system, one video for each of several people."""
    metric = Plain("fm_inter", better=better)
    videos = [
        scored(f"{system}{person}", value, system, f"p{person}")
        for system, each in values.items()
        for person, value in enumerate(each)
    ]
    base = results(people=0, metrics=[metric])
    return (
        base
        | {"videos": videos, "figures": figures(videos, [metric]), "differences": differences(videos, [metric])}
        | fields
    )


def rows_of(text, head="| system | videos"):
    """The cells of a Markdown table by its first column."""
    lines = text[text.index(head) :].splitlines()
    lines = lines[: next((n for n, line in enumerate(lines) if not line), None)]
    return {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines[2:]}


def test_bold_is_what_differs_from_every_other():
    close, far = [0.5, 0.62, 0.7, 0.8, 0.6, 0.7], [0.2, 0.3, 0.4, 0.5, 0.4, 0.3]
    rows = rows_of(tables.markdown(made({"a": close, "b": far})))
    assert rows["a"][1].startswith("**0.653** [") and rows["b"][1].startswith("0.350 [")
    rows = rows_of(tables.markdown(made({"a": close, "b": far}, better="lower")))
    assert rows["b"][1].startswith("**") and not rows["a"][1].startswith("**")
    tied = made({"a": close, "b": far, "c": close[::-1]})
    assert "**" not in str(rows_of(tables.markdown(tied)))
    assert "**" not in str(rows_of(tables.markdown(made({"a": close}))))


@pytest.mark.parametrize("better, arrow", [("", "fm_inter |"), ("zero", "fm_inter → 0")])
def test_nothing_is_best_where_no_side_is(better, arrow):
    text = tables.markdown(made({"a": [0.5, 0.6, 0.7, 0.8, 0.6, 0.7], "b": [0.2] * 6}, better=better))
    assert "**" not in str(rows_of(text)) and arrow in text.replace("\\_", "_")
    assert ("real clips have, the better" in text) == (better == "zero")
    assert ("neither side is better" in text) == (better == "")


def test_few_people_and_one_value_of_everybody_tell_nothing():
    """Every one of five people is better, far beyond what they differ: by chance in one case of 16."""
    five = tables.markdown(made({"a": [0.8, 0.81, 0.79, 0.82, 0.8], "b": [0.1, 0.12, 0.1, 0.11, 0.13]}))
    six = tables.markdown(made({"a": [0.8, 0.81, 0.79, 0.82, 0.8, 0.8], "b": [0.1, 0.12, 0.1, 0.11, 0.13, 0.1]}))
    alike = tables.markdown(made({"a": [0.8] * 6, "b": [0.1] * 6}))
    for text, bold in ((five, False), (six, True), (alike, False)):
        assert ("**" in str(rows_of(text))) == bold and ("**" in str(rows_of(text, "| difference"))) == bold
    assert rows_of(alike, "| difference")["a − b"][1] == "+0.700" and "everybody has the same value" in alike


def test_differences_are_bold_where_they_exclude_zero():
    a, b, c = [0.5, 0.6, 0.7, 0.5, 0.6, 0.7], [0.3, 0.4, 0.52, 0.3, 0.4, 0.5], [0.8, 0.6, 0.4, 0.8, 0.6, 0.4]
    rows = rows_of(tables.markdown(made({"a": a, "b": b, "c": c})), "| difference")
    assert rows["a − b"][1].startswith("**+0.197** [+0.18") and rows["a − b"][0] == "6"
    assert rows["a − c"][1].startswith("+0.000 [")


def test_warnings_stand_above_the_table():
    text = tables.markdown(results())
    above = text[: text.index("| system |")]
    assert "embedder mbf conditioned or trained" in above and "one picture alone" in above
    assert "embedder dlib conditioned" not in text
    assert "Protocol magicmirror as published; embedders: dlib (dlib-0123456789abcdef; independent)" in above
    other = results()
    other["protocol"]["label"], other["embedders"][0]["independent"] = "magicmirror mended", None
    line = tables.protocol_line(other)
    assert "magicmirror mended" in line and "independence not known" in line


def test_what_is_published_is_said_not_to_be_measured():
    rows = rows_of(tables.markdown(results()))
    columns = [metric["name"] for metric in results()["metrics"]]
    published = rows["MagicMirror (published, not measured here)"][1:]
    assert (
        published[columns.index("identity/dlib")] == "0.922" and published[columns.index("inception_score")] == "10.59"
    )
    assert published[columns.index("identity/mbf")] == "–" and "**" not in str(published)
    other = results()
    other["protocol"]["name"] = "consisid"
    assert "published" not in str(rows_of(tables.markdown(other)))


def test_published_figures_of_another_unit_stand_in_a_note_alone():
    text = tables.markdown(results()).replace("\\_", "_")
    published = {name: cells[1:] for name, cells in rows_of(text).items() if "published" in name}
    assert len(published) == 3
    for column, metric in enumerate(results()["metrics"]):
        if metric["name"] not in ("identity/dlib", "inception_score"):
            assert {cells[column] for cells in published.values()} == {"–"}, metric["name"]
    (note,) = [line for line in text.splitlines() if "another unit or definition" in line]
    for figure in ("0.705", "0.240", "0.484", "0.002", "0.730", "0.610", "0.601", "0.181"):
        assert figure in note


def test_what_was_not_computed_has_its_reason():
    made_here = results(2)
    missing = tables.not_computed(made_here)
    whys = {row["why"]: row for row in missing}
    assert whys["needs weights; give --inception FILE"]["metrics"] == ["inception_score"]
    text = tables.markdown(made_here)
    assert "needs weights; give --inception FILE" in text[text.index("## Not computed") :]
    everything = results()
    for video in everything["videos"]:
        video.update(problem="no frame could be decoded", scores={})
    metrics = [Plain("a"), Plain("b")]
    everything |= {"figures": figures(everything["videos"], metrics), "metrics": everything["metrics"][:2]}
    (row,) = tables.not_computed(everything)
    assert row["metrics"] == ["all metrics"] and row["videos"] == 24 and row["systems"] == ["ours", "ConsisID"]


def test_nobodys_name_is_markup_or_a_formula():
    a = tables.markdown(results(name="p{}".format, systems=("ours", "other"), people=2))
    b = tables.markdown(results(name=(HOSTILE + "{}").format, systems=("ours", HOSTILE), people=2))
    assert a.count("\n") == b.count("\n") and not re.search(r"[^\\]<", b)
    assert "\\<script\\>\\*x\\*" in b and "\\udcff" in b
    formula = results(systems=("=1+1", "@x"))
    read = list(csv.DictReader(io.StringIO(tables.comma_separated(formula))))
    assert [row["system"] for row in read[:2]] == ["'=1+1", "'@x"]


def test_the_csv_holds_the_same_figures_whole():
    made_here = results()
    read = list(csv.DictReader(io.StringIO(tables.comma_separated(made_here))))
    figure = made_here["figures"]["ours"]["identity/mbf"]
    assert [float(read[0][f"identity/mbf{end}"]) for end in ("", " low", " high")] == [
        figure[key] for key in ("value", "low", "high")
    ]
    assert read[0]["inception_score"] == "" and read[0]["videos"] == "12" and read[0]["measured"] == "here"
    assert read[2]["measured"] == "published, not measured here"
    assert "embedder mbf" in read[0]["warnings"] and "magicmirror as published" in read[0]["protocol"]


def test_success_rates_have_a_table():
    made_here = results()
    made_here["success_rates"] = success_rates(made_here, [Threshold("likeness", "identity/dlib", 0.8)])
    text = tables.markdown(made_here)
    row = next(each for each in made_here["success_rates"] if each["rule"])
    assert (
        f"| ours | likeness (identity/dlib at least 0.8) | {row['passed']} of {row['videos']} | {row['value']:.3f} ["
        in text
    )


def test_tables_are_written_from_results_read_back(tmp_path):
    made_here = results(people=1)
    before = copy.deepcopy(made_here)
    tables.write_tables(tmp_path, json.loads(json.dumps(made_here)))
    assert made_here == before and is_own(tmp_path / "table.md") and is_own(tmp_path / "table.csv")
    assert (tmp_path / "table.md").read_text() == tables.markdown(made_here)
    assert "one person; an interval" in tables.markdown(made_here)


def test_little_or_nothing_has_a_table():
    for made_here in (results(people=0), results(metrics=[]), results(systems=()), results(people=1, systems=("a",))):
        assert tables.markdown(made_here).startswith("# ") and tables.comma_separated(made_here)


def test_columns_have_decimals_that_fit_their_numbers():
    columns = {(0.5, 0.01): 3, (10.59,): 2, (120.0, None): 1, (5000.0,): 0, (0.002, 0.0001): 5, (0.0,): 3, (): 3}
    assert {values: tables.decimals(values) for values in columns} == columns


def test_the_terminal_shows_what_has_a_value_a_line_each():
    made_here = results()
    shown = tables.for_a_terminal(made_here)
    figure = made_here["figures"]["ours"]["identity/mbf"]
    (line,) = [line for line in shown.splitlines() if line.startswith("identity/mbf")]
    assert line.count("[") == 2 and f"{figure['value']:.3f}" in line and "↑" in line
    assert "warning: " in shown and "inception_score" not in shown
    assert "metrics were not computed" in shown and max(map(len, shown.splitlines()[2:])) < 160
