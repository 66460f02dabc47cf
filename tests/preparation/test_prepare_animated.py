"""Clips drawn from photos become records of their own data set, beside those of the photos."""

import dataclasses
import json

import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.preparation.pairing.pairs import Pair
from mmjax.preparation.run import prepare
from mmjax.preparation.writing.shard_contents import animated_pairs
from mmjax.records import pipeline
from mmjax.records.schema import STRINGS
from mmjax.records.sources import find_sources, open_source
from tests.helpers import face_pictures as fp
from tests.helpers import prepared_input as pi
from tests.helpers.made_samples import sample, still

pytestmark = fp.needs_pack

SETTINGS = dataclasses.replace(pi.SETTINGS, animated_clips=2)
THREE = dict(weights=(0.4, 0.2, 0.4), batches=(2, 1, 1), frames=(1, 9, 9))


def experiment(output):
    return pi.experiment(*(str(output / name) for name in ("images", "clips", "animated")), **THREE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three photos of one woman, one each of three other people, and a film."""
    folder = pi.write(tmp_path_factory.mktemp("input") / "people")
    for name in ("astronaut/9.jpg", "broken.jpg", *(f"crew/{number}.png" for number in (3, 4, 5))):
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def prepared(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    return output, prepare(pi.experiment(), output, [str(photos)], settings=SETTINGS, workers=1)


def records(output):
    """Records by source: of photos, films, and drawn clips, with their split."""
    config, found = experiment(output), []
    for index in range(3):
        of_both = {}
        for split in ("train", "validation"):
            source = open_source(find_sources(config), index, split)
            of_both |= {record["source"]: (split, record) for record in (source[row] for row in range(len(source)))}
        found.append(of_both)
    return found


@pytest.mark.slow
def test_each_photo_has_its_clips(prepared):
    output, report = prepared
    images, clips, animated = records(output)
    assert len(images) >= 5 and len(clips) == 3
    assert set(animated) == {f"{source}#animated-{number}" for source in images for number in (1, 2)}
    assert report["counts"]["animated"] == len(animated)
    assert report["counts"]["records"] == len(images) + len(clips) + len(animated)
    page = (output / "report.html").read_text()
    assert f"Drawn from photos: {len(animated)} clips" in page and page.count("#animated-") == len(animated)


@pytest.mark.slow
def test_a_clip_is_its_photo_in_motion(prepared):
    images, _, animated = records(prepared[0])
    for source, (split, record) in animated.items():
        photo_split, photo = images[source.partition("#")[0]]
        assert split == photo_split and record["person"] == photo["person"] and record["caption"] == photo["caption"]
        np.testing.assert_array_equal(record["reference"], photo["reference"])
        np.testing.assert_array_equal(record["id_embedding"], photo["id_embedding"])
        pixels = record["latents"].astype(np.float32) * 127.5 + 127.5
        assert pixels.shape == (9, pi.SIDE, pi.SIDE, 3) and np.abs(np.diff(pixels, axis=0)).max() > 5
        like = [np.corrcoef(frame.ravel(), photo["latents"].astype(np.float32).ravel())[0, 1] for frame in pixels]
        assert max(like) > 0.7
        assert record["face_visible"].all() and np.ptp(record["landmarks"], axis=0).max() > 0.2
        assert np.linalg.norm(record["landmarks"] - photo["landmarks"], axis=-1).max() < 0.25 * pi.SIDE
        assert 0.02 < record["face_mask"].mean() < 0.9
    first, second = ({s: r for s, (_, r) in animated.items() if s.endswith(number)} for number in "12")
    for one, other in zip(first.values(), second.values(), strict=True):
        assert (one["latents"] != other["latents"]).any()


@pytest.mark.slow
def test_references_are_other_photos_where_there_are_any(prepared):
    _, _, animated = records(prepared[0])
    woman = {source: record for source, (_, record) in animated.items() if "astronaut" in source}
    assert len(woman) == 6
    for record in woman.values():
        away = np.abs(record["latents"].astype(np.float32) * 127.5 + 127.5 - record["reference"].astype(float))
        assert away.mean((1, 2, 3)).min() > 5


@pytest.mark.slow
def test_training_reads_all_three(prepared):
    config = experiment(prepared[0])
    batches = pipeline.make_train_iterator(config, find_sources(config))
    shapes = {next(batches)["latents"].shape for _ in range(20)}
    assert shapes == {(2, 1, 32, 32, 3), (1, 9, 32, 32, 3)}


@pytest.mark.slow
def test_two_workers_and_a_second_go_make_the_same(prepared, photos, tmp_path):
    output = prepared[0]
    prepare(pi.experiment(), tmp_path, [str(photos)], settings=SETTINGS, workers=2)
    for one, other in zip(records(output), records(tmp_path), strict=True):
        assert one.keys() == other.keys()
        for source, (split, record) in one.items():
            assert split == other[source][0]
            for name, value in record.items():
                same = np.array_equal if name not in STRINGS else str.__eq__
                assert same(value, other[source][1][name]), f"{source} {name}"
    shard = next(tmp_path.glob("animated/train.array_record-*"))
    before, bytes_ = shard.stat().st_mtime_ns, shard.read_bytes()
    again = prepare(pi.experiment(), tmp_path, [str(photos)], settings=SETTINGS, workers=2)
    assert shard.stat().st_mtime_ns == before and again["counts"] == prepared[1]["counts"]
    (tmp_path / "work" / "encoded" / "animated-train-00000.json").unlink()  # as if it had been killed before
    prepare(pi.experiment(), tmp_path, [str(photos)], settings=SETTINGS, workers=2)
    assert shard.stat().st_mtime_ns > before and shard.read_bytes() == bytes_


@pytest.mark.slow
def test_another_number_of_clips_is_another_preparation(prepared, photos):
    with pytest.raises(ConfigError, match="settings.animated_clips: then 2, now 0"):
        prepare(pi.experiment(), prepared[0], [str(photos)], settings=pi.SETTINGS, workers=1)
    plan = json.loads((prepared[0] / "work" / "plan.json").read_text())
    assert plan["animation"].startswith("animation/1 ")


@pytest.mark.parametrize("frames", [(1,), (9,)])
def test_photos_and_a_length_of_clips_are_needed(photos, tmp_path, frames):
    config = pi.experiment("one", weights=(1.0,), batches=(1,), frames=frames)
    with pytest.raises(ConfigError, match=r"settings.animated_clips = 2: expected data.frames with 1, .* found \("):
        prepare(config, tmp_path, [str(photos)], settings=SETTINGS, workers=1)


def test_the_pairs_of_clips_say_what_is_drawn():
    pair = Pair(sample("anna/1.jpg"), (still("anna/2.jpg"),), "other", 0.7, still("anna/1.jpg"))
    one, two = animated_pairs([pair], 2, frames=17, fps=8)
    assert (one.sample.key, two.sample.key) == ("anna/1.jpg#animated-1", "anna/1.jpg#animated-2")
    assert one.sample.item == "anna/1.jpg" and one.sample.frames == (0,) * 17 and one.sample.times == (0.0, 2.0)
    assert (one.sample.animation, two.sample.animation) == (1, 2) and one.stills == pair.stills
