"""Faces are found in pictures of every framing, aligned as ArcFace asks, and cropped for CLIP."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mmjax.errors import CheckpointError
from mmjax.faces import detection
from mmjax.faces.detection import Face, align, alignment, crop_portrait, load_detector
from tests.helpers import face_pictures as fp

TURNED = np.array([[60, 80], [118, 92], [80, 118], [58, 138], [104, 148]], np.float32)  # landmarks of a tilted head


def face(left, top, right, bottom, score=0.9):
    return Face(np.array([left, top, right, bottom], np.float32), TURNED, score)


def test_alignment_puts_a_moved_template_back():
    angle, size, shift = np.radians(25), 3.7, (140, -60)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = alignment(detection.TEMPLATE @ turn.T + shift)
    points = np.column_stack([detection.TEMPLATE @ turn.T + shift, np.ones(5)])
    np.testing.assert_allclose(points @ matrix.T, detection.TEMPLATE, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("side", [112, 224])
def test_aligned_crops_are_those_of_insightface(side):
    from insightface.utils import face_align

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (200, 220, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(picture, TURNED, side), face_align.norm_crop(picture, TURNED, side))
    for mirrored in (1, -1):  # nearest to a mirrored face is a turned one
        points = ((TURNED - 100) * [mirrored, 1] * 8 + 1500 + rng.normal(size=(200, 5, 2)) * 40).astype(np.float32)
        ours = np.stack([alignment(each, side) for each in points])
        np.testing.assert_array_equal(ours, np.stack([face_align.estimate_norm(each, side) for each in points]))
    assert np.isnan([alignment(np.full((5, 2), 0.0), side), alignment(np.full((5, 2), np.nan), side)]).all()


def test_landmarks_follow_the_alignment():
    """A picture with a dot on each landmark has the dots where the matrix says."""
    picture = np.zeros((200, 200, 3), np.uint8)
    for x, y in np.round(TURNED).astype(int):
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    moved = np.column_stack([np.round(TURNED), np.ones(5)]) @ alignment(TURNED).T
    crop = align(picture, TURNED)
    assert all(crop[round(y), round(x), 0] > 200 for x, y in moved)


@pytest.mark.parametrize(
    "box, corner, length",
    [
        ((180, 120, 220, 170), (150, 95), 100),  # twice the longer side, round the centre
        ((0, 0, 40, 50), (0, 0), 100),  # moved into the picture
        ((370, 260, 400, 300), (320, 220), 80),
        ((100, 20, 300, 280), (50, 0), 300),  # shrunk to the shorter side
    ],
)
def test_portraits_hold_the_face_and_stay_in_the_picture(box, corner, length):
    rows, columns = np.mgrid[:300, :400]
    picture = np.stack([rows // 2, columns // 2, np.full_like(rows, 77)], -1).astype(np.uint8)
    (x, y), crop = corner, crop_portrait(picture, face(*box), length)
    np.testing.assert_array_equal(crop, picture[y : y + length, x : x + length])


def test_a_strip_lower_than_the_face_is_filled_with_black():
    crop = crop_portrait(np.full((40, 300, 3), 200, np.uint8), face(100, -30, 150, 70), 100)
    assert (
        crop.shape == (100, 100, 3) and np.all(crop[30:70] == 200) and np.all(crop[:30] == 0) and np.all(crop[70:] == 0)
    )


def test_portraits_shrink_without_aliasing():
    stripes = np.tile(np.array([0, 255], np.uint8), 400)[None, :, None] * np.ones((800, 1, 3), np.uint8)
    crop = crop_portrait(stripes, face(200, 200, 600, 600), 100)
    assert np.abs(crop.astype(int) - 127).max() <= 8


@fp.needs_pack
def test_six_people_are_found_where_they_stand(capsys):
    found = load_detector(fp.PACK)(fp.read(fp.SIX))
    assert not any(capsys.readouterr())
    assert len(found) == 6 and all(each.score > 0.7 and 120 < each.side < 160 for each in found)
    assert [each.area for each in found] == sorted((each.area for each in found), reverse=True)
    for each in found:
        left, top, right, bottom = each.box
        (x, y), (other, _) = each.landmarks[:2]
        assert left < x < other < right and top < y < bottom


@fp.needs_pack
@pytest.mark.parametrize("height, width", [(300, 200), (8, 2000), (1, 1), (1, 2000), (2000, 3)])
def test_nobody_is_found_in_a_plain_picture(height, width):
    assert fp.tools().detect(np.full((height, width, 3), 128, np.uint8)) == []


@fp.needs_pack
@pytest.mark.parametrize("framing", ["tight", "as it is", "small in a large picture", "on its edge"])
def test_a_face_is_found_in_any_framing(framing):
    """The landmarks stay on the same spots of the same woman, so that the crops of the encoders do not jump."""
    picture = fp.astronaut()
    wanted = fp.main_face(picture)
    left, top, right, bottom = np.round(wanted.box).astype(int)
    shift, scale = np.zeros(2), 1.0
    if framing == "tight":
        picture, shift = picture[top - 5 : bottom + 5, left - 5 : right + 5], np.array([left - 5, top - 5])
    if framing == "small in a large picture":
        image = Image.new("RGB", (3000, 2400))
        image.paste(Image.fromarray(picture).resize((256, 256), Image.Resampling.LANCZOS), (2500, 100))
        picture, scale, shift = np.asarray(image), 0.5, np.array([-2500, -100]) * 2
    if framing == "on its edge":
        picture, shift = picture[top:, left:], np.array([left, top])
    found = fp.tools().detect(picture)
    assert len(found) == 1
    error = np.abs(found[0].landmarks / scale + shift - wanted.landmarks).max() / wanted.side
    print(f"{framing}: landmarks move by {error:.1%} of the face")
    assert error < 0.08


@fp.needs_faces
def test_faces_that_fill_their_pictures_are_found():
    """Forty tight crops and fifteen portraits: one face each, of which the whole picture alone shows eight."""
    paths = [*sorted(fp.TIGHT.glob("*/*.png")), *sorted(path for path in fp.PORTRAITS.glob("*/*") if path.is_file())]
    detector, found, whole = fp.tools().detect, [], 0
    for path in paths:
        picture = fp.read(path)
        found.append(len(detector(picture)))
        whole += bool(detector._detect(np.ascontiguousarray(picture[..., ::-1]), 640))
    print(f"{len(paths)} pictures filled by a face: found in {sum(map(bool, found))}, without a border in {whole}")
    assert found == [1] * 55 and whole < 15


@fp.needs_pack
def test_the_detector_is_taken_from_a_pack_or_a_file():
    picture = fp.read(fp.SIX)
    one, other = load_detector(fp.PACK), load_detector(fp.PACK / "scrfd_500m_bnkps.onnx")
    assert one.fingerprint == other.fingerprint and "scrfd_500m_bnkps.onnx" in one.fingerprint
    np.testing.assert_array_equal(one(picture)[0].landmarks, other(picture)[0].landmarks)


@pytest.mark.parametrize("name", ["antelopev2", "antelopev2/det.onnx"])
def test_models_that_are_not_there(tmp_path, name):
    with pytest.raises(CheckpointError, match="antelopev2.*found nothing; download .* non-commercial research"):
        load_detector(tmp_path / name)


def test_an_empty_folder_of_models(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected \*.onnx files, found none; download .* non-commercial"):
        load_detector(tmp_path)


def test_a_download_that_unpacked_one_folder_deeper_is_pointed_at(tmp_path):
    nested = tmp_path / "models" / "antelopev2" / "antelopev2"
    nested.mkdir(parents=True)
    (nested / "scrfd_10g_bnkps.onnx").touch()
    for folder in (tmp_path, tmp_path / "models", tmp_path / "models" / "antelopev2"):
        with pytest.raises(CheckpointError) as error:
            load_detector(folder)
        assert (
            str(error.value) == f"face models {folder}: expected *.onnx files, found them in {nested}: give that folder"
        )


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"])
def test_a_model_that_is_no_network(tmp_path, content):
    (tmp_path / "det_10g.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"det_10g.onnx: expected an ONNX network, found {len(content)} bytes"):
        load_detector(tmp_path)


def test_another_kind_of_file(tmp_path):
    (tmp_path / "face.jpg").touch()
    with pytest.raises(CheckpointError, match="face.jpg: expected a folder with .*, found another kind of file; down"):
        load_detector(tmp_path / "face.jpg")


@fp.needs_pack
def test_a_pack_without_a_detector_or_with_two(tmp_path):
    shutil.copy(fp.RECOGNISER, tmp_path)
    with pytest.raises(CheckpointError, match="expected one face detector .*, found none among w600k_mbf.onnx"):
        load_detector(tmp_path)
    with pytest.raises(
        CheckpointError, match="w600k_mbf.onnx: expected a face detector .* found a network with 1; give the folder"
    ):
        load_detector(tmp_path / "w600k_mbf.onnx")
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(fp.PACK / "scrfd_500m_bnkps.onnx", tmp_path / name)
    with pytest.raises(CheckpointError, match="expected one face detector .*, found a.onnx, b.onnx"):
        load_detector(tmp_path)
