"""The steps of a preparation, each by itself: windows of a video, findings on disk, batches of records."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmjax import media
from mmjax.encoders.interface import FaceFeatures
from mmjax.encoders.pixel import Pixel
from mmjax.encoders.placeholders import WordTable
from mmjax.errors import ConfigError, DataError
from mmjax.preparation.analysis import item
from mmjax.preparation.analysis.chunks import ChunkFindings, StoredStills, read_findings, write_findings
from mmjax.preparation.analysis.embedding import with_embeddings, without_changes
from mmjax.preparation.framing import Framing
from mmjax.preparation.items import Dropped, Finding, Item, SampleFrames
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.report.summary import Summary
from mmjax.preparation.settings import Settings
from mmjax.preparation.writing import encoding
from mmjax.records.making import EncoderSet
from mmjax.records.schema import encode_record, record_fields
from mmjax.validation import validated_record
from tests.helpers import face_pictures as fp
from tests.helpers import made_samples
from tests.helpers import prepared_input as pi


@pytest.fixture
def analysing(monkeypatch):
    """`analyse` with the real detector, for records of 32 x 32 at 8 frames a second."""

    def start(**changes):
        spec = item.AnalysisSpec(pi.SETTINGS, str(fp.PACK), 32, 32, 8.0, True, 9, 32)
        tools = item._Tools(dataclasses.replace(spec, **changes), fp.tools().detect, None)
        monkeypatch.setattr(item, "_tools", tools)

    return start


def film(path, pictures, fps=24):
    """A video of whole pictures, each for as many frames as its number says."""
    frames = [picture for picture, count in pictures for _ in range(count)]
    media.write_video(path, np.stack(frames), fps)
    return Item("film.mp4", "video", str(path), "films")


def portrait(shift=0):
    return np.roll(fp.astronaut()[:400, 60:460], shift, 1)


@fp.needs_pack
def test_a_video_is_cut_into_windows_without_cuts(analysing, tmp_path):
    """24 frames a second, records of 8: 27 frames make one of nine; a shot of 20 frames makes none."""
    analysing(settings=dataclasses.replace(pi.SETTINGS, min_motion=0.0))
    grey = np.full((400, 400, 3), 128, np.uint8)
    found = item.analyse(film(tmp_path / "a.mp4", [(portrait(), 60), (grey, 20), (portrait(8), 30)]))
    assert [sample.key for sample in found.samples] == ["film.mp4#0", "film.mp4#27", "film.mp4#80"]
    assert found.samples[0].frames == tuple(range(0, 27, 3)) and found.samples[2].shot == 2
    assert [(each.key, each.reason) for each in found.dropped] == [("film.mp4#60", "too_short")]
    assert found.samples[1].times == pytest.approx((27 / 24, 51 / 24))
    assert {still.key for still in found.stills} == {sample.key for sample in found.samples}


@fp.needs_pack
def test_what_a_window_is_dropped_for(analysing, tmp_path):
    analysing()
    still = item.analyse(film(tmp_path / "still.mp4", [(portrait(), 27)]))
    assert [each.reason for each in still.dropped] == ["still"] and still.stills  # that may be references
    assert {each.key for each in still.stills} == {"film.mp4"}
    slow = item.analyse(film(tmp_path / "slow.mp4", [(portrait(2 * n), 1) for n in range(12)], fps=4))
    assert [each.reason for each in slow.dropped] == ["low_rate"] and not slow.samples
    slower = item.analyse(film(tmp_path / "slower.mp4", [(portrait(2 * n), 1) for n in range(12)], fps=6))
    assert [each.reason for each in slower.dropped] == ["low_rate"] and not slower.samples
    analysing(clip_frames=0)
    with pytest.raises(Rejected, match="no clips"):
        item.analyse(film(tmp_path / "b.mp4", [(portrait(), 27)]))


@fp.needs_pack
@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"min_face": 400}, "small_face"),
        ({"min_confidence": 1.0}, "low_confidence"),
        ({"min_sharpness": 1.0}, "blurred"),
        ({"max_yaw": 0.01}, "turned"),
        ({"max_upscale": 0.01}, "low_resolution"),
        ({"min_resolution": 1080}, "low_resolution"),
        ({"min_face_share": 1.0}, "small_face"),
        ({"max_text": 0.005}, "text"),
        ({"caption_template": ""}, "no_caption"),
        ({"class_word": ""}, "no_class_word"),
    ],
)
def test_what_a_photo_is_dropped_for(analysing, tmp_path, changes, reason):
    analysing(settings=dataclasses.replace(pi.SETTINGS, **changes))
    picture = Image.fromarray(fp.astronaut())
    write = ImageDraw.Draw(picture).text
    write((20, 460), "She has been to space", "white", ImageFont.load_default(36), stroke_width=2, stroke_fill="black")
    media.write_png(tmp_path / "a.png", np.asarray(picture))
    found = item.analyse(Item("a.png", "photo", str(tmp_path / "a.png"), "photos"))
    assert [each.reason for each in found.dropped] == [reason] and not found.samples
    assert found.dropped[0].picture.shape[2] == 3


@fp.needs_pack
def test_several_people_and_nobody(analysing, tmp_path):
    analysing()
    media.write_png(tmp_path / "six.png", fp.read(fp.SIX))
    media.write_png(tmp_path / "none.png", np.full((300, 300, 3), 90, np.uint8))
    reasons = [
        item.analyse(Item(name, "photo", str(tmp_path / name), "photos")).dropped[0].reason
        for name in ("six.png", "none.png")
    ]
    assert reasons == ["several_people", "no_face"]


@fp.needs_pack
def test_an_item_that_is_only_a_reference_gives_stills_alone(analysing, tmp_path):
    analysing()
    media.write_png(tmp_path / "a.png", fp.astronaut())
    found = item.analyse(Item("a.png", "photo", str(tmp_path / "a.png"), "photos", role="reference"))
    assert not found.samples and not found.dropped and len(found.stills) == 1


def sample(key, caption="A man img is here", frames=1):
    return made_samples.sample(
        key,
        collection="set",
        caption=caption,
        frames=tuple(range(frames)),
        framing=Framing(1.0, 2.0, 32.0, 32.0, 32, 32),
        boxes=np.full((frames, 4), [8, 8, 24, 24], np.float32),
        landmarks=np.tile(np.float32([[12, 14], [20, 14], [16, 18], [13, 21], [19, 21]]), (frames, 1, 1)),
        scores={"yaw": 3.0},
    )


def still(key, number, embedding=(1.0, 0.0)):
    pixels = np.full((32, 32, 3), number, np.uint8)
    return made_samples.still(key, frame=number, time=0.5, portrait=pixels, embedding=np.float32(embedding))


def test_findings_are_the_same_from_disk(tmp_path):
    summary = Summary()
    summary.add_dropped(Dropped("c.jpg", "blurred", "0.1", 0.1), "set")
    chunk = ChunkFindings([sample("a"), sample("b#0", frames=9)], [still("a", 1), still("b#0", 4)], summary, 2.5)
    write_findings(tmp_path / "chunk.npz", chunk)
    whole = read_findings(tmp_path / "chunk.npz", portraits=True)
    for one, other in zip(chunk.samples + chunk.stills, whole.samples + whole.stills, strict=True):
        for field in dataclasses.fields(one):
            if field.name != "aligned":
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    assert whole.summary.as_json() == summary.as_json() and whole.seconds == 2.5
    write_findings(tmp_path / "none.npz", ChunkFindings([], [], Summary()))
    assert read_findings(tmp_path / "none.npz", portraits=False).stills == []
    for damaged in ((tmp_path / "chunk.npz").read_bytes()[:-300], b""):
        (tmp_path / "none.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="none.npz: expected what an earlier run found, found damage"):
            read_findings(tmp_path / "none.npz", portraits=True)


def test_a_window_in_which_the_person_changes_is_dropped():
    stills = (still("v#0", 0), still("v#0", 8, (0.1, 1.0)), still("v#9", 9), still("v#9", 17, (0.9, 0.3)))
    shown = np.zeros((4, 4, 3), np.uint8)
    found = without_changes(Finding("v", (sample("v#0"), sample("v#9")), stills, (), (shown, shown)))
    assert [each.key for each in found.samples] == ["v#9"] and len(found.stills) == 2 and len(found.pictures) == 1
    (dropped,) = found.dropped
    assert dropped.reason == "several_people" and dropped.value == pytest.approx(0.0995, abs=1e-3)


def test_stills_get_their_own_embeddings():
    """All in one batch, in the order of the stills; findings without any are left alone."""
    batches = []

    def embed(aligned):
        batches.append(len(aligned))
        return np.stack([np.full(4, crop.max() + 1, np.float32) for crop in aligned])

    def numbered(number):
        crop = np.full((112, 112, 3), number, np.uint8)
        return dataclasses.replace(still("a", number), aligned=crop, embedding=np.zeros(0, np.float32))

    findings = [Finding("a", stills=(numbered(1), numbered(2))), Finding("b"), Finding("c", stills=(numbered(3),))]
    found = with_embeddings(findings, embed)
    assert [[each.embedding[0] for each in finding.stills] for finding in found] == [[2, 3], [], [4]]
    assert with_embeddings([Finding("b")], embed)[0].stills == () and batches == [3]


def test_crops_are_read_back_from_where_they_are(tmp_path):
    stored = StoredStills()
    for name in ("a", "b"):
        stills = [still(name, number) for number in (1, 2)]
        write_findings(tmp_path / f"{name}.npz", ChunkFindings([], stills, Summary()))
        stored.add(tmp_path / f"{name}.npz", read_findings(tmp_path / f"{name}.npz", portraits=False).stills)
    found = stored.read([still("b", 2), still("a", 1)])
    assert {name: each.portrait[0, 0, 0] for name, each in found.items()} == {"b 2": 2, "a 1": 1}


def shown(value):
    """A photo of one grey."""
    face = made_samples.sample("a")
    return SampleFrames(np.full((1, 32, 32, 3), value, np.uint8), face.boxes, face.landmarks)


class _Faces:
    """A face encoder whose features say which portrait they are of."""

    fingerprint = "numbers/1"

    def encode_crops(self, embeddings, portraits):
        patches = np.broadcast_to(portraits[:, 0, :1, :1], (len(portraits), 5, 16)).astype(np.float32)
        return FaceFeatures(np.pad(embeddings, ((0, 0), (0, 510))), patches, patches, portraits)


def test_records_keep_their_order_and_what_fails_is_told():
    """20 photos make a batch of 16 and one that is filled up; one file is gone, one caption too long."""
    config = pi.experiment()
    maker = encoding.RecordMaker(config, EncoderSet(WordTable(20, 8, 2), _Faces(), Pixel()), pi.SETTINGS)
    pairs = [Pair(sample(f"{n:02d}"), (still("other", n),), "other", 0.8, still("own", 0)) for n in range(20)]
    pairs[7] = dataclasses.replace(pairs[7], sample=sample("07", "A man img " + "and on " * 20))
    frames = [shown(n) for n in range(20)]
    frames[3] = Rejected("unreadable", "expected a file, found none")
    dropped = []
    made = list(maker.records(pairs, frames, dropped))
    assert [(each.key, each.reason) for each in dropped] == [("03", "unreadable"), ("07", "long_caption")]
    assert [pair.sample.key for pair, _ in made] == [f"{n:02d}" for n in range(20) if n not in (3, 7)]
    for pair, record in made:
        number = int(pair.sample.key)
        assert record["latents"].astype(np.float32).mean() == pytest.approx(number / 127.5 - 1, abs=4e-3)
        assert record["reference"][0, 0, 0, 0] == number == record["clip_last"][0, 0, 0]
        encode_record(record, record_fields(config, 1), "a record")


def test_a_captioner_is_asked_with_the_records_pixels():
    seen = []

    def captioner(frames, caption, person):
        seen.append((frames.shape, caption, person))
        return "a woman reads" if len(seen) == 1 else ""

    encoders = EncoderSet(WordTable(20, 8, 2), _Faces(), Pixel())
    settings = dataclasses.replace(pi.SETTINGS, captioner="a:b")
    maker = encoding.RecordMaker(pi.experiment(), encoders, settings, captioner)
    pairs = [Pair(sample(key, "A boy."), (still("o", 1),), "other", 0.8, still("o", 0)) for key in ("a", "b")]
    made = [record["caption"] for _, record in maker.records(pairs, [shown(0)] * 2, [])]
    assert made == ["a woman img reads", "A boy img."] and seen[0] == ((1, 32, 32, 3), "A boy.", None)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"max_yaw": -1.0}, "max_yaw = -1.0"),
        ({"min_motion": 5.0, "max_motion": 1.0}, "max_motion = 1.0"),
        ({"min_sharpness": 3.0}, "min_sharpness = 3.0"),
        ({"min_cosine": 65.0}, "min_cosine = 65.0"),
        ({"fit": "squeeze"}, "fit = 'squeeze'"),
        ({"chunk_photos": 0}, "chunk_photos = 0"),
        ({"animated_clips": -1}, "animated_clips = -1"),
    ],
)
def test_settings_that_cannot_work_are_named(change, said):
    with pytest.raises(ConfigError, match=said):
        validated_record(Settings, change)
    validated_record(Settings, {"min_motion": 5.0, "max_motion": 0.0})
