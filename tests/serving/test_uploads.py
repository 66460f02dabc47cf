"""Pictures that people give: taken for their content, looked at at once, and nobody else's."""

import io

import numpy as np
import pytest
from PIL import Image

from mmjax.errors import DataError
from mmjax.serving.uploads import Uploads
from tests.helpers.hostile_files import encoded, movie, picture, png_bomb, png_header
from tests.serving.fakes import LIMITS, FakeModel

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path, FakeModel().look, LIMITS)


def jpeg(more=b""):
    return encoded("JPEG") + more  # what follows a JPEG is no part of it


def test_a_picture_is_checked_at_once_and_shown_with_the_face(uploads, tmp_path):
    good, odd = uploads.add("ann", "a", jpeg()), uploads.add("ann", "a", jpeg(b"odd"))
    assert not good.refused and not good.notes and good.path.read_bytes() == jpeg()
    assert odd.notes == ("picture 2: odd; look again",)
    shown = np.asarray(Image.open(io.BytesIO(good.shown)))
    assert shown[1, 5, 1] > shown[1, 5, 0] + 50  # the green box
    bad = uploads.add("ann", "a", jpeg(b"bad"))
    assert bad.refused == "picture 3: expected a face, found none" and str(tmp_path) not in bad.refused
    assert uploads.usable("ann", "a") == [good, odd] and uploads.of("ann", "a") == [good, odd, bad]
    with pytest.raises(DataError, match="expected at most 3"):
        uploads.add("ann", "a", jpeg())
    other = uploads.add("ann", "b", jpeg(b"other"))  # the second person is another one
    assert not other.refused
    mixed = uploads.add("ann", "b", jpeg())
    assert mixed.refused.endswith("found 2 people (picture 1, picture 2)")


def test_nobody_reaches_another_ones(uploads):
    given = uploads.add("ann", "a", jpeg())
    assert uploads.find("ann", given.id) is given
    assert uploads.find("bob", given.id) is None and not uploads.of("bob", "a")
    uploads.remove("bob", given.id)
    assert uploads.of("ann", "a") == [given]
    for identifier in ("", "../x", given.id[:-1], "ü"):
        assert uploads.find("ann", identifier) is None
    uploads.remove("ann", given.id)
    assert not given.path.exists() and not uploads.of("ann", "a")


def test_pictures_are_removed_when_their_time_has_come(tmp_path):
    now = [0.0]
    uploads = Uploads(tmp_path, FakeModel().look, LIMITS, lambda: now[0])
    uploads.add("ann", "a", jpeg())
    now[0] = LIMITS.keep_seconds + 1
    uploads.expire()
    assert not uploads.of("ann", "a") and not list(tmp_path.iterdir())


HOSTILE = {
    "nothing": b"",
    "noise": bytes(range(256)) * 20,
    "svg": SVG,
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "a video": movie,
    "a cut JPEG": jpeg()[:700],
    "a cut PNG": encoded("PNG")[:900],
    "a GIF without end": encoded("GIF")[:300],
    "a bomb": png_bomb,
    "many pixels": png_header(100_000, 100_000),
    "a few too many": lambda: encoded("PNG", np.zeros((1001, 1000, 3), np.uint8)),
    "a large file": b"\xff\xd8" + bytes(2**20),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a pickle": b"\x80\x04\x95",
    "a zip": b"PK\x03\x04" + bytes(200),
    "a playlist": b"#EXTM3U\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_picture_is_refused_in_one_line_and_leaves_nothing(uploads, tmp_path, case):
    content = HOSTILE[case]() if callable(HOSTILE[case]) else HOSTILE[case]
    with pytest.raises(DataError) as refused:
        uploads.add("ann", "a", content)
    assert str(refused.value).startswith("picture: ") and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir()) and not uploads.of("ann", "a")


def test_a_polyglot_is_shown_as_a_picture_and_nothing_else(uploads):
    given = uploads.add("ann", "a", jpeg(b"<script>alert(1)</script>"))
    assert b"script" not in given.shown and given.shown.startswith(b"\xff\xd8")
    assert b"Exif" not in given.shown


def test_another_persons_name_is_refused(uploads):
    with pytest.raises(DataError, match="person: expected one of a, b"):
        uploads.add("ann", "../a", jpeg())


def test_a_check_that_breaks_leaves_nothing(tmp_path):
    def breaks(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        Uploads(tmp_path, breaks, LIMITS).add("ann", "a", encoded("PNG", picture()))
    assert not list(tmp_path.iterdir())
