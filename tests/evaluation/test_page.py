"""The page: it holds everything, nothing of anybody's is markup, nothing is fetched, and it stays small."""

import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pytest

from mmjax.evaluation.page import charts
from mmjax.evaluation.page.report import MOST_BYTES, _cases, render, write_page
from mmjax.evaluation.page.script import SCRIPT
from mmjax.evaluation.success_rates import Threshold, success_rates
from mmjax.outputs import is_own
from tests.helpers.random_results import Plain, pictures, results, usual_metrics, video

HOSTILE = "\"'><script>alert(1)</script><img src=http://x onerror=alert(1)>{{ 7 * 7 }}\u202e\udcff"
VOID = {"meta", "img", "input", "br", "wbr"}


class Reader(html.parser.HTMLParser):
    """Tags that are not closed in order, attributes that load or run something, and the text of the page."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.scripts, self.sources, self.text = [], [], [], [], ""
        self.attributes = set()
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.attributes |= {name for name, _ in attributes}
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data

    def of(self, tag, **attributes):
        return [each for name, each in self.tags if name == tag and attributes.items() <= each.items()]


def read(made, shown=None):
    return Reader(render(made, pictures(made) if shown is None else shown))


def test_the_page_holds_every_video_with_its_pictures_and_scores():
    made = results(5)
    made["success_rates"] = success_rates(made, [Threshold("likeness", "identity/mbf", 0.8)])
    page = read(made)
    rows, cards = page.of("tr"), page.of("details", **{"class": "video"})
    assert len([each for each in rows if "data-system" in each]) == len(made["videos"]) == len(cards)
    assert [each["id"] for each in cards] == [f"v{number}" for number in range(len(cards))]
    strips = pictures(made)["strips"]
    assert len(page.of("img")) == sum(map(len, strips.values()))
    for each in made["videos"]:
        assert each["file"] in page.text and each["prompt"] in page.text
    for section in ("Figures", "Paired differences", "Success rates", "Own person and impostors", "Best and worst"):
        assert section in page.text
    assert "needs weights; give --inception FILE" in page.text and "mbf-0123456789abcdef" in page.text
    assert "nested.size" in page.text and made["versions"]["numpy"] in page.text
    assert page.text.index("Warning:") < page.text.index("Figures")
    identity = made["figures"]["ours"]["identity/mbf"]
    assert f"{identity['low']:.3f} to {identity['high']:.3f}" in page.text


def test_the_best_are_those_of_the_better_side():
    made = results(1)
    values = {}
    for number, each in enumerate(made["videos"]):
        for name in ("decay/dlib", "identity/dlib"):
            if each["scores"]:
                each["scores"][name]["value"] = (number - 8) / 10 if name == "decay/dlib" else number / 100
                values.setdefault(name, []).append(each["scores"][name]["value"])
    cases = {each["metric"]["name"]: each for each in _cases(made)}
    best = {name: [value for _, value in each["best"]] for name, each in cases.items()}
    worst = {name: [value for _, value in each["worst"]] for name, each in cases.items()}
    assert best["decay/dlib"] == sorted(values["decay/dlib"], key=abs)[:3]
    assert best["identity/dlib"] == sorted(values["identity/dlib"])[:-4:-1]
    assert abs(worst["decay/dlib"][0]) == max(map(abs, values["decay/dlib"]))
    assert worst["identity/dlib"][0] == min(values["identity/dlib"])


def test_links_lead_to_videos_and_no_resource_is_fetched():
    page = read(results(2))
    ids = {each["id"] for _, each in page.tags if "id" in each}
    for source in page.sources:
        assert source.startswith("data:image/jpeg;base64,") or source.removeprefix("#") in ids
    text = render(results(2), {})
    assert not re.findall(r"https?://|@import|url\((?!data:)", text)


def test_only_the_pages_own_script_runs():
    text = render(results(), {})
    page = Reader(text)
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    own = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert page.scripts == [SCRIPT] and f"script-src 'sha256-{own}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:")
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_nobodys_text_is_markup():
    metrics = [Plain(f"metric {HOSTILE}", HOSTILE), *usual_metrics()]
    made = results(
        1, systems=("ours", f"system {HOSTILE}"), people=3, metrics=metrics, name=(HOSTILE + "{}").format, text=HOSTILE
    )
    made["warnings"] = made["protocol"]["notes"] = [HOSTILE]
    made["settings"] = {HOSTILE: HOSTILE}
    made["command"] = made["notice"] = made["embedders"][0]["note"] = HOSTILE
    for each in made["people"]:
        each["problem"] = HOSTILE
    made["videos"][0]["problem"] = made["videos"][1]["scores"]["inception_score"]["why"] = HOSTILE
    page = read(json.loads(json.dumps(made)))
    assert page.scripts == [SCRIPT] and not [name for name in page.attributes if name.startswith("on")]
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in read(results(1)).tags}
    assert len(page.of("script")) == 1 and all(each["src"].startswith("data:") for each in page.of("img"))
    shown = HOSTILE.replace("\udcff", "\\udcff")
    assert page.text.count(shown) > 10 and "{{ 7 * 7 }}" in page.text


@pytest.mark.slow
def test_two_hundred_videos_stay_under_fifteen_megabytes():
    metrics = [*usual_metrics(), *(Plain(f"m{number}") for number in range(30))]
    made = results(systems=("a", "b", "c", "d", "e"), people=20, metrics=metrics)
    rng = np.random.default_rng(0)
    shown = {
        "strips": {each["key"]: [rng.bytes(15_000) for _ in range(16)] for each in made["videos"]},
        "references": {each["name"]: [rng.bytes(8_000) for _ in range(9)] for each in made["people"]},
    }
    text = render(made, shown)
    page = Reader(text)
    print(f"{len(text.encode()) / 1e6:.1f} MB, {len(page.of('img'))} frames")
    assert len(made["videos"]) == 200 and 0.6 * MOST_BYTES < len(text.encode()) <= MOST_BYTES < 15e6
    assert "Strips are cut to" in page.text


@pytest.mark.parametrize(
    "made",
    [
        results(people=0),
        results(systems=()),
        results(systems=("one",), people=1, prompts=1),
        results(metrics=[]),
        results(systems=list("abcde"), people=2, name="名前 وجه {} ".format, text="長い" * 150),
    ],
)
def test_little_nothing_and_much_make_a_page(made):
    page = read(made)
    assert len(page.of("details", **{"class": "video"})) == len(made["videos"])
    assert Reader(render(made, {})).of("h1")


def test_values_that_are_not_known_leave_gaps():
    made = results(systems=("a",), people=1, prompts=1)
    (row,) = made["videos"]
    for score in row["scores"].values():
        score.update(value=None, series=[None] * len(score["series"]), why="no face was found in any frame")
    row.update(person=None, seed=None, faces_found=0)
    made["figures"]["a"] = {name: each | {"value": None, "low": None} for name, each in made["figures"]["a"].items()}
    made["distributions"] = {"mbf": {"own": [], "impostor": [0.1]}, "dlib": {"own": [], "impostor": []}}
    page = read(made)
    assert "no face was found in any frame" in page.text and "similarity over time" not in page.text
    broken = [video("broken", looked=0, seconds=[], faces_found=0, problem="no frame could be decoded")]
    page = read(results(people=0) | {"videos": broken})
    assert "no frame could be decoded" in page.text


def test_a_path_has_gaps_and_dots():
    assert charts.path_of([0, 1, 2, 3, 4], [1, 2, None, 3, None]) == "M0.0 1.0L1.0 2.0M3.0 3.0h0"
    assert charts.path_of([0], [5]) == "M0.0 5.0h0" and charts.path_of([0, 1], [None, None]) == ""
    assert charts.sparkline([]) == charts.sparkline([0.5]) == charts.sparkline([None, None]) == ""
    assert len(re.findall("[ML]", charts.path_of(range(1000), range(1000)))) <= 160


def test_a_histogram_holds_every_cosine():
    chart = charts.histogram("mbf", [0.7, 0.8, None, 0.9], [-0.1, 0.0, 0.1, 0.2])
    assert chart["counts"] == {"own": 3, "impostor": 4}
    heights = {kind: [bar["height"] for bar in chart["bars"] if bar["kind"] == kind] for kind in ("own", "impostor")}
    assert len(heights["own"]) == 3 and len(heights["impostor"]) == 4 and max(heights["own"]) == charts.HEIGHT
    assert [each["mean"] for each in chart["means"]] == pytest.approx([0.8, 0.05])
    assert all(-1e-9 <= bar["x"] <= charts.WIDTH for bar in chart["bars"])
    values = [each["value"] for each in chart["ticks"]]
    assert values == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_the_page_is_written_from_results_read_back(tmp_path):
    made = results(4)
    write_page(tmp_path, json.loads(json.dumps(made)), pictures(made))
    assert is_own(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == render(made, pictures(made))
