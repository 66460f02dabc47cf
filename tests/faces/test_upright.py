"""Photographs that lie on their side or stand on their head are turned, and that is said."""

import random

import numpy as np
import pytest
from PIL import Image

from mmjax.faces import upright
from mmjax.faces.detection import Face, align
from mmjax.faces.embeddings import unit
from mmjax.faces.reference_check import check_references
from tests.helpers import face_pictures as fp

STANDING = np.array([[40, 40], [60, 40], [50, 52], [42, 65], [58, 65]], np.float32)


def face(score, tilt=0.0, side=50):
    """A face in the middle of 100 x 100 pixels, tilted by so many degrees to the right."""
    angle = np.radians(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    low, high = 50 - side / 2, 50 + side / 2
    return Face(np.array([low, low, high, high], np.float32), (STANDING - 50) @ turn.T + 50, score)


def detecting(*by_turn):
    """A detector that knows by how many quarter turns to the left a picture was turned, and counts its calls."""

    def detect(picture):
        detect.calls += 1
        return by_turn[int(picture.max())]

    detect.calls = 0
    return detect


@pytest.fixture
def numbered(monkeypatch):
    """Pictures are numbers of turns: turning adds to them."""
    monkeypatch.setattr(upright, "turned", lambda picture, turns: np.full_like(picture, (picture.max() + turns) % 4))


@pytest.mark.parametrize("tilt", [-170, -90, -30, 0, 20, 44, 90, 179])
def test_roll_is_the_angle_of_a_tilted_face(tilt):
    assert upright.roll(face(0.9, tilt).landmarks) == pytest.approx(tilt, abs=2)


def test_four_quarters_are_a_whole_turn():
    picture = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), dtype=np.uint8)
    assert upright.turned(picture, 1).shape == (3, 30, 20, 3)
    np.testing.assert_array_equal(upright.turned(upright.turned(picture, 3), 1), picture)
    np.testing.assert_array_equal(upright.turned(picture, 1)[0], np.rot90(picture[0]))


WEAK, NONE = [face(0.7)], []


@pytest.mark.parametrize(
    "by_turn, turns, sure, calls",
    [
        ([[face(0.9)], NONE, NONE, NONE], 0, True, 1),  # clearly upright: seen once
        ([[face(0.9, tilt=30)], NONE, NONE, NONE], 0, True, 1),
        ([[face(0.9, tilt=-80)], [face(0.88)], NONE, NONE], 1, True, 5),  # its own landmarks lie on their side
        ([WEAK, [face(0.6)], NONE, [face(0.55)]], 0, True, 4),
        ([WEAK, NONE, [face(0.9)], NONE], 2, True, 5),
        ([NONE, NONE, NONE, [face(0.8)]], 3, True, 5),
        ([WEAK, [face(0.69)], NONE, NONE], 0, False, 4),
        ([WEAK, [face(0.71)], NONE, NONE], 1, False, 5),
        ([WEAK, WEAK, WEAK, WEAK], 0, False, 4),  # of equals as it is
        ([NONE, NONE, NONE, NONE], 0, True, 4),
        ([[face(0.7), face(0.9, side=10)], [face(0.8)], NONE, NONE], 1, True, 5),  # the largest face decides
    ],
)
def test_the_turn_with_the_best_upright_face_is_taken(numbered, by_turn, turns, sure, calls):
    detect = detecting(*by_turn)
    found = upright.find_upright(np.zeros((100, 100, 3), np.uint8), detect)
    assert (found.turns, found.sure, detect.calls) == (turns, sure, calls)
    assert found.picture.max() == turns and found.faces is by_turn[turns]
    assert bool(found.remark) == bool(turns or not sure)


def test_a_clip_is_decided_by_its_middle_frame_where_that_is_upright(numbered):
    frames = [np.zeros((10, 10, 3), np.uint8)] * 3
    detect = detecting([face(0.8)], NONE, NONE, NONE)
    assert upright.upright_turns(frames, detect) == (0, True) and detect.calls == 4
    detect = detecting(WEAK, NONE, [face(0.8)], NONE)
    assert upright.upright_turns(frames, detect) == (2, True) and detect.calls == 12
    detect = detecting([face(0.8)], NONE, NONE, NONE)
    turned = [np.full_like(frames[0], number) for number in (3, 0, 3)]  # a first frame that shows nobody upright
    assert upright.upright_turns(turned, detect) == (0, True) and detect.calls == 4


def test_what_is_said():
    assert upright.remark(0, True) == ""
    assert "was turned by 90 degrees to the left; if that is wrong" in upright.remark(1, True)
    assert "was turned by 180 degrees, though it is not sure which way is up" in upright.remark(2, False)
    assert "perhaps does not stand upright" in upright.remark(0, False)


@fp.needs_pack
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_file_gives_the_same_reference_as_the_upright_one(tmp_path, turns):
    """As a phone without a note of its turn saves it. The pixels are the same, so all that follows is."""
    picture = fp.astronaut()
    Image.fromarray(np.rot90(picture, -turns)).save(tmp_path / "turned.png")
    (plain,), (found,) = (
        check_references([each], fp.tools()) for each in (Image.fromarray(picture), tmp_path / "turned.png")
    )
    way = {1: "by 90 degrees to the left", 2: "by 180 degrees", 3: "by 90 degrees to the right"}[turns]
    assert plain.warnings == () and len(found.warnings) == 1
    assert f"reference {tmp_path / 'turned.png'}: does not stand upright and was turned {way}; if" in found.warnings[0]
    np.testing.assert_array_equal(found.picture, picture)
    np.testing.assert_array_equal(found.embedding, plain.embedding)


@fp.needs_pack
def test_a_group_is_turned_as_one():
    picture = fp.read(fp.SIX)
    found = upright.find_upright(upright.turned(picture, 1), fp.tools().detect)
    assert found.turns == 3 and len(found.faces) == 6
    assert upright.find_upright(picture, fp.tools().detect).turns == 0


@pytest.mark.slow
@fp.needs_faces
def test_ten_photographs_in_one_turn_each():
    for number, path in enumerate(sampled(10)):
        picture, turns = fp.read(path), number % 4
        found = upright.find_upright(upright.turned(picture, turns), fp.tools().detect)
        assert (found.turns + turns) % 4 == 0 and np.array_equal(found.picture, picture)


def sampled(count):
    return random.Random(1).sample(sorted(fp.LFW.glob("*/*.jpg")), count)


@pytest.mark.measures
@fp.needs_faces
@pytest.mark.parametrize("framing", ["as they are", "cut tightly"])
def test_the_turn_found_on_200_photographs_in_all_four_turns(framing):
    """Quoted in `mmjax.faces.upright`: right turns, cosines to the upright photograph, and pictures seen once."""
    right, cosines, before, seen = [[], [], [], []], [], [], []
    for path in sampled(200):
        detect = remembering(fp.tools().detect)  # four turns of four turns are four pictures
        picture = fp.read(path)
        if framing == "cut tightly":
            left, top, right_edge, bottom = detect(picture)[0].box.astype(int) + [-5, -5, 5, 5]
            picture = np.ascontiguousarray(picture[max(top, 0) : bottom, max(left, 0) : right_edge])
        main = detect(picture)[0]
        own = embedding(picture, main)
        seen.append(upright.is_clear(main))
        for turns in range(4):
            version = upright.turned(picture, turns)
            found = upright.find_upright(version, detect)
            right[turns].append((found.turns + turns) % 4 == 0)
            cosines.append(embedding(found.picture, found.faces[0]) @ own if found.faces else -1)
            if turns and (faces := detect(version)):
                before.append(embedding(version, faces[0]) @ own)
    rates = ", ".join(f"{np.mean(each):.2%}" for each in right)
    print(f"{framing}: right {np.mean(right):.2%} of {np.size(right)}; turned by 0, 90, 180, 270 degrees: {rates}")
    print(f"false turns of upright ones: {1 - np.mean(right[0]):.2%}; seen once, {np.mean(seen):.1%} of them")
    low, middle, high = np.percentile(before, [5, 50, 95])
    print(f"cosine of turned ones to the upright: before, {low:.2f}, {middle:.2f}, {high:.2f} at 5, 50, 95 %")
    print(f"after, all turns: least {min(cosines):.3f}, {np.mean(np.array(cosines) > 0.999):.2%} above 0.999")
    assert np.mean(right) >= 0.99 and np.mean(right[0]) >= 0.99


def remembering(detect):
    """The detector, which sees each picture once."""
    known = {}

    def remembered(picture):
        key = picture.shape, picture.tobytes()
        if key not in known:
            known[key] = detect(picture)
        return known[key]

    return remembered


def embedding(picture, found):
    return unit(fp.embed(align(picture, found.landmarks)[None]))[0]
