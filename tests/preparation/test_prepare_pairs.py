"""Pairs: who is whose reference, what is a copy, and that nobody is in both splits."""

import collections
import dataclasses
import io
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mmjax.faces import quality
from mmjax.faces.detection import align, crop_portrait
from mmjax.faces.embeddings import unit
from mmjax.preparation.pairing.duplicates import DUPLICATE_COSINE, HASH_BITS, NearPictures, difference_hash
from mmjax.preparation.pairing.pairs import choose_pairs
from mmjax.preparation.pairing.splits import assign_splits, split_of
from mmjax.preparation.settings import Settings
from tests.helpers import face_pictures as fp
from tests.helpers import made_samples

WIDTH = 64
NEVER = Settings(self_reference="never")


def face(person, variation, spread=0.4):
    """An embedding of a person; two of one person have a cosine of about 0.86 at the default spread."""
    rng = np.random.default_rng([person, 0])
    noise = np.random.default_rng([person, 1, variation]).standard_normal(WIDTH)
    return (rng.standard_normal(WIDTH) + spread * noise).astype(np.float32)


def portrait(seed):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def still(key, embedding, *, picture=None, frame=0, **fields):
    """Of anna; fields that a still has not are scores."""
    scores = {name: fields.pop(name) for name in made_samples.SCORES if name in fields}
    fields = {"person": "anna", "scores": made_samples.SCORES | scores} | fields
    seed = sum(key.encode()) * 1000 + frame
    picture = portrait(seed) if picture is None else picture
    return made_samples.still(key, embedding=embedding, portrait=picture, frame=frame, **fields)


def sample(key, **fields):
    return made_samples.sample(key, **{"person": "anna"} | fields)


def photos(count, person=0, name="anna"):
    keys = [f"{name}/{number}" for number in range(count)]
    stills = [still(key, face(person, number), person=name) for number, key in enumerate(keys)]
    return [sample(key, person=name) for key in keys], stills


def chosen(pairs):
    return {pair.sample.key: [each.key for each in pair.stills] for pair in pairs}


def test_a_photo_is_paired_with_another_photo_of_the_person():
    samples, stills = photos(3)
    pairs, dropped = choose_pairs(samples, stills, 2, Settings())
    assert not dropped and len(pairs) == 3
    for pair in pairs:
        assert pair.origin == "other" and pair.own.key == pair.sample.key
        assert {each.key for each in pair.stills} == {s.key for s in samples} - {pair.sample.key}
        assert 0.7 < pair.cosine < 0.95


def test_the_recogniser_has_the_last_word():
    samples, stills = photos(2)
    samples.append(sample("anna/wrong"))
    stills.append(still("anna/wrong", face(7, 0)))
    pairs, dropped = choose_pairs(samples, stills, 1, NEVER)
    assert set(chosen(pairs)) == {"anna/0", "anna/1"}
    assert [(each.key, each.reason) for each in dropped] == [("anna/wrong", "other_person")]
    own, others = unit(stills[2].embedding), unit([each.embedding for each in stills[:2]])
    assert dropped[0].value == pytest.approx(float((others @ own).max()), abs=1e-5)
    assert dropped[0].picture is stills[2].portrait
    pairs, dropped = choose_pairs(samples, stills, 1, Settings())
    assert not dropped and [pair.origin for pair in pairs] == ["other", "other", "self"]


def test_people_of_other_names_are_no_references_however_alike():
    samples, stills = photos(1)
    more, others = photos(1, name="bert")
    pairs, dropped = choose_pairs(samples + more, stills + others, 1, NEVER)
    assert not pairs and {each.reason for each in dropped} == {"no_reference"}


@pytest.mark.parametrize(
    "change", [{"yaw": 50.0}, {"yaw": -50.0}, {"sharpness": 0.2}, {"face": 30.0}, {"role": "sample"}]
)
def test_a_reference_must_be_fit(change):
    samples, stills = photos(2)
    stills[1] = still("anna/1", face(0, 1), **change)
    pairs, dropped = choose_pairs(samples, stills, 1, NEVER)
    assert chosen(pairs) == {"anna/1": ["anna/0"]}
    assert [(each.key, each.reason) for each in dropped] == [("anna/0", "no_reference")]


def test_pictures_that_are_only_references_are_taken_and_become_no_pair():
    samples, stills = photos(1)
    stills.append(still("generated/anna", face(0, 5), role="reference"))
    assert chosen(choose_pairs(samples, stills, 1, NEVER)[0]) == {"anna/0": ["generated/anna"]}


@pytest.mark.parametrize("setting, photo, clip", [("always", 1, 1), ("photos", 1, 0), ("clips", 0, 1), ("never", 0, 0)])
def test_own_pictures_where_they_are_allowed(setting, photo, clip):
    samples = [sample("a.jpg", person=None), sample("b.mp4#0", item="b.mp4", person=None, times=(0, 2))]
    own = [still("b.mp4#0", face(1, n), item="b.mp4", person=None, frame=n, time=n / 8) for n in range(3)]
    pairs, _ = choose_pairs(
        samples, [still("a.jpg", face(0, 0), person=None), *own], 3, Settings(self_reference=setting)
    )
    found = {pair.sample.key: pair for pair in pairs}
    assert ("a.jpg" in found, "b.mp4#0" in found) == (photo, clip)
    if photo:
        assert [each.key for each in found["a.jpg"].stills] == ["a.jpg"] * 3
        assert found["a.jpg"].cosine == pytest.approx(1, abs=1e-6)
    if clip:
        assert sorted(each.frame for each in found["b.mp4#0"].stills) == [0, 1, 2]


def video_stills(*places):
    """Of one video: (key, seconds, shot)."""
    return [
        still(key, face(0, n), item="v.mp4", person=None, frame=n, time=time, shot=shot)
        for n, (key, time, shot) in enumerate(places)
    ]


@pytest.mark.parametrize(
    "place, taken",
    [
        (("v.mp4#80", 9.9, 1), True),  # another shot
        (("v.mp4#80", 9.9, 0), False),  # 1.9 s behind
        (("v.mp4#80", 10.0, 0), True),
        (("v.mp4#80", 4.1, 0), False),
        (("v.mp4#80", 4.0, 0), True),  # 2 s before
        (("v.mp4", 20.0, 0), True),  # between samples
    ],
)
def test_references_of_the_same_video(place, taken):
    samples = [sample("v.mp4#48", item="v.mp4", person=None, times=(6.0, 8.0))]
    pairs, _ = choose_pairs(samples, video_stills(("v.mp4#48", 7.0, 0), place), 1, Settings())
    assert [(pair.origin, pair.stills[0].key) for pair in pairs] == [
        ("shot", place[0]) if taken else ("self", "v.mp4#48")
    ]


def test_other_comes_before_shot_and_both_before_self():
    clip = dict(item="v.mp4", person="anna")
    stills = [still("v.mp4#0", face(0, 0), time=1.0, **clip), still("v.mp4#90", face(0, 1), time=9.0, frame=1, **clip)]
    samples = [sample("v.mp4#0", times=(0.0, 2.0), **clip)]
    pairs, _ = choose_pairs(samples, [*stills, still("photo", face(0, 2))], 3, Settings())
    assert pairs[0].origin == "other"
    assert [each.key for each in pairs[0].stills] == ["photo", "v.mp4#90", "photo"], "repeated before it is its own"


def test_references_are_spread_and_the_better_ones_come_more_often():
    samples, stills = photos(60)
    stills = [still(each.key, each.embedding, sharpness=0.31 if n % 2 else 0.57) for n, each in enumerate(stills)]
    pairs, _ = choose_pairs(samples, stills, 1, NEVER)
    used = collections.Counter(pair.stills[0].key for pair in pairs)
    sharp = sum(count for key, count in used.items() if int(key.split("/")[1]) % 2 == 0)
    assert max(used.values()) <= 6 and len(used) >= 25
    assert 0.65 < sharp / 60 < 0.92, "squared sharpness gives 0.77"


def test_pairs_do_not_depend_on_the_order_nor_on_others():
    samples, stills = photos(12)
    more, others = photos(12, 3, "bert")
    first = chosen(choose_pairs(samples, stills, 2, Settings())[0])
    again = chosen(choose_pairs((samples + more)[::-1], (others + stills)[::-1], 2, Settings())[0])
    assert {key: again[key] for key in first} == first


def test_a_sample_without_a_still_is_told():
    pairs, dropped = choose_pairs([sample("anna/0")], [still("anna/1", face(0, 1))], 1, Settings())
    assert not pairs and dropped[0].reason == "no_reference" and "of its own" in dropped[0].detail
    pairs, dropped = choose_pairs([sample("anna/0")], [], 1, Settings())
    assert not pairs and dropped[0].reason == "no_reference"
    assert choose_pairs([], [], 1, Settings()) == ([], [])


def test_of_near_duplicates_the_best_stays_and_is_no_reference_of_itself():
    samples, stills = photos(3)
    copy = np.clip(stills[0].portrait.astype(int) + 3, 0, 255).astype(np.uint8)
    samples.append(sample("anna/copy"))
    stills.append(still("anna/copy", stills[0].embedding * 1.01, picture=copy, sharpness=0.5))
    pairs, dropped = choose_pairs(samples, stills, 3, NEVER)
    assert [(each.key, each.reason) for each in dropped] == [("anna/copy", "duplicate")]
    assert "anna/0" in dropped[0].detail
    assert all("anna/copy" not in keys for keys in chosen(pairs).values())


def test_a_reference_only_copy_costs_no_sample_and_is_no_reference():
    samples, stills = photos(1)
    stills.append(still("a-copy", stills[0].embedding, picture=stills[0].portrait, role="reference"))
    pairs, dropped = choose_pairs(samples, stills, 1, Settings())
    assert not dropped and [pair.origin for pair in pairs] == ["self"]


def test_the_same_photo_under_two_names_is_dropped_under_the_later():
    samples, stills = photos(2)
    more, others = photos(2, 3, "bert")
    others[1] = still("bert/1", stills[0].embedding, person="bert", picture=stills[0].portrait, sharpness=0.6)
    pairs, dropped = choose_pairs(samples + more, stills + others, 1, Settings())
    assert [(each.key, each.reason) for each in dropped] == [("bert/1", "duplicate")]
    assert {pair.sample.key: pair.origin for pair in pairs} == {"anna/0": "other", "anna/1": "other", "bert/0": "self"}


def test_the_same_surroundings_with_another_face_are_no_duplicate():
    samples, stills = photos(1)
    stills.append(still("anna/1", face(0, 1, spread=3.0), picture=stills[0].portrait))
    assert unit(stills[0].embedding) @ unit(stills[1].embedding) < DUPLICATE_COSINE
    pairs, dropped = choose_pairs([*samples, sample("anna/1")], stills, 1, Settings(min_cosine=-1.0))
    assert not dropped and [pair.origin for pair in pairs] == ["other", "other"]


def test_near_pictures_are_found_among_many():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 5000, np.uint64)
    for bits in range(6):  # so many are found for certain
        flips = rng.choice(64, bits, replace=False).astype(np.uint64)
        hashes[2 * bits + 1] = hashes[2 * bits] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=np.uint64(0))
    pictures, found = NearPictures(hashes, np.ones((5000, 1), np.float32)), {}
    for number in range(5000):
        found[number] = pictures.near(number)
        pictures.add(number)
    assert all(2 * bits in found[2 * bits + 1] for bits in range(6))
    pairs = np.array([(one, other) for other, near in found.items() for one in near])
    assert (np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= HASH_BITS).all()


def test_a_thousand_copies_of_one_photo_take_no_longer_than_a_thousand_photos():
    """Each is compared with the one that stays, not with all the others."""
    embedding, picture = face(0, 0), portrait(0)
    keys = [f"anna/{number:04d}" for number in range(1000)]
    stills = [still(key, embedding, picture=picture) for key in keys]
    began = time.monotonic()
    pairs, dropped = choose_pairs([sample(key) for key in keys], stills, 1, Settings())
    assert [pair.sample.key for pair in pairs] == keys[:1] and {each.key for each in dropped} == set(keys[1:])
    assert time.monotonic() - began < 3, "it was 6 s on a slow core, and four times that for twice as many"


def test_the_hash_follows_the_picture_and_not_its_size_or_light():
    picture = np.asarray(Image.fromarray(portrait(3)).resize((256, 256), Image.Resampling.BICUBIC))
    small, darker = np.asarray(Image.fromarray(picture).resize((32, 32))), (picture * 0.7).astype(np.uint8)
    own, other = difference_hash(picture), difference_hash(portrait(4))
    assert (own ^ difference_hash(small)).bit_count() <= 3 and (own ^ difference_hash(darker)).bit_count() <= 3
    assert (own ^ other).bit_count() > 16


def many(people, each=3):
    return [sample(f"{person}/{number}", person=f"p{person}") for person in range(people) for number in range(each)]


def test_nobody_is_in_both_splits():
    samples = many(2000)
    splits = assign_splits([samples], 0.1)
    by_person = collections.defaultdict(set)
    for each in samples:
        by_person[each.person].add(splits[each.key])
    assert all(len(found) == 1 for found in by_person.values())
    share = sum(found == {"validation"} for found in by_person.values()) / 2000
    assert share == pytest.approx(0.1, abs=0.02)
    assert all(splits[each.key] == split_of(f"person {each.person}", 0.1) for each in samples)
    assert splits != assign_splits([samples], 0.1, seed=1)


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_both_splits_have_records(share):
    samples = [*many(1, 50), *[sample("few/0", person="few")]]
    splits = assign_splits([samples], share)
    assert set(splits.values()) == {"train", "validation"}
    assert splits["few/0"] == ("train" if share == 1 else "validation"), "the smaller group moves"
    one = assign_splits([many(1, 5)], share)
    assert set(one.values()) == {"train", "validation"} and len(one) == 5
    windows = [sample(f"v#{n}", item="v", person="anna") for n in range(4)]
    assert set(assign_splits([windows], share).values()) == {"train", "validation"}
    assert assign_splits([many(1, 1)], share) == {"0/0": "train"} and assign_splits([[]], share) == {}


def test_who_moves_moves_in_all_data_sets():
    """No hash says validation at a share of 0: one group moves for the photos, another for the clips, each whole."""
    photos = [sample(f"{n}.jpg", person=f"p{n % 3}") for n in range(9)]
    videos = [sample(f"{n}.mp4#0", person=f"p{n % 3 + 1}") for n in range(9)]
    splits = assign_splits([photos, videos], 0.0)
    for samples in (photos, videos):
        assert {splits[each.key] for each in samples} == {"train", "validation"}
    by_person = collections.defaultdict(set)
    for each in photos + videos:
        by_person[each.person].add(splits[each.key])
    assert all(len(found) == 1 for found in by_person.values())


PEOPLE = 300
MEASURED = (0.4, 0.5, 0.6, 0.65, 0.7)


def lfw_stills():
    """Stills of up to six photos of `PEOPLE` people, as the detector's largest face; LFW's names are the truth."""
    people = [folder for folder in sorted(fp.LFW.iterdir()) if folder.is_dir() and len(list(folder.iterdir())) > 1]
    for folder in people[::5][:PEOPLE]:
        for path in sorted(folder.glob("*.jpg"))[:6]:
            picture = fp.read(path)
            if faces := fp.tools().detect(picture):
                aligned, portrait = align(picture, faces[0].landmarks), crop_portrait(picture, faces[0], 96)
                scores = {"face": faces[0].side, "sharpness": quality.sharpness(aligned)}
                scores["yaw"] = quality.yaw(faces[0].landmarks)
                key = f"{folder.name}/{path.name}"
                yield still(key, fp.embed(aligned[None])[0], person=folder.name, picture=portrait, **scores)


@pytest.mark.measures
@fp.needs_faces
def test_pairs_of_real_people_are_of_one_person():
    """MMJAX_MEASURE=1 MMJAX_TEST_DATA=... pytest -s -k real_people tests/preparation/test_prepare_pairs.py"""
    named = list(lfw_stills())
    counts = collections.Counter(each.person for each in named)
    able = sum(count for count in counts.values() if count > 1)
    truth, recall = {each.key: each.person for each in named}, {}
    print(f"\n{len(named)} photos of {len(counts)} people, {able} with another photo of theirs")
    for labels in ("names", "one group"):
        stills = named if labels == "names" else [dataclasses.replace(each, person="all") for each in named]
        samples = [sample(each.key, person=each.person) for each in stills]
        for threshold in MEASURED:
            settings = dataclasses.replace(NEVER, min_cosine=threshold)
            pairs, dropped = choose_pairs(samples, stills, 1, settings)
            wrong = sum(truth[pair.sample.key] != truth[pair.stills[0].key] for pair in pairs)
            recall[labels, threshold] = (len(pairs) - wrong) / able
            reasons = dict(collections.Counter(each.reason for each in dropped))
            found = f"{len(pairs)} pairs, {wrong} wrong, recall {recall[labels, threshold]:.1%}"
            print(f"{labels}, cosine > {threshold}: {found}; dropped {reasons}")
            assert wrong == 0 and "duplicate" not in reasons
    assert recall["names", 0.65] > 0.55 and recall["names", 0.4] > 0.98


VERSIONS = {
    "saved at quality 40": lambda image: saved(image, 40),
    "shrunk to 60 %": lambda image: image.resize((150, 150)),
    "shrunk to 60 % and saved at 60": lambda image: saved(image.resize((150, 150)), 60),
    "enlarged twice": lambda image: image.resize((500, 500)),
    "brighter by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast by 20 %": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "black and white": lambda image: image.convert("L").convert("RGB"),
    "cropped by 10 %": lambda image: image.crop((20, 20, 245, 245)),
}


def saved(image, quality):
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


def seen(picture):
    """(hash, unit embedding) of the largest face, None without one."""
    faces = fp.tools().detect(picture)
    if not faces:
        return None
    embedding = fp.embed(align(picture, faces[0].landmarks)[None])[0]
    return difference_hash(crop_portrait(picture, faces[0], 96)), unit(embedding)


@pytest.mark.measures
@fp.needs_faces
def test_how_many_copies_are_found():
    """MMJAX_MEASURE=1 MMJAX_TEST_DATA=... pytest -s -k copies_are_found tests/preparation/test_prepare_pairs.py"""
    paths, rates = sorted(fp.LFW.glob("*/*.jpg"))[::200], {}
    originals = {path: seen(fp.read(path)) for path in paths}
    for name, make in VERSIONS.items():
        copies = {path: seen(np.asarray(make(Image.open(path).convert("RGB")))) for path in paths if originals[path]}
        both = [(originals[path], copy) for path, copy in copies.items() if copy]
        same = [(a[0] ^ b[0]).bit_count() <= HASH_BITS and a[1] @ b[1] >= DUPLICATE_COSINE for a, b in both]
        rates[name] = np.mean(same)
        print(f"{len(both)} photos {name}: {rates[name]:.1%} found")
    assert min(rate for name, rate in rates.items() if name != "cropped by 10 %") > 0.95
