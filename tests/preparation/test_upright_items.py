"""Photos and clips that do not stand upright are turned, their pixels again when they are read, and it is reported."""

import dataclasses

import numpy as np
import pytest

from mmjax import media
from mmjax.faces.upright import turned
from mmjax.preparation.analysis import item
from mmjax.preparation.analysis.chunks import ChunkFindings, read_findings, write_findings
from mmjax.preparation.analysis.faces import upright_faces
from mmjax.preparation.analysis.windows import Window
from mmjax.preparation.items import Finding, Item, Turned
from mmjax.preparation.report.summary import Summary, merge, report_of, write_report
from mmjax.preparation.settings import Settings
from mmjax.preparation.writing.pixels import read_sample
from tests.helpers import face_pictures as fp
from tests.helpers import made_samples, real_clips
from tests.helpers import prepared_input as pi


@pytest.fixture(autouse=True)
def analysing(monkeypatch):
    """`analyse` with the real detector, for records of 32 x 32 at 8 frames a second."""
    settings = dataclasses.replace(pi.SETTINGS, min_motion=0.0)
    spec = item.AnalysisSpec(settings, str(fp.PACK), 32, 32, 8.0, True, 9, 32)
    monkeypatch.setattr(item, "_tools", item._Tools(spec, fp.tools().detect, None))


def photo(path, turns):
    media.write_png(path, turned(fp.astronaut(), turns))
    return Item(path.name, "photo", str(path), "photos")


def clip(path, turns):
    portrait = fp.astronaut()[:400, 60:460]
    frames = np.stack([turned(np.roll(portrait, shift, 1), turns) for shift in range(9)])
    media.write_video(path, frames, 8)
    return Item(path.name, "video", str(path), "films")


@fp.needs_pack
@pytest.mark.parametrize(
    "turns, way", [(1, "by 90 degrees to the right"), (2, "by 180"), (3, "by 90 degrees to the l")]
)
def test_a_photo_is_used_as_if_it_were_upright(tmp_path, turns, way):
    upright, lying = photo(tmp_path / "a.png", 0), photo(tmp_path / "b.png", turns)
    wanted, found = item.analyse(upright), item.analyse(lying)
    assert wanted.turned == () and wanted.samples[0].turns == 0
    (said,), (sample,) = found.turned, found.samples
    assert said.key == "b.png" and f"was turned {way}" in said.detail and sample.turns == -turns % 4
    np.testing.assert_array_equal(sample.boxes, wanted.samples[0].boxes)
    np.testing.assert_array_equal(found.stills[0].portrait, wanted.stills[0].portrait)
    pixels, same = (read_sample(each).pixels for each in ((lying, sample), (upright, wanted.samples[0])))
    np.testing.assert_array_equal(pixels, same)


@fp.needs_pack
def test_what_is_only_a_reference_is_told_as_well(tmp_path):
    lying = photo(tmp_path / "b.png", 1)
    found = item.analyse(dataclasses.replace(lying, role="reference"))
    assert not found.samples and len(found.stills) == len(found.turned) == 1


@pytest.mark.slow
@fp.needs_pack
def test_a_clip_is_turned_as_a_whole(tmp_path):
    upright, lying = clip(tmp_path / "a.mp4", 0), clip(tmp_path / "b.mp4", 2)
    wanted, found = item.analyse(upright), item.analyse(lying)
    assert wanted.turned == () and [each.key for each in found.turned] == ["b.mp4#0"]
    (sample,) = found.samples
    assert sample.turns == 2 and np.abs(sample.boxes - wanted.samples[0].boxes).max() < 1
    pixels, same = (read_sample((each, of.samples[0])).pixels for each, of in ((lying, found), (upright, wanted)))
    assert np.abs(pixels.astype(int) - same).mean() < 3


def test_turns_are_kept_on_disk(tmp_path):
    one = dataclasses.replace(made_samples.sample("b.png"), turns=3)
    write_findings(tmp_path / "0.npz", ChunkFindings([one], [], Summary()))
    assert read_findings(tmp_path / "0.npz", portraits=True).samples[0].turns == 3


def test_the_report_shows_what_was_turned(tmp_path):
    parts = [Summary(), Summary()]
    for number, part in enumerate(parts):
        said = Turned(f"photo-{number}.jpg", f"was turned by {number}", np.full((9, 9, 3), 99, np.uint8))
        part.add_finding(Finding(said.key, turned=(said,)), "photos")
    both = merge(*parts)
    write_report(tmp_path, both, report_of(both, Settings(), "prepare", 1.0, {}))
    page, numbers = (tmp_path / "report.html").read_text(), (tmp_path / "report.json").read_text()
    assert '"turned": 2' in numbers and "Not upright: 2" in page
    assert all(text in page for text in ("photo-0.jpg", "was turned by 1"))


@pytest.mark.measures
@fp.needs_faces
def test_clips_in_all_four_turns():
    """The first nine frames of every real clip; quoted in `mmjax.preparation.analysis.faces`."""
    right, once = [[], [], [], []], []
    for path in sorted(path for path in (fp.DATA / "videos").glob("*/*") if path.suffix in (".mp4", ".mpg")):
        frames = real_clips.frames_of(path.relative_to(fp.DATA / "videos"), 9)
        for turns in range(4):
            calls = []
            detect = lambda *args, calls=calls, **more: calls.append(1) or fp.tools().detect(*args, **more)  # noqa: E731
            given = Window(path.name, turned(frames, turns), tuple(range(9)), (0.0,) * 9, 0)
            window, _, said = upright_faces(given, "video", detect, 4)
            right[turns].append((window.turns + turns) % 4 == 0)
            if turns == 0:
                once.append(len(calls) <= 6)
            if not right[turns][-1]:
                print(f"wrong: {path.name} turned by {turns} quarters: {said}")
    print(f"{len(once)} clips, right in each of four turns: {[sum(each) for each in right]}; only tracked: {sum(once)}")
    assert np.mean(right) >= 0.98 and np.mean(right[0]) >= 0.98
