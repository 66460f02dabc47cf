"""Every format that can be read is taken, captions are found under their common names, and the rest is counted."""

import io

import numpy as np
import pytest
from PIL import Image

from mmjax import pictures
from mmjax.errors import DataError
from mmjax.preparation.inputs.decoding import read_photo, video_frames
from mmjax.preparation.inputs.kinds import HEIC, KINDS, Ignored
from mmjax.preparation.inputs.listing import list_items
from mmjax.preparation.inputs.manifests import read_manifest
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings
from tests.helpers.hostile_files import encoded, movie, picture, tar
from tests.test_video import CONTAINERS

SETTINGS = Settings()
PICTURES = {  # Pillow's format for each ending
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"), "JPEG"),
    **{".mpo": "MPO", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP", ".dib": "DIB"},
    **{".tif": "TIFF", ".tiff": "TIFF", ".jp2": "JPEG2000", ".jpx": "JPEG2000", ".jpf": "JPEG2000", ".qoi": "QOI"},
    **{".j2k": "JPEG2000", ".ppm": "PPM", ".pnm": "PPM"},
}
ELSEWHERE = {
    ".pgm",
    ".psd",
    ".qt",
    ".divx",
    ".3g2",
    ".mpe",
    ".mpeg",
    ".m1v",
    ".m2ts",
    ".asf",
}  # of one kind with others


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


@pytest.mark.parametrize("ending", PICTURES)
def test_photos_of_every_format(tmp_path, ending):
    data = encoded(PICTURES[ending])
    (item,), dropped, ignored = list_items([write(tmp_path, {f"a{ending}": data, f"a{ending}.txt": "A man"})])
    assert (item.kind, item.caption, dropped, ignored) == ("photo", "A man", [], [])
    assert np.abs(read_photo(item, SETTINGS).astype(int) - picture()).mean() < 20


@pytest.mark.parametrize("ending", CONTAINERS)
def test_videos_of_every_format(tmp_path, ending):
    form, codec, size = CONTAINERS[ending]
    (item,), _, _ = list_items([write(tmp_path, {f"a.{ending}": movie(form, codec, frames=5, size=size)})])
    assert item.kind == "video" and len(list(video_frames(item, SETTINGS))) == 5


def test_every_ending_that_is_taken_is_tried():
    tried = {*PICTURES, *(f".{ending}" for ending in CONTAINERS), *ELSEWHERE}
    assert {ending for ending, kind in KINDS.items() if kind != "tar"} == tried


def test_heic_is_a_photo_where_its_library_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    held = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(picture())).save(held, quality=95)
    folder = write(tmp_path, {"IMG_1.HEIC": held.getvalue(), "b.jpg": held.getvalue()})
    items, _, ignored = list_items([folder])
    assert [item.key for item in items] == ["IMG_1.HEIC", "b.jpg"] and not ignored
    for item in items:
        assert np.abs(read_photo(item, SETTINGS).astype(int) - picture()).mean() < 20


def test_heic_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "reads_heic", lambda: False)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    files = {f"a{ending}": heic for ending in HEIC}
    items, dropped, ignored = list_items([write(tmp_path, {**files, "b.jpg": heic})])
    assert {(each.ending, each.count) for each in ignored} == {(ending, 1) for ending in HEIC} and not dropped
    assert all('pip install "mmjax[heic]"' in each.reason for each in ignored)
    with pytest.raises(Rejected, match=r'HEIC, for which `pip install "mmjax\[heic\]"`') as caught:
        read_photo(items[0], SETTINGS)
    assert caught.value.reason == "unsupported"
    with pytest.raises(DataError, match=r"found another file \(HEIC, for which"):
        list_items([str(tmp_path / "a.heic")])


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": "A man"},
        {"a.TXT": "A man"},
        {"a.jpg.txt": "A man"},
        {"a.caption": "A man"},
        {"a.jpg.caption": "A man"},
        {"a.json": '{"caption": "A man"}'},
        {"a.jpg.json": '{"caption": "A man"}'},
        {"a.txt": "A man".encode("utf-16")},
        {"a.txt": "A man".encode("utf-16-le")},
    ],
)
def test_captions_under_their_common_names(tmp_path, files):
    folder = write(tmp_path, {"a.jpg": "x", **files})
    for place in (folder, f"{folder}/a.jpg"):
        (item,), dropped, ignored = list_items([place])
        assert (item.caption, dropped, ignored) == ("A man", [], [])


def test_captions_lie_in_tars_as_in_folders(tmp_path):
    folder = write(
        tmp_path, {"s.tar": tar(("p/a.jpg", b"x"), ("p/a.jpg.txt", b"A man"), ("p/b.jpg", b"x"), ("p/.c", b""))}
    )
    items, _, ignored = list_items([folder])
    assert [item.caption for item in items] == ["A man", None]
    assert ignored == [Ignored("without ending", 1, "a hidden file or folder")]


def test_an_accent_of_windows_is_kept(tmp_path):
    (item,), _, _ = list_items([write(tmp_path, {"a.jpg": "x", "a.txt": "Zoë’s café".encode("cp1252")})])
    assert item.caption == "Zoë’s café"


def test_a_caption_in_an_unknown_encoding_drops_its_picture(tmp_path):
    items, (drop,), _ = list_items([write(tmp_path, {"a.jpg": "x", "a.txt": "мужчина".encode("cp1251")})])
    assert not items and drop.reason == "no_caption" and "save it as UTF-8" in drop.detail


def test_what_is_not_taken_is_counted_with_a_reason(tmp_path):
    files = {
        **{f"{number}.CR2": "x" for number in range(3)},
        **{"good.jpg": "x", "good.txt": "A man", "good.caption": "A woman", "b.jpg": "x", "b.json": '{"width": 3}'},
        **{"prompts.txt": "A man\n", "metadata.jsonl": "{}", "page.html": "x", "README": "x", ".DS_Store": "x"},
        **{"film.rmvb": "x", "list.m3u8": "x", "all.zip": "x", "voice.mp3": "x", "c.svg": "x", "odd.xyz\n": "x"},
    }
    _, dropped, ignored = list_items([write(tmp_path, files)])
    found = {(each.ending, each.count): each.reason for each in ignored}
    assert ignored[0] == Ignored(".cr2", 3, "a camera's raw picture; develop it to JPEG or PNG") and not dropped
    assert found[".txt", 1] == "text that belongs to no photo or video of its name"
    assert found[".caption", 1] == "a second text beside a photo or video, of which the first is read"
    assert found[".json", 1] == 'JSON without "caption" or "person"'
    assert "--manifest" in found[".jsonl", 1] and found["without ending", 1]
    assert {".html", ".rmvb", ".m3u8", ".zip", ".mp3", ".svg", ".xyz\\n"} <= {ending for ending, _ in found}
    assert sum(each.count for each in ignored) == len(files) - 3


def test_an_input_of_nothing_else_says_what_is_there(tmp_path):
    with pytest.raises(DataError, match="found none but 2 .nef: a camera's raw picture; develop it"):
        list_items([write(tmp_path, {"a.nef": "x", "b.NEF": "x"})])


ROWS = 'path{0}caption{0}person\nanna/1.jpg{0}"A man, smiling; Zoë"{0}ben\n'


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("head", ["", "sep={0}\n"])
def test_manifests_as_spreadsheets_save_them(tmp_path, separator, encoding, head):
    text = (head + ROWS).format(separator)
    (tmp_path / "list.csv").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    (line,) = read_manifest(tmp_path / "list.csv")
    assert (line.path, line.caption, line.person, line.role) == ("anna/1.jpg", "A man, smiling; Zoë", "ben", "both")


@pytest.mark.parametrize("head", ["", "sep=;\n"])
def test_a_wrong_line_keeps_its_number(tmp_path, head):
    (tmp_path / "list.csv").write_text(head + "path;role\n1.jpg;both\n2.jpg;star\n")
    with pytest.raises(DataError, match=f"line {4 if head else 3}: expected a role of .*, found 'star'"):
        read_manifest(tmp_path / "list.csv")


def test_a_manifest_in_an_unknown_encoding_is_refused(tmp_path):
    (tmp_path / "list.jsonl").write_bytes('{"path": "1.jpg", "caption": "мужчина"}'.encode("cp1251"))
    with pytest.raises(DataError, match="list.jsonl: expected UTF-8 text, found what does not read .*save it as UTF-8"):
        read_manifest(tmp_path / "list.jsonl")


def test_paths_with_backslashes_lead_where_they_lead_on_windows(tmp_path):
    rows = [
        "path",
        r"anna\1.jpg",
        r".\ben\2.jpg",
        r"C:\Users\me\3.jpg",
        r"\\server\share\4.jpg",
        r"..\up.jpg",
        "odd\\5.jpg",
    ]
    files = {"anna/1.jpg": "x", "ben/2.jpg": "x", "odd\\5.jpg": "x", "list.csv": "\n".join(rows)}
    items, dropped, _ = list_items([], manifest=write(tmp_path / "set", files) + "/list.csv")
    assert [item.key for item in items] == ["anna/1.jpg", "ben/2.jpg", "odd\\5.jpg"]
    assert {drop.detail.partition(";")[0] for drop in dropped} == {
        "a path of a Windows machine",
        "its path leads out of the manifest's folder and of the inputs",
    }


def test_a_manifest_names_why_a_file_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "reads_heic", lambda: False)
    folder = write(tmp_path, {"a.heic": "x", "a.txt": "x", "list.csv": "path\na.heic\na.txt\n"})
    _, dropped, _ = list_items([], manifest=f"{folder}/list.csv")
    assert "neither a photo nor a video that is read: HEIC" in dropped[0].detail
    assert dropped[1].detail == "neither a photo nor a video"


def test_a_picture_that_is_turned_and_mirrored_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 5
    item = Item("a.png", "photo", write(tmp_path, {"a.png": encoded("PNG", exif=exif)}) + "/a.png", "test")
    np.testing.assert_array_equal(read_photo(item, SETTINGS), picture().transpose(1, 0, 2))
