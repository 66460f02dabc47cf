"""Pairs again: each test here was missing when faults were planted, and one of them survived."""

import numpy as np
import pytest

from mmjax.preparation.pairing.pairs import choose_pairs
from mmjax.preparation.pairing.splits import assign_splits, split_of
from mmjax.preparation.settings import Settings
from tests.helpers import made_samples

NEVER = Settings(self_reference="never")


def turned(degrees):
    """An embedding at an angle: the cosine of two of them is that of their difference."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0, 0], np.float32)


def still(key, degrees=0.0, *, seed=None, **fields):
    """Each has a portrait of its own unless a `seed` says which; fields that a still has not are scores."""
    scores = made_samples.SCORES | {name: fields.pop(name) for name in made_samples.SCORES if name in fields}
    rng = np.random.default_rng(sum(key.encode()) * 1000 + fields.get("frame", 0) if seed is None else seed)
    picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
    fields = {"person": "anna", "scores": scores, "embedding": turned(degrees), "portrait": picture} | fields
    return made_samples.still(key, **fields)


def sample(key, **fields):
    return made_samples.sample(key, **{"person": "anna"} | fields)


def window(key="v.mp4#0", **fields):
    return sample(key, **{"item": "v.mp4", "times": (0.0, 2.0)} | fields)


def test_another_face_in_another_shot_of_the_video_is_no_reference():
    stills = [still("v.mp4#0", item="v.mp4"), still("v.mp4#90", 80, item="v.mp4", time=9.0, shot=1, frame=90)]
    pairs, dropped = choose_pairs([window()], stills, 1, NEVER)
    assert not pairs and [each.reason for each in dropped] == ["other_person"]


def test_the_cosine_of_a_pair_is_that_of_its_worst_reference():
    stills = [still("a", 0), still("b", 20, role="reference"), still("c", -40, role="reference")]
    (pair,), _ = choose_pairs([sample("a")], stills, 2, NEVER)
    assert pair.cosine == pytest.approx(np.cos(np.radians(40)), abs=1e-6)


def test_a_samples_own_picture_must_be_fit_as_well():
    pairs, dropped = choose_pairs([sample("a")], [still("a", yaw=50.0)], 1, Settings(self_reference="always"))
    assert not pairs and [each.reason for each in dropped] == ["no_reference"]


def test_a_photo_that_is_a_frame_of_the_clip_is_no_other_picture():
    stills = [still("v.mp4#0", item="v.mp4", seed=1), still("frame.jpg", 5, seed=1, role="reference")]
    assert [pair.origin for pair in choose_pairs([window()], stills, 1, Settings())[0]] == ["self"]
    stills[1] = still("frame.jpg", 5, seed=2, role="reference")
    assert [pair.origin for pair in choose_pairs([window()], stills, 1, Settings())[0]] == ["other"]


def test_the_best_of_a_samples_own_stills_is_shown():
    """Quality is sharpness times the cosine of the yaw times the size: 0.87 for the first, then 0.70 and 0.54."""
    scores = {"yaw": 30.0}, {"sharpness": 0.4}, {"face": 60.0}
    stills = [still("v.mp4#0", item="v.mp4", frame=n, time=n / 8, **each) for n, each in enumerate(scores)]
    (pair,), _ = choose_pairs([window()], stills, 1, Settings())
    assert pair.own.frame == 0


def test_two_items_without_a_name_are_two_groups():
    items = (
        [sample(key, person=None) for key in ("a.jpg", "b.jpg")],
        [still(k, person=None) for k in ("a.jpg", "b.jpg")],
    )
    pairs, dropped = choose_pairs(*items, 1, NEVER)
    assert not pairs and [each.reason for each in dropped] == ["no_reference"] * 2


def test_what_is_near_a_superfluous_copy_alone_is_a_reference():
    """Of the sample, a copy of it and a copy of that copy, the last is far enough from the first."""
    stills = [
        still("a", 0, seed=1),
        still("copy", 22, seed=1, role="reference"),
        still("far", 44, seed=1, role="reference", sharpness=0.5),
    ]
    (pair,), _ = choose_pairs([sample("a")], stills, 2, NEVER)
    assert [each.key for each in pair.stills] == ["far", "far"]


def named(split, share=0.5):
    """People whose hash says this split, one after the other."""
    return (f"p{n}" for n in range(1000) if split_of(f"person p{n}", share) == split)


def photos(person, count):
    return [sample(f"{person}/{n}", person=person) for n in range(count)]


def test_who_was_moved_for_one_data_set_is_not_moved_back_for_another():
    one, two = (person for person, _ in zip(named("train"), range(2), strict=False))
    held_out = next(named("validation"))
    datasets = [photos(one, 1) + photos(two, 2), photos(one, 1) + photos(held_out, 2)]
    splits = assign_splits(datasets, 0.5)
    for samples in datasets:
        assert {splits[each.key] for each in samples} == {"train", "validation"}


def test_windows_of_one_video_stay_together_where_a_single_person_is_split():
    samples = [window(f"{item}#{n}", item=item) for item in ("v.mp4", "w.mp4", "x.mp4") for n in range(8)]
    splits = assign_splits([samples], 0.3)
    by_item = {
        item: {splits[each.key] for each in samples if each.item == item} for item in ("v.mp4", "w.mp4", "x.mp4")
    }
    assert all(len(found) == 1 for found in by_item.values())
    assert set.union(*by_item.values()) == {"train", "validation"}
