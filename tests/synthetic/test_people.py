"""Drawn people: who they are, that they are always drawn alike, and that the ground truth fits the picture."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax.encoders import labels
from mmjax.encoders.build import make_face_encoder
from mmjax.errors import ConfigError, DataError
from mmjax.synthetic import galleries, people, portraits
from mmjax.synthetic.drawing import DRAWING_VERSION, draw

MANY = 300


def experiment(face="drawn", **adapter):
    sizes = {"id_dim": 32, "clip_dim": 16, "clip_tokens": 17, **adapter}
    return c.Experiment(
        autoencoder=c.Autoencoder("pixel"),
        model=c.Model(c.Transformer(latent_channels=3), c.Adapter(**sizes)),
        encoders=c.Encoders(face=face),
        data=c.Data(height=48, width=64, references=2, people=3, held_out_people=2),
    )


def crowd(count=MANY, start=0):
    return np.stack([people.make_identity(start + i) for i in range(count)])


def scenes(count, seed=0, **changes):
    looks, words = people.picture_looks(np.random.default_rng(seed), count)
    return dataclasses.replace(looks, **changes), words


def test_a_person_is_the_same_for_ever():
    first = people.make_identity(7)
    assert np.array_equal(first, people.make_identity(7))
    assert first.dtype == np.float32 and first.shape == (people.IDENTITY_DIM,) and np.all(np.abs(first) <= 1)
    # if these numbers change, prepared records are out of date: raise DRAWING_VERSION
    assert DRAWING_VERSION == 1
    assert np.isclose(np.abs(crowd(20)).sum(), 295.104, atol=1e-3)
    assert np.isclose(draw(crowd(20), scenes(20)[0], 48, 48).pixels.mean(), 146.56, atol=0.05)


def test_no_two_people_are_alike():
    identities = crowd()
    distance = np.linalg.norm(identities[:, None] - identities[None], axis=-1) + 10 * np.eye(MANY)
    print(f"closest two of {MANY}: {distance.min():.2f}")
    assert distance.min() > 0.9


def test_the_splits_cannot_meet():
    train = {people.person_number("train", i) for i in range(500)}
    held_out = {people.person_number("validation", i) for i in range(500)}
    assert not train & held_out and max(train) < people.HELD_OUT_START <= min(held_out)
    with pytest.raises(ValueError, match="expected 0"):
        people.person_number("train", people.HELD_OUT_START)


def test_held_out_people_look_like_the_trained_ones_as_a_crowd():
    """The split is by person and by nothing else: no trait gives it away."""
    gap = np.abs(crowd().mean(0) - crowd(start=people.HELD_OUT_START).mean(0))
    print("largest difference of a trait's mean between the splits:", gap.max())
    assert gap.max() < 4 * np.sqrt(2 / MANY)


def test_class_words_follow_the_traits():
    words = [people.class_word(identity) for identity in crowd()]
    assert set(words) == {"man", "woman", "boy", "girl"}
    for identity, word in zip(crowd(), words, strict=True):
        if people.trait(identity, "beard") > 0:
            assert word == "man"


def test_captions_do_not_tell_who_it_is():
    """Captions of one person and of another of the same class come from the same words."""
    looks, words = scenes(200)
    man, other = [i for i in crowd() if people.class_word(i) == "man"][:2]
    assert [people.caption(man, said) for said in words] == [people.caption(other, said) for said in words]
    assert all(people.caption(man, said).startswith("A man img in ") for said in words)
    longest = max(len(people.caption(man, said).split()) for said in words)
    assert longest <= 17


def test_pictures_do_not_depend_on_their_neighbours():
    """Drawn alone or among others, whatever the chunks: the same bits."""
    identities, (looks, _) = crowd(60), scenes(60)
    together = draw(identities, looks, 40, 56)
    for i in (0, 31, 59):
        alone = draw(identities[i : i + 1], looks.select([i]), 40, 56)
        assert np.array_equal(alone.pixels[0], together.pixels[i])
        assert np.array_equal(alone.landmarks[0], together.landmarks[i])


@pytest.mark.parametrize("height, width", [(32, 32), (48, 72), (96, 64)])
def test_ground_truth_lies_in_the_picture(height, width):
    drawing = draw(crowd(), scenes(MANY)[0], height, width)
    low, high = drawing.boxes[:, :2], drawing.boxes[:, 2:]
    assert np.all(low >= 0) and np.all(high <= (width, height)) and np.all(high - low > 0.3 * min(height, width))
    inside = (drawing.landmarks >= low[:, None] - 0.5) & (drawing.landmarks <= high[:, None] + 0.5)
    assert np.all(inside), "landmarks lie in the box"
    assert drawing.mask.min() >= 0 and drawing.mask.max() <= 1
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    boxed = (columns >= low[:, 0, None, None] - 1) & (columns < high[:, 0, None, None] + 1)
    boxed = boxed & (rows >= low[:, 1, None, None] - 1) & (rows < high[:, 1, None, None] + 1)
    share = (drawing.mask * boxed).sum((1, 2)) / drawing.mask.sum((1, 2))
    print(f"share of the mask inside the box: {share.min():.3f} at least")
    assert share.min() > 0.75, "hair may stand out of the box, the rest not"


def test_landmarks_mark_the_features_they_name():
    """At every eye landmark is a dark pupil, and what changes when the mouth opens lies between its corners."""
    bare = crowd(120)
    bare[:, [people.TRAITS.index(name) for name in ("glasses", "fringe", "hair_length", "beard", "moustache")]] = -1
    nobody_looks_aside = np.zeros(120)
    looks, _ = scenes(120, gaze=nobody_looks_aside, eyes=np.ones(120), mouth=np.ones(120), place=np.zeros(120, int))
    drawing = draw(bare, dataclasses.replace(looks, yaw=looks.yaw.clip(-0.5, 0.5)), 192, 192)
    picture = np.arange(120)
    for eye in (0, 1):
        x, y = np.round(drawing.landmarks[:, eye] - 0.5).astype(int).T
        pupil = drawing.pixels[picture, y, x].astype(int).sum(-1)
        print("brightest pupil:", pupil.max())
        assert pupil.max() < 180
    shut = draw(bare, dataclasses.replace(looks, yaw=looks.yaw.clip(-0.5, 0.5), mouth=np.zeros(120)), 192, 192)
    changed = np.abs(drawing.pixels.astype(int) - shut.pixels).sum(-1) > 60
    for i in picture:
        y, x = np.nonzero(changed[i] & (np.arange(192)[:, None] > drawing.landmarks[i, 2, 1]))
        middle, wide = drawing.landmarks[i, 3:].mean(0), np.ptp(drawing.landmarks[i, 3:, 0])
        assert abs(x.mean() - middle[0]) < 0.2 * wide + 1 and abs(y.mean() - middle[1]) < 0.6 * wide + 1
        assert np.ptp(x) < 1.3 * wide + 3


def test_a_turned_head_moves_its_landmarks_the_right_way():
    looks, _ = scenes(1)
    zero, turned = np.zeros(3), np.array([-0.5, 0.0, 0.5])
    still = dataclasses.replace(looks.select([0, 0, 0]), yaw=zero, pitch=zero, roll=zero, x=zero, y=zero)
    person = np.repeat(crowd(1), 3, 0)
    nose_x = draw(person, dataclasses.replace(still, yaw=turned), 64, 64).landmarks[:, 2, 0]
    nose_y = draw(person, dataclasses.replace(still, pitch=turned / 2), 64, 64).landmarks[:, 2, 1]
    eyes = draw(person, dataclasses.replace(still, roll=turned / 2), 64, 64).landmarks[:, :2]
    assert np.all(np.diff(nose_x) > 2) and np.all(np.diff(nose_y) > 2)
    assert np.all(np.diff(eyes[:, 1, 1] - eyes[:, 0, 1]) > 2), "rolled clockwise the right eye goes down"


def test_the_same_person_is_closer_than_others():
    """Aligned faces of one person under other light, pose and place resemble each other more than other people's."""
    identities, each = crowd(24), 6
    looks, _ = scenes(24 * each)
    upright = dataclasses.replace(looks, yaw=looks.yaw / 4, roll=0 * looks.roll, x=0 * looks.x, y=0 * looks.y)
    pixels = draw(
        np.repeat(identities, each, 0), dataclasses.replace(upright, scale=0 * looks.scale + 0.7), 32, 32
    ).pixels
    faces = pixels[:, 2:28, 6:26].reshape(24, each, -1).astype(np.float32)
    gallery, probes = faces[:, : each // 2].mean(1), faces[:, each // 2 :].reshape(-1, faces.shape[-1])
    nearest = np.linalg.norm(probes[:, None] - gallery[None], axis=-1).argmin(1)
    rate = np.mean(nearest == np.repeat(np.arange(24), each // 2))
    print(f"nearest in plain pixels is the same person: {rate:.2f}, chance {1 / 24:.2f}")
    assert rate > 0.7


def test_clips_move_smoothly_and_stay_one_person_in_one_place():
    rng = np.random.default_rng(0)
    steps, moved = [], []
    for number in range(20):
        looks, words = people.clip_looks(rng, 17)
        drawing = draw(np.repeat(crowd(1, number), 17, 0), looks, 48, 48)
        steps.append(np.abs(np.diff(drawing.landmarks, axis=0)).max())
        moved.append(np.ptp(drawing.landmarks, axis=0).max())
        assert len(set(looks.place)) == 1 and np.all(looks.clothes == looks.clothes[0])
        assert any(action in words for action in ("talking", "turning", "nodding", "smiling"))
    print(f"largest step between frames {max(steps):.2f} px of 48, smallest motion of a clip {min(moved):.2f} px")
    assert max(steps) < 4 and min(moved) > 1


def test_a_portrait_carries_its_person_through_a_file(tmp_path):
    encoder = make_face_encoder(experiment())
    image = portraits.draw_portrait(11, side=48)
    path = portraits.save_portrait(tmp_path / "person.png", image)
    from_file, from_memory = encoder.encode([path]), encoder.encode([image])
    assert np.array_equal(from_file.id_embedding, from_memory.id_embedding)
    assert np.array_equal(from_file.picture, from_memory.picture) and from_file.picture.shape == (1, 48, 48, 3)
    error = np.abs(from_file.id_embedding[0, : people.IDENTITY_DIM] - people.make_identity(11)).max()
    assert 0 < error < 0.15, "the identity vector with a little noise"
    assert not from_file.id_embedding[0, people.IDENTITY_DIM :].any()


def test_two_portraits_of_one_person_give_near_but_not_equal_vectors():
    encoder = make_face_encoder(experiment())
    pictures = [portraits.draw_portrait(3, 48, seed) for seed in (0, 1)] + [portraits.draw_portrait(4, 48)]
    a, b, other = encoder.encode(pictures).id_embedding
    assert 0 < np.linalg.norm(a - b) < 0.5 < np.linalg.norm(a - other)


def test_features_have_the_configured_sizes_and_know_places():
    found = make_face_encoder(experiment()).encode([portraits.draw_portrait(3, 48), portraits.draw_portrait(4, 96)])
    assert found.clip_last.shape == found.clip_penultimate.shape == (2, 17, 16)
    assert not np.allclose(found.clip_last, found.clip_penultimate)
    flat = Image.new("RGB", (64, 64), (128, 128, 128))
    patches = make_face_encoder(experiment("pixels")).encode([flat]).clip_last[0, 1:]
    assert np.linalg.norm(patches[0] - patches[5]) > 0.5, "equal patches at two places must not look the same"
    assert 0.3 < found.clip_last.std() < 3


def test_a_photograph_is_refused_by_the_drawn_encoder(tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), (200, 160, 120)).save(photo)
    with pytest.raises(DataError, match="photo.png.*drawn people only"):
        make_face_encoder(experiment()).encode([photo])
    with pytest.raises(DataError, match="missing.png"):
        make_face_encoder(experiment()).encode([tmp_path / "missing.png"])
    assert make_face_encoder(experiment("pixels")).encode([photo]).id_embedding.shape == (1, 32)


def test_a_damaged_identity_chunk_is_refused():
    image = portraits.draw_portrait(3, 48)
    for damage in ("[1, 2]", "{", "[" + ", ".join(["9"] * people.IDENTITY_DIM) + "]", '["a"]'):
        image.info[labels.CHUNK] = damage
        with pytest.raises(DataError, match="24 numbers"):
            make_face_encoder(experiment()).encode([image])


@pytest.mark.parametrize(
    "sizes, key", [({"clip_tokens": 20}, "clip_tokens = 20.*nearest 17"), ({"id_dim": 8}, "id_dim")]
)
def test_impossible_sizes_are_refused(sizes, key):
    with pytest.raises(ConfigError, match=key):
        make_face_encoder(experiment(**sizes))


def test_people_to_evaluate_with():
    held_out = galleries.held_out_people(experiment(), frames=4)
    trained = galleries.training_people(experiment(), count=1, frames=4)
    assert len(held_out) == 2 and len(trained) == 1
    assert all(person.number >= people.HELD_OUT_START for person in held_out)
    person = held_out[0]
    assert person.frames.shape == (4, 48, 64, 3) and person.landmarks.shape == (4, 5, 2)
    assert len(person.references) == 2 and f"{person.class_word} img" in person.caption
    found = make_face_encoder(experiment()).encode(person.references).id_embedding
    assert np.abs(found[:, : people.IDENTITY_DIM] - people.make_identity(person.number)).max() < 0.15
