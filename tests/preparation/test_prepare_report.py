"""The report: bounded, the same in any order and in parts, and a page in which nobody's text is markup."""

import base64
import html.parser
import io
import json

import numpy as np
import pytest
from PIL import Image

from mmjax import prepare
from mmjax.errors import DataError
from mmjax.preparation.inputs.kinds import OTHER, Ignored
from mmjax.preparation.items import Dropped, Finding
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.reasons import REASONS
from mmjax.preparation.report.summary import (
    BINS,
    DROPPED_SHOWN,
    KEPT_SHOWN,
    PAIRS_SHOWN,
    SCORES,
    Summary,
    merge,
    report_of,
    write_report,
)
from mmjax.preparation.settings import Settings
from tests.helpers import made_samples

HOSTILE = "\"'><script>alert(1)</script>{{ 7 * 7 }}\udcff"
VERSIONS = {"python": "3.11", "jax": "0.10"}


def picture(seed, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def sample(key, **scores):
    return made_samples.sample(key, person="anna", caption=f"A man {HOSTILE}", scores=scores)


def still(key, seed=0):
    return made_samples.still(key, portrait=picture(seed, 64))


def pair(key, cosine, origin="other", other=None):
    return Pair(sample(key), (still(other or f"{key} other", 1),), origin, cosine, still(key))


def finding(number):
    key = f"{number}.jpg"
    if number % 3:
        return Finding(key, (sample(key, sharpness=number / 200, yaw=-20.0),), (), (), (picture(number),))
    reason = ("blurred", "unreadable")[number % 2]
    shown = picture(number) if reason == "blurred" else None
    return Finding(key, dropped=(Dropped(key, reason, "found " + HOSTILE, number / 400, shown),))


def summary_of(numbers):
    summary = Summary()
    for number in numbers:
        summary.add_finding(finding(number), "photos")
        if number % 3:
            summary.add_pairs([pair(f"{number}.jpg", number / 200)])
            summary.add_record("photos", "validation" if number % 10 == 0 else "train")
    return summary


def test_everything_is_counted():
    summary = summary_of(range(120))
    numbers = report_of(summary, Settings(), "command", 60.0, VERSIONS)
    counts = {"items": 120, "samples": 80, "stills": 0, "pairs": 80, "records": 80, "animated": 0, "dropped": 40}
    assert numbers["counts"] == counts
    assert numbers["items_per_second"] == 2.0 and numbers["dropped"] == {"blurred": 20, "unreadable": 20}
    assert numbers["origins"] == {"other": 80} and numbers["splits"] == {"train": 72, "validation": 8}
    assert numbers["collections"] == {"photos": {"items": 120, "samples": 80, "dropped": 40, "records": 80}}
    assert numbers["settings"]["min_cosine"] == 0.65 and numbers["versions"] == VERSIONS
    assert list(numbers["dropped"].values()) == sorted(numbers["dropped"].values(), reverse=True)


def test_histograms_hold_what_was_kept_and_dropped_each_in_its_bin():
    summary = Summary()
    scores = dict(sharpness=0.301, yaw=-89.9, face=10_000, confidence=float("nan"), unknown=3.0)
    summary.add_finding(Finding("a", (sample("a", **scores),)), "photos")
    for reason, value in (("blurred", 0.1), ("turned", -70.0), ("small_face", 30.0), ("small_face", 0.05)):
        summary.add_dropped(Dropped("b", reason, "", value), "photos")
    summary.add_dropped(Dropped("c", "unreadable", "", 7.0), "photos")
    found = {
        (name, side, bins.index(1))
        for name, sides in summary.histograms.items()
        for side, bins in sides.items()
        if sum(bins)
    }
    assert found == {
        ("sharpness", "kept", 15),
        ("yaw", "kept", BINS - 1),
        ("face", "kept", BINS - 1),
        ("sharpness", "dropped", 5),
        ("yaw", "dropped", 31),
        ("face", "dropped", 3),
        ("face_share", "dropped", 2),
    }


def test_scores_name_settings_and_reasons_that_exist():
    settings = vars(Settings())
    for score in SCORES.values():
        assert {score.least, score.most} - {""} <= settings.keys() and set(score.reasons) <= REASONS.keys()


def test_it_stays_small_and_is_the_same_in_any_order():
    forwards, backwards = summary_of(range(300)), summary_of(reversed(range(300)))
    assert forwards.as_json() == backwards.as_json()
    shown = {kind: len(rows) for kind, rows in forwards.pictures.items()}
    assert shown == {
        "kept": KEPT_SHOWN,
        "dropped blurred": DROPPED_SHOWN,
        "dropped unreadable": DROPPED_SHOWN,
        "pairs other": PAIRS_SHOWN,
        "pairs worst": PAIRS_SHOWN,
    }
    keys = [int(row["key"].removesuffix(".jpg")) for row in forwards.pictures["kept"]]
    assert max(keys) > 150 and min(keys) < 150, "of all the input, not of its beginning"
    worst = [row["value"] for row in forwards.pictures["pairs worst"]]
    assert worst == [number / 200 for number in range(300) if number % 3][:PAIRS_SHOWN]


@pytest.mark.parametrize(
    "parts", [(range(100), range(100, 300)), (range(0, 300, 2), range(1, 300, 2)), (range(300), ())]
)
def test_parts_merge_into_the_whole(parts):
    a, b = (Summary.from_json(json.loads(json.dumps(summary_of(part).as_json()))) for part in parts)
    before = a.as_json(), b.as_json()
    whole = summary_of(range(300)).as_json()
    assert merge(a, b).as_json() == whole == merge(b, a).as_json()
    assert (a.as_json(), b.as_json()) == before, "the parts are left alone"


def test_a_summary_of_another_version_is_refused():
    values = Summary().as_json()
    del values["origins"]
    with pytest.raises(DataError, match="expected counts.*found collections.*another version"):
        Summary.from_json(values)
    with pytest.raises(DataError, match="found list"):
        Summary.from_json([])


def test_two_samples_that_are_each_others_reference_are_shown_once():
    summary = Summary()
    summary.add_pairs([pair("a", 0.7, other="b"), pair("b", 0.7, other="a"), pair("c", 1.0, "self", other="c")])
    assert [row["key"] for row in summary.pictures["pairs worst"]] == ["a"]
    assert summary.counts["pairs"] == 3 and summary.origins == {"other": 2, "self": 1}


def test_pictures_are_only_made_for_what_is_shown():
    asked = []
    summary = Summary()
    summary.add_pairs(
        [pair(f"{number:04}", 0.9 + number / 10_000) for number in range(500)],
        picture=lambda each: asked.append(each.key) or each.portrait,
    )
    assert len(asked) < 2 * 150


class Reader(html.parser.HTMLParser):
    """Tags, texts and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.sources, self.open_ = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("img", "meta", "line", "br"):
            self.open_.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page(tmp_path):
    summary = summary_of(range(120))
    summary.add_finding(Finding(HOSTILE, dropped=(Dropped(HOSTILE, "unreadable", HOSTILE),)), HOSTILE)
    summary.add_pairs([pair(HOSTILE, 0.1, "shot"), pair("me", 1.0, "self")])
    write_report(tmp_path, summary, report_of(summary, Settings(), f"prepare {HOSTILE}", 10.0, VERSIONS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    return (tmp_path / "report.html").read_text(encoding="utf-8"), json.loads((tmp_path / "report.json").read_text())


def test_the_page_is_whole_and_needs_no_other_file(page):
    found = Reader(page[0])
    assert not found.open_ and "script" not in found.tags and "link" not in found.tags
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in found.sources)
    for source in found.sources:
        if source.startswith("data:"):
            with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
                assert max(image.size) <= 288
    assert len(page[0]) < 2_000_000


def test_nobodys_text_is_markup_or_template(page):
    text = " ".join(Reader(page[0]).texts)
    assert "<script>" not in page[0] and "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text and "\\udcff" in text


def test_the_page_tells_counts_reasons_and_thresholds(page):
    text = " ".join(" ".join(Reader(page[0]).texts).split())
    assert "80 records from 121 photos and videos" in text and REASONS["blurred"] in text
    assert "min_sharpness 0.3" in text and "max_yaw 60" in text and "items a second" in text
    assert "min_motion" not in text.partition("Settings and versions")[0], "no histogram of what was not measured"
    assert page[1]["counts"]["records"] == 80 and page[1]["histograms"]["cosine"]["thresholds"] == {"min_cosine": 0.65}


def test_a_run_that_found_nothing_has_a_page(tmp_path):
    write_report(tmp_path / "new", Summary(), report_of(Summary(), Settings(), "prepare", 0.0, {}))
    text = (tmp_path / "new" / "report.html").read_text()
    assert not Reader(text).open_ and "0 records from 0 photos" in text
    assert json.loads((tmp_path / "new" / "report.json").read_text())["items_per_second"] is None


def test_what_was_not_taken_is_told_on_the_page_in_the_numbers_and_last(tmp_path, capsys):
    ignored = [Ignored(".heic", 12, "HEIC, for which `pip install x` brings a reader"), Ignored(HOSTILE[:-1], 1, OTHER)]
    write_report(tmp_path, Summary(), report_of(Summary(), Settings(), "prepare", 0.0, {}, ignored))
    numbers, page = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "report.html").read_text()
    assert numbers["ignored"][0] == {"ending": ".heic", "count": 12, "reason": ignored[0].reason}
    text = " ".join(" ".join(Reader(page).texts).split())
    assert "What was not taken" in text and ".heic 12 HEIC, for which `pip install x`" in text
    assert "<script>" not in page and not Reader(page).open_
    prepare._print_summary(numbers, tmp_path)
    assert "  not taken 12 .heic: HEIC, for which" in capsys.readouterr().out
