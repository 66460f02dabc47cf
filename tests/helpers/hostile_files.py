"""Files that mean no good, or that a bad disk made: each with the names it is to be found under.

make_hostile(folder) -> {key: expectation}, where an expectation is
  "picture" or "video"   it is one after all, and decodes
  "either"               damage so near to the end that it may decode; whatever comes is whole pictures
  a tuple of reasons     it is rejected for one of them
  None                   it is no item at all
"""

import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

BAD, LARGE = ("unreadable",), ("too_large",)
EITHER = "either"


def picture(height=48, width=64, seed=0) -> np.ndarray:
    """A smooth picture with some grain."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 7 + seed), np.cos(y / 5 + seed), np.sin((x + y) / 9)], -1)
    return (127 + 90 * waves + np.random.default_rng(seed).normal(0, 9, waves.shape)).clip(0, 255).astype(np.uint8)


def encoded(form: str, array=None, **options) -> bytes:
    """A picture as a file of Pillow's format `form`."""
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(picture() if array is None else array)
    image.save(file, form, **options)
    return file.getvalue()


def movie(form="mp4", codec="libx264", frames=30, size=(64, 48), rate=25, fast_start=False) -> bytes:
    """A little video."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        if codec == "libx264":  # the same bytes each time, so that a cut is always in the same picture
            stream.codec_context.thread_count, stream.options = 1, {"x264-params": "asm=sse4.2"}
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(size[1], size[0], index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return _index_first(file.getvalue()) if fast_start else file.getvalue()


def _index_first(mp4: bytes) -> bytes:
    """The index in front of the pictures, whose places in it move by its length."""
    data, index = mp4.index(b"mdat") - 4, mp4.index(b"moov") - 4
    moov = bytearray(mp4[index:])
    at = moov.index(b"stco") + 8
    for place in range(at + 4, at + 4 + 4 * struct.unpack(">I", moov[at : at + 4])[0], 4):
        moov[place : place + 4] = struct.pack(">I", struct.unpack(">I", moov[place : place + 4])[0] + len(moov))
    return mp4[:data] + bytes(moov) + mp4[data:index]


def sound() -> bytes:
    """An mp4 with sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 16000
        for index in range(10):
            tone.pts = index * 1024
            container.mux(stream.encode(tone))
        container.mux(stream.encode())
    return file.getvalue()


def png_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that says how large it is and has nearly nothing in it."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def png_bomb(side: int = 50_000) -> bytes:
    """Kilobytes that are billions of bytes of pixels: zeros, compressed piece by piece."""
    packer, rows = zlib.compressobj(9), []
    for _ in range(40):
        rows.append(packer.compress(bytes(1 << 20)))
    data = b"".join(rows) + packer.flush()
    header = png_header(side, side)
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return header[:33] + chunk + header[-12:]


def gif(count: int, canvas=(1, 1), size=(1, 1)) -> bytes:
    """A GIF written by hand: `count` pictures of `size` on a canvas, looping for ever."""
    head = b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    loop = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    frame = b"\x21\xf9\x04\0\x02\0\0\0" + b"\x2c\0\0\0\0" + struct.pack("<HH", *size) + b"\0" + b"\x02\x02\x44\x01\0"
    return head + loop + frame * count + b"\x3b"


def tar(*members) -> bytes:
    """A tar of (name, bytes) or of TarInfo that have no content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def _special(name, kind, target="") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def make_hostile(folder: Path) -> dict:
    """Writes them all; see the module's head. Takes about a second."""
    jpeg, png, webp = encoded("JPEG"), encoded("PNG"), encoded("WEBP")
    mp4, fast, mpeg = movie(), movie(fast_start=True), movie("mpeg", "mpeg1video")
    gif_movie = movie("gif", "gif")
    files: dict[str, tuple[bytes, object]] = {
        **_cut("photo-{}.jpg", jpeg, (0.02, 0.3, 0.7)),
        **_cut("photo-{}.png", png, (0.02, 0.3, 0.7)),
        **_cut("photo-{}.webp", webp, (0.02, 0.3, 0.7)),
        **_cut("video-{}.mp4", mp4, (0.02, 0.3, 0.7, 0.95)),
        **_cut("fast-{}.mp4", fast, (0.5, 0.8)),
        **_cut("film-{}.mpg", mpeg, (0.001,)),
        **_cut("loop-{}.gif", gif_movie, (0.01,)),
        "film-0.8.mpg": (mpeg[: len(mpeg) * 8 // 10], BAD),
        "loop-0.8.gif": (gif_movie[: len(gif_movie) * 8 // 10], BAD),
        **_empty(),
        **_odd_pictures(jpeg),
        **_odd_videos(mp4, folder),
        **_wrong_names(jpeg, png, mp4, gif_movie),
        **_captions(jpeg),
    }
    expected = {}
    for name, (data, expectation) in files.items():
        (folder / name).write_bytes(data)
        expected[name] = expectation
    return {**expected, **_tars(folder, jpeg), **_strange_entries(folder, jpeg)}


def _cut(name, data, shares):
    return {name.format(share): (data[: max(1, int(len(data) * share))], BAD) for share in shares}


def _empty():
    noise = np.random.default_rng(0).bytes(5000)
    endings = ("jpg", "png", "webp", "mp4", "mkv", "gif")
    return {
        **{f"empty.{end}": (b"", BAD) for end in endings},
        **{f"zeros.{end}": (bytes(5000), BAD) for end in endings},
        **{f"noise.{end}": (noise, BAD) for end in endings},
        "empty.tar": (b"", BAD),
        "noise.tar": (noise, BAD),
    }


def _odd_pictures(jpeg):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = encoded("JPEG", exif=exif.tobytes())
    wide = encoded("PNG", np.zeros((1, 65535, 3), np.uint8))
    deep = encoded("PNG", Image.fromarray((np.arange(3072).reshape(48, 64) * 21).astype(np.uint16)))
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    broken = bytearray(jpeg)
    broken[len(jpeg) // 2 : len(jpeg) // 2 + 40] = bytes(40)
    return {
        "bomb.png": (png_bomb(), LARGE),
        "side.png": (png_header(100_000, 100_000), LARGE),
        "sides.png": (png_header(2**31 - 1, 2**31 - 1), (*BAD, *LARGE)),
        "nothing.png": (png_header(0, 0), BAD),
        "hollow.png": (png_header(2000, 2000), BAD),
        "text.png": (_text_bomb(), (*BAD, "picture")),
        "wide.png": (wide, "picture"),
        "dot.png": (encoded("PNG", np.zeros((1, 1, 3), np.uint8)), "picture"),
        "deep.png": (deep, "picture"),
        "cmyk.jpg": (encoded("JPEG", Image.fromarray(picture()).convert("CMYK")), "picture"),
        "turned.jpg": (turned, "picture"),
        "exif.jpg": (encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(range(200))), "picture"),
        "colours.jpg": (encoded("JPEG", icc_profile=bytes(range(256)) * 4), "picture"),
        "scratched.jpg": (bytes(broken), EITHER),
        "moving.webp": (encoded("WEBP", frames[0], save_all=True, append_images=frames[1:]), "picture"),
        "large.jpg": (_jpeg_of_size(jpeg, 65500, 65500), LARGE),
    }


def _odd_videos(mp4, folder):
    other = os.fsencode(folder / "still.mp4")  # a sound video, so that nothing but a refusal keeps it from being read
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n" % other
    return {
        "many.gif": (gif(10_000), "video"),
        "canvas.gif": (gif(2, canvas=(65535, 65535)), LARGE),
        "board.gif": (gif(2, canvas=(11_000, 11_000)), LARGE),
        "frame.gif": (gif(1), "video"),
        "none.gif": (gif(0), BAD),
        "sound.mp4": (sound(), BAD),
        "still.mp4": (movie(frames=1), "video"),
        "timeless.mp4": (_without_duration(mp4), EITHER),
        "frameless.mp4": (mp4[mp4.index(b"moov") - 4 :], BAD),
        "playlist.mp4": (playlist, BAD),
        "list.mkv": (b"ffconcat version 1.0\nfile %s\n" % other, BAD),
        "boxes.mp4": (mp4[:32] + struct.pack(">I", 0xFFFFFFFF) + b"free" + bytes(100), BAD),
    }


def _wrong_names(jpeg, png, mp4, gif_movie):
    page = b"<!DOCTYPE html><html><body>404 not found</body></html>"
    packed = b"PK\x03\x04" + bytes(100)
    return {
        "text.jpg": (b"no picture at all\n", BAD),
        "page.mp4": (page, BAD),
        "page.webp": (page, BAD),
        "video.jpg": (mp4, BAD),
        "photo.mp4": (jpeg, BAD),
        "photo.mkv": (png, BAD),
        "really.png": (jpeg, "picture"),
        "really.jpg": (gif_movie, "picture"),
        "really.mkv": (mp4, "video"),
        "packed.jpg": (packed, BAD),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BAD),
    }


def _captions(jpeg):
    return {
        **{f"said-{name}.jpg": (jpeg, ("no_caption",)) for name in ("binary", "large", "nested", "list", "wrong")},
        "said-binary.txt": (bytes(range(256)), None),
        "said-large.txt": (b"a" * (3 << 20), None),
        "said-nested.json": (b"[" * 100_000, None),
        "said-list.json": (b"[1]", None),
        "said-wrong.json": (json.dumps({"caption": {"a": 1}}).encode(), None),
        "said-empty.jpg": (jpeg, "picture"),
        "said-empty.txt": (b"", None),
    }


def _text_bomb():
    """A PNG with a compressed text of 200 MB."""
    packer = zlib.compressobj(9)
    text = b"Comment\0\0" + b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    whole = encoded("PNG")
    return (
        whole[:33]
        + struct.pack(">I", len(text))
        + b"zTXt"
        + text
        + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        + whole[33:]
    )


def _jpeg_of_size(jpeg, height, width):
    """A JPEG whose header tells another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def _without_duration(mp4):
    """An mp4 whose headers say that it lasts no time."""
    at = mp4.index(b"mvhd") + 4 + 16
    return mp4[:at] + bytes(4) + mp4[at + 4 :]


def _tars(folder, jpeg):
    """Archives, and what is expected of their members."""
    escape = tar(
        ("../up.jpg", jpeg),
        ("/root.jpg", jpeg),
        ("a/../../b.jpg", jpeg),
        _special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        _special("hard.jpg", tarfile.LNKTYPE, "/etc/shadow"),
        _special("device.jpg", tarfile.CHRTYPE),
        _special("pipe.jpg", tarfile.FIFOTYPE),
        ("inner.tar", tar(("x.jpg", jpeg))),
        ("good/1.jpg", jpeg),
    )
    (folder / "escape.tar").write_bytes(escape)
    long = tar(("one.jpg", jpeg), ("two.jpg", jpeg), ("three.jpg", jpeg))
    (folder / "cut.tar").write_bytes(long[: len(long) - 10240 + 700 if len(jpeg) > 9000 else len(jpeg) + 1600])
    huge = bytearray(tar(("huge.jpg", jpeg)))
    _patch_size(huge, 8**11 - 1)
    (folder / "huge.tar").write_bytes(bytes(huge))
    (folder / "shard.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    (folder / "packed.tar").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    header = bytearray(tar(_special("long.jpg", tarfile.XHDTYPE)))
    _patch_size(header, 8**10)
    (folder / "header.tar").write_bytes(bytes(header))
    names = ("../up.jpg", "/root.jpg", "a/../../b.jpg", "link.jpg", "hard.jpg", "device.jpg", "pipe.jpg", "inner.tar")
    return {
        **{f"escape.tar/{name}": BAD for name in names},
        "escape.tar/good/1.jpg": "picture",
        "cut.tar/one.jpg": "picture",
        "cut.tar/two.jpg": BAD,
        "cut.tar": BAD,
        "huge.tar/huge.jpg": BAD,
        "huge.tar": BAD,
        "shard.tar.gz": BAD,
        "packed.tar": BAD,
        "header.tar": BAD,
    }


def _patch_size(archive: bytearray, size: int):
    """Another size in the first header, with its checksum made good."""
    archive[124:136] = b"%011o\0" % size
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])


def _strange_entries(folder, jpeg):
    """Entries that are no plain files, and names that are no plain names."""
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(jpeg)
    os.symlink(folder / "round.jpg", folder / "round.jpg")
    os.symlink("/nowhere/at/all.jpg", folder / "dangling.jpg")
    os.symlink("/etc/passwd", folder / "passwd.jpg")
    os.symlink("/dev/zero", folder / "device.mp4")
    os.symlink("..", folder / "folder.jpg" / "loop")
    for name in ("line\nbreak.jpg", "Zoë 日本 🙂.jpg", "n" * 251 + ".jpg", "-rf.jpg", "%s{}$(id).jpg"):
        (folder / name).write_bytes(jpeg)
    with open(os.path.join(os.fsencode(folder), b"bytes-\xff\xfe.jpg"), "wb") as file:
        file.write(jpeg)
    (folder / ".hidden.jpg").write_bytes(jpeg)
    return {
        **dict.fromkeys(("pipe.jpg", "pipe.mp4", "round.jpg", "dangling.jpg", "passwd.jpg", "device.mp4"), BAD),
        "folder.jpg/inside.jpg": "picture",
        "line\\nbreak.jpg": "picture",
        "Zoë 日本 🙂.jpg": "picture",
        "n" * 251 + ".jpg": "picture",
        "-rf.jpg": "picture",
        "%s{}$(id).jpg": "picture",
        "bytes-\\xff\\xfe.jpg": "picture",
        ".hidden.jpg": None,
    }
