"""The reference check says what is wrong with each picture, before anything slow starts.

Rates over many photographs are measured in `test_reference_calibration.py`.
"""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from mmjax.errors import DataError
from mmjax.faces import quality
from mmjax.faces.damage import Damage
from mmjax.faces.detection import Face
from mmjax.faces.quality import Quality, remarks
from mmjax.faces.reference_check import FaceTools, check_references
from tests.helpers import face_pictures as fp

SOUND = Damage(burnt=0.0, contrast=40.0, blocks=0.2, skin=32.0, eyes=-1.5, steps=0.1, outlines=0.01, noise=0.04)
GOOD = Quality(side=140, sharpness=0.6, yaw=3, colour=20, mouth=0.8, eyes=0.7, sides=0.1, damage=SOUND)


def image(pixels) -> Image.Image:
    return Image.fromarray(pixels)


def check(*pictures, **settings):
    return check_references(pictures, fp.tools(), **settings)


def refused(*pictures, **settings) -> str:
    with pytest.raises(DataError) as error:
        check(*pictures, **settings)
    return str(error.value)


def warned(*pictures, **settings) -> str:
    return "\n".join(warning for each in check(*pictures, **settings) for warning in each.warnings)


def woman():
    """(picture, its face): a good reference."""
    picture = fp.astronaut()
    return picture, fp.main_face(picture)


# figures and sentences, without any network


def test_a_good_face_is_left_in_peace():
    assert list(remarks(GOOD)) == []


@pytest.mark.parametrize(
    "change, text, severe",
    [
        ({"side": 70}, "expected a face of 80 pixels or more, found 70; use a larger picture", False),
        ({"side": 40}, "found 40; use a larger picture", True),
        ({"sharpness": 0.35}, "found a blurred one .*; use a picture in focus", False),
        ({"sharpness": 0.2}, "found a blurred one", True),
        ({"yaw": -40}, "found one turned away by 40 degrees; use a picture from the front", False),
        ({"yaw": 60}, "turned away by 60 degrees", True),
        ({"mouth": 0.95}, "the mouth is hidden or hard to read .*; use a picture that shows it", False),
        ({"eyes": 0.9}, "the eyes are hidden or hard to read .*; use a picture that shows them", False),
        ({"sides": 0.7}, "one side of the face is hidden, in the dark or cut off; use", False),
        ({"colour": 0.0}, "the picture is black and white", False),
    ],
)
def test_each_fault_has_its_sentence(change, text, severe):
    (found,) = remarks(dataclasses.replace(GOOD, **change))
    assert re.search(text, found.text) and found.severe == severe


@pytest.mark.parametrize("angle", [-60, -20, 0, 35, 80])
@pytest.mark.parametrize("nod, tilt", [(0, 0), (20, 0), (0, 30), (-15, -45)])
def test_yaw_is_the_angle_of_a_turned_head(angle, nod, tilt):
    turn, nod, tilt = np.radians([angle, nod, tilt])
    about_y = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
    about_z = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    landmarks = 60 * (quality.SHAPE @ (about_x @ about_y).T)[:, :2] @ about_z.T + 200
    assert quality.yaw(landmarks) == pytest.approx(angle, abs=0.5)


def test_sharpness_is_no_matter_of_contrast_or_brightness():
    crop = np.random.default_rng(0).integers(60, 200, (28, 28, 3), dtype=np.uint8)
    crop = np.asarray(image(crop).resize((112, 112), Image.Resampling.BICUBIC))
    faint = (crop.astype(float) * 0.4 + 30).round().astype(np.uint8)
    assert quality.sharpness(faint) == pytest.approx(quality.sharpness(crop), rel=0.05)


def test_no_references_are_no_references():
    with pytest.raises(DataError, match="expected a picture or more, found none"):
        told_apart()


# real pictures


@fp.needs_pack
def test_a_good_picture_passes_with_its_figures():
    picture, face = woman()
    (found,) = check(image(picture))
    assert found.warnings == () and found.name == "picture 1 in memory"
    assert found.aligned.shape == (112, 112, 3) and found.embedding.shape == (512,)
    np.testing.assert_array_equal(found.picture, picture)
    np.testing.assert_array_equal(found.face.landmarks, face.landmarks)
    np.testing.assert_allclose(found.embedding, fp.embed(found.aligned[None])[0], rtol=1e-4, atol=1e-4)
    assert found.quality.side > 80 and abs(found.quality.yaw) < 35 and found.quality.colour > 8


@fp.needs_pack
def test_no_face():
    text = refused(image(np.full((90, 120, 3), 150, np.uint8)))
    assert "picture 1 in memory: expected a face, found none in 120x90 pixels; use an upright photograph" in text


@fp.needs_pack
def test_several_faces():
    text = refused(fp.SIX)
    assert "t1.jpg: expected one person, found 6 faces of like size (boxes" in text and text.count(" to ") == 8
    assert text.endswith("cut the picture to the person who is meant")
    assert "found 6 faces" in refused(fp.SIX, strict=False)


@fp.needs_pack
def test_the_largest_of_several_faces_is_taken_where_it_is_clear():
    picture, face = woman()
    small = image(picture).resize((180, 180))
    both = Image.new("RGB", (700, 512))
    both.paste(image(picture), (0, 0))
    both.paste(small, (515, 20))
    (found,) = check(both)
    assert "2 faces; the largest is taken" in found.warnings[0]
    assert np.abs(found.face.box - face.box).max() < 0.1 * face.side


@fp.needs_pack
def test_tiny_faces():
    picture, face = woman()
    assert "expected a face of 80 pixels or more, found 6" in warned(image(fp.shrunk(picture, face, 64)))
    assert "expected a face of 80 pixels or more, found" in refused(image(fp.shrunk(picture, face, 40)))
    assert "expected a face of 80 pixels" in warned(image(fp.shrunk(picture, face, 40)), strict=False)


@fp.needs_pack
def test_blurred_and_shaken_faces():
    picture, face = woman()
    assert "found a blurred one" in warned(image(fp.blurred(picture, face.landmarks, 2.2)))
    assert "found a blurred one" in warned(image(fp.shaken(picture, face.landmarks, 12)))
    assert "expected a sharp face, found a blurred one" in refused(image(fp.blurred(picture, face.landmarks, 4)))
    assert "found a blurred one" in warned(image(fp.blurred(picture, face.landmarks, 4)), strict=False)


@fp.needs_pack
@pytest.mark.parametrize(
    "make, text",
    [
        (lambda picture, landmarks: fp.masked(picture, landmarks, "blue"), "the mouth is hidden"),
        (lambda picture, landmarks: fp.masked(picture, landmarks, "white"), "the mouth is hidden"),
        (fp.hand_before_mouth, "the mouth is hidden"),
        (fp.dark_glasses, "the eyes are hidden"),
        (fp.half_covered, "one side of the face is hidden"),
    ],
)
def test_covered_faces(make, text):
    picture, face = woman()
    assert text in warned(image(make(picture, face.landmarks)))


@fp.needs_faces
@pytest.mark.parametrize(
    "photo, text",
    [
        (("Mariana_Gonzalez", 1), "the mouth is hidden"),  # she kisses her medal
        (("Victoria_Beckham", 3), "the eyes are hidden"),  # dark glasses
        (("Jack_Nicholson", 1), "the eyes are hidden"),
        (("Li_Peng", 4), "one side of the face"),  # he raises a glass
    ],
)
def test_photographs_of_covered_faces(photo, text):
    assert text in warned(fp.photo(*photo))


@fp.needs_faces
def test_turned_heads():
    assert "found one turned away by 41 degrees" in warned(fp.photo("Alexander_Payne"))
    assert "found one turned away by 56 degrees" in refused(fp.photo("Bill_Clinton", 23))
    assert "turned away by 56 degrees" in warned(fp.photo("Bill_Clinton", 23), strict=False)


@fp.needs_pack
def test_the_camera_s_turn_is_undone(tmp_path):
    picture, face = woman()
    exif = Image.Exif()
    exif[0x0112] = 6
    image(np.rot90(picture)).save(tmp_path / "turned.png", exif=exif)
    (found,) = check(tmp_path / "turned.png")
    np.testing.assert_array_equal(found.face.landmarks, face.landmarks)
    assert found.warnings == ()


@fp.needs_pack
@pytest.mark.parametrize("mode, name", [("L", "grey.png"), ("L", "grey.jpg"), ("LA", "grey.png")])
def test_black_and_white_pictures_are_told(tmp_path, mode, name):
    image(fp.astronaut()).convert(mode).save(tmp_path / name)
    assert "the picture is black and white" in warned(tmp_path / name)


@fp.needs_pack
@pytest.mark.parametrize("mode, name", [("CMYK", "a.jpg"), ("RGBA", "a.png"), ("P", "a.gif"), ("RGB", "a.webp")])
def test_the_same_person_in_every_kind_of_file(tmp_path, mode, name):
    image(fp.astronaut()).convert(mode).save(tmp_path / name)
    plain, kind = check(image(fp.astronaut()), tmp_path / name)
    cosine = float(plain.embedding @ kind.embedding / np.linalg.norm(plain.embedding) / np.linalg.norm(kind.embedding))
    print(f"{mode} {name}: cosine {cosine:.4f} to the picture itself")
    assert kind.warnings == () and cosine > 0.95


@fp.needs_pack
def test_a_cut_out_face_stands_on_white(tmp_path):
    picture, face = woman()
    left, top, right, bottom = np.round(face.box).astype(int)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[top - 30 : bottom + 30, left - 30 : right + 30] = 255
    image(np.dstack([picture, alpha])).save(tmp_path / "cut.png")
    (found,) = check(tmp_path / "cut.png")
    assert found.picture[0, 0].tolist() == [255, 255, 255] and found.quality.side == pytest.approx(face.side, rel=0.1)


@fp.needs_pack
def test_every_picture_that_cannot_be_used_is_listed(tmp_path):
    image(fp.astronaut()).save(tmp_path / "good.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:20_000])
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    names = ["good.png", "empty.jpg", "letter.jpg", "cut.png", "black.png", "lost.png"]
    text = refused(*(tmp_path / name for name in names))
    head, found = text.split(" used: ")
    assert head == "references: 5 of 6 pictures cannot be" and "\n" not in text
    for name, said in zip(names[1:], re.split("; (?=reference )", found), strict=True):
        assert name in said and "expected" in said and "found" in said and said.startswith("reference ")


@fp.needs_faces
def test_pictures_of_one_person_are_accepted_together():
    paths = [fp.photo("George_W_Bush", number) for number in (3, 5, 8)]
    found = check(*paths, strict=False)
    assert [each.name for each in found] == [str(path) for path in paths]
    assert "another person" not in "".join(text for each in found for text in each.warnings)


@fp.needs_faces
def test_pictures_of_two_people_are_refused(tmp_path):
    bush, blair = fp.photo("George_W_Bush", 3), fp.photo("Alexander_Payne")
    shutil.copy(bush, tmp_path / "again.jpg")
    text = refused(bush, blair, tmp_path / "again.jpg", strict=False)
    assert "expected pictures of one person, found 2 people" in text
    assert f"person 1: {bush}, {tmp_path / 'again.jpg'}; person 2: {blair}" in text
    assert "keep one person's pictures" in text


# who is who, with embeddings given


def told_apart(*embeddings):
    """The check of pictures whose embeddings are these, all else good."""
    queue = iter(embeddings)
    landmarks = np.array([[204, 102], [248, 104], [225, 126], [207, 142], [244, 143]], np.float32)
    tools = FaceTools(
        lambda picture: [Face(np.array([182, 69, 273, 174], np.float32), landmarks, 0.9)],
        lambda crops: np.stack([vector := np.asarray(next(queue), float), *[np.roll(vector, 1)] * 4]),
    )
    return check_references([image(fp.astronaut())] * len(embeddings), tools)


def at(degrees, axis=1):
    vector = np.zeros(8)
    vector[0], vector[axis] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def test_two_are_one_person_over_a_third():
    """70 degrees is a cosine of 0.34, 100 degrees none: the middle picture links the outer ones."""
    found = told_apart(at(0), at(50), at(100))
    assert [each.warnings for each in found] == [()] * 3
    with pytest.raises(DataError, match=r"found 2 people .*a cosine of -0.17 at most"):
        told_apart(at(0), at(100))


def test_a_doubtful_likeness_is_a_warning():
    found = told_apart(at(0), at(10), at(80))
    assert [len(each.warnings) for each in found] == [0, 0, 1]
    assert "picture 3 in memory: perhaps another person than the rest" in found[2].warnings[0]


def test_three_people_are_three():
    with pytest.raises(DataError, match=r"found 3 people \(person 1: picture 1.*; person 2: picture 2.*; person 3"):
        told_apart(at(0), at(90), at(90, axis=2))


@fp.needs_pack
def test_spoilt_pixels_are_a_warning():
    """Which ones, and how surely, is tested in `test_damage.py`."""
    picture, _ = woman()
    for version, text in ((fp.posterised(picture, 2), "too few shades"), (fp.overexposed(picture, 2.5), "overexposed")):
        (found,) = check(image(version))
        assert sum(text in warning for warning in found.warnings) == 1
        assert found.warnings[-1].startswith("reference picture 1 in memory: ")
