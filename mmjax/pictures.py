"""The one reader of pictures: upright, in sRGB, whatever kind of file and however its camera was held.

Honoured are the orientation (mirrored ones too), colour profiles, PQ, HLG and wide gamuts, transparency (on white), and
greys and colours of more than 8 bits, also where 10, 12 or 14 of them lie in 16. Of an animation the first picture
is read that shows something.
"""

import contextlib
import importlib.util
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, ImageSequence

from mmjax import colours
from mmjax.errors import DataError, MediaError, error_text

# as Pillow calls them; each knows its files by their first bytes, and none starts another program, as EPS does
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "HEIF")
ENDINGS = (  # of names; what a file is, its content says
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp"),
    *(".bmp", ".dib", ".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpx", ".jpf"),
    *(".ppm", ".pgm", ".pnm", ".qoi", ".psd"),
)
MAX_PIXELS = 100_000_000  # of a picture: a small file can unpack to gigabytes
NEEDS_HEIF = 'HEIC, for which `pip install "mmjax[heic]"` brings a reader'

_HEAD = 1 << 16  # bytes in which a file says how its colours are coded
_FEW_BITS = (8, 10, 12, 14)  # of samples that are stored in 16
_FRAMES = 100  # of an animation that are looked at
_PLAIN = 8  # levels between the darkest and the brightest sample of a picture that shows nothing
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


class NoPicture(MediaError):
    """The file is no picture at all, by its content."""

    def __init__(self):
        super().__init__("unreadable", "a file that is no picture")


def reads_heic() -> bool:
    """Whether the library for HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def open_picture(file: BinaryIO, max_pixels: float = MAX_PIXELS) -> Image.Image:
    """A picture as `to_rgb` of it, upright as its camera meant it; of an animation the first that shows something.

    Args:
      file: seekable.
      max_pixels: held before a pixel is decoded.

    Raises:
      MediaError: `NoPicture` for what is none of `FORMATS`; damage, too many pixels, or HEIC without its library.
    """
    with _media_errors(), _own_limits():
        opened = _opened(file)
        with opened:
            _check_pixels(opened, max_pixels)
            deep = _is_deep(opened)
            picture = to_rgb(_coded_as(_upright(opened), file))
            if deep and _brightest(picture, opened) < 1 << _FEW_BITS[-1] - 8:
                picture = to_rgb(_upright(opened, _few_bits(file, opened)))
            return _first_shown(opened, picture) if shows_nothing(picture) else picture


def animation_frames(file: BinaryIO, max_pixels: float = MAX_PIXELS) -> Iterator[tuple[float, Image.Image]]:
    """Seconds since the first one, and the picture as `to_rgb` of it, of every picture in an animated file.

    Raises `MediaError` as `open_picture` does.
    """
    with _media_errors(), _own_limits(), _opened(file) as opened:
        _check_pixels(opened, max_pixels)
        clock = 0.0
        for frame in ImageSequence.Iterator(opened):
            yield clock, to_rgb(frame)
            clock += frame.info.get("duration", 0) / 1000


def format_of(file: BinaryIO) -> str:
    """What kind of picture a file is, as Pillow calls it; "" for none. A GIF is none: it may as well be a video."""
    with contextlib.suppress(Exception), _own_limits(), _opened(file) as opened:
        return "" if opened.format == "GIF" else opened.format
    return ""


def texts_of(file: BinaryIO) -> dict[str, str]:
    """What a PNG says of itself in text, by keywords; {} for other pictures. Raises `MediaError` for none."""
    with _media_errors(), _own_limits(), _opened(file) as opened:
        return {str(keyword): str(text) for keyword, text in getattr(opened, "text", {}).items()}


def read_picture(path: str | os.PathLike) -> Image.Image:
    """The picture of a file, as `open_picture` reads it.

    Raises:
      DataError: the file is missing, no picture, damaged, or larger than `MAX_PIXELS`; named with what to do.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise DataError(
                f"reference picture {path}: expected a picture file, found a folder or device; name the file"
            )
        with open(path, "rb") as file:
            return open_picture(file)
    except MediaError as error:
        raise DataError(_refusal(path, error)) from error
    except FileNotFoundError as error:
        raise DataError(f"reference picture {path}: expected a picture file, found none; check the path") from error
    except (OSError, ValueError) as error:
        found = error_text(error)
        raise DataError(
            f"reference picture {path}: expected a picture file, found one that cannot be opened ({found}); check its "
            "path and permissions"
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB in sRGB, its other `info` kept.

    What shows through is white. Greys of 16 bits or of floats are scaled, not clipped. A colour profile is converted
    where it is sound, which wide-gamut phone pictures and CMYK need; otherwise numbers are taken for sRGB.
    """
    info, profile = dict(image.info), image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    image = _without_alpha(image)
    if image.mode in ("RGB", "CMYK", "L") and profile:
        image = _in_srgb(image, profile)
    image = image.convert("RGB")
    image.info = {key: value for key, value in info.items() if key not in ("icc_profile", "transparency")}  # both spent
    return image


def shows_nothing(picture: Image.Image) -> bool:
    """Whether an RGB picture is of one colour, but for noise."""
    return all(high - low <= _PLAIN for low, high in picture.getextrema())


def _refusal(path: str | os.PathLike, error: MediaError) -> str:
    if error.reason == "too_large":
        return f"reference picture {path}: found {error.detail}; save it smaller, 2000 pixels a side are plenty"
    if error.reason == "unsupported":
        return (
            f"reference picture {path}: expected a picture that can be read, found {error.detail}; or save it as JPEG"
        )
    return (
        f"reference picture {path}: expected a PNG, JPEG, WebP or the like, found a file that does not decode "
        f"({error.detail}); open and save it again with a picture program"
    )


def _opened(file: BinaryIO) -> Image.Image:
    """Pillow's picture, not yet decoded."""
    file.seek(0)
    heic = _is_heic(file.read(64))
    if heic and not reads_heic():
        raise MediaError("unsupported", NEEDS_HEIF)
    if heic:
        import pillow_heif

        pillow_heif.register_heif_opener()
    file.seek(0)
    Image.init()
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except Image.UnidentifiedImageError:
        raise NoPicture() from None


def _check_pixels(opened: Image.Image, max_pixels: float) -> None:
    if opened.width * opened.height > max_pixels:
        found = f"{opened.width}x{opened.height} pixels, expected at most {max_pixels / 1e6:g} million"
        raise MediaError("too_large", found, opened.width * opened.height / 1e6)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC and b"avif" not in head


def _upright(opened: Image.Image, pixels: Image.Image | None = None) -> Image.Image:
    """Turned by its EXIF tag; a picture with broken EXIF is taken as it is.

    Args:
      pixels: others of the same picture, in its place.
    """
    opened.load()
    if pixels is not None:
        pixels.info = dict(opened.info)
        with contextlib.suppress(Exception):
            pixels.getexif()[0x0112] = opened.getexif().get(0x0112, 1)
    image = opened if pixels is None else pixels
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _first_shown(opened: Image.Image, blank: Image.Image) -> Image.Image:
    """The first picture of an animation that shows something, or the blank one."""
    with contextlib.suppress(Exception):  # at the end, or at a damaged place
        for number in range(1, _FRAMES):
            opened.seek(number)
            picture = to_rgb(_upright(opened))
            if not shows_nothing(picture):
                return picture
    return blank


def _coded_as(image: Image.Image, file: BinaryIO) -> Image.Image:
    """In sRGB where the file says by H.273's numbers (AVIF, HEIC, PNG) that it is PQ, HLG or of a wide gamut."""
    primaries, transfer = _coding(file)
    curve, gamut = colours.TRANSFERS.get(transfer, "srgb"), colours.PRIMARIES.get(primaries, "srgb")
    if (curve, gamut) == ("srgb", "srgb") or (image.info.get("icc_profile") and curve == "srgb"):
        return image
    image.info.pop("icc_profile", None)
    codes = np.asarray(_without_alpha(image).convert("RGB")).astype(np.uint16) * 257
    return Image.fromarray(colours.to_srgb(codes, curve, gamut))


def _coding(file: BinaryIO) -> tuple[int, int]:
    """Primaries and transfer; zeros where the file's head does not tell them."""
    at = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(at)  # where Pillow goes on to the next picture
    if head.startswith(b"\x89PNG"):
        at = head.find(b"cICP")
        return (head[at + 4], head[at + 5]) if 0 < at < len(head) - 6 else (0, 0)
    at = head.find(b"colrnclx")
    if head[4:8] != b"ftyp" or not 0 < at < len(head) - 12:
        return 0, 0
    return int.from_bytes(head[at + 8 : at + 10], "big"), int.from_bytes(head[at + 10 : at + 12], "big")


def _is_deep(opened: Image.Image) -> bool:
    """Whether colours have 16 bits in the file, of which Pillow keeps the upper 8."""
    return opened.mode in ("RGB", "RGBA") and any("16" in str(tile.args) for tile in getattr(opened, "tile", ()))


def _brightest(picture: Image.Image, opened: Image.Image) -> int:
    bands = opened.getextrema()[:3] if opened.mode == "RGBA" else picture.getextrema()
    return max(high for _, high in bands)


def _few_bits(file: BinaryIO, opened: Image.Image) -> Image.Image:
    """Colours of 16 bits that use the lower ones alone, scaled; read by libav, which keeps them all."""
    import av

    file.seek(0)
    kind = {"PNG": "png_pipe", "TIFF": "tiff_pipe"}[opened.format]
    with av.open(file, format=kind) as container:
        values = next(container.decode(video=0)).to_ndarray(format="rgb48le")
    return Image.fromarray(_scaled(values, _bits(values.max())))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys as 8 bits: floats run to 1, or to 255 where one exceeds 1; integers to the largest of their bits.

    Samples of 10, 12 or 14 bits in 16, as scanners and microscopes store them, are known by the largest of them: at
    16 bits such a picture were all but black.
    """
    values = np.nan_to_num(np.asarray(image, np.float64))
    if image.mode == "F" and values.max() <= 255:
        return Image.fromarray(_scaled(values, 8) if values.max() > 1 else _scaled(values * 255, 8))
    return Image.fromarray(_scaled(values, _bits(values.max())))


def _bits(largest: float) -> int:
    """How many bits samples have of which this is the largest: 16, but for dark pictures, and where it is larger."""
    return next((bits for bits in (*_FEW_BITS, 16, 24) if largest < 1 << bits), 32)


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(values * (255 / ((1 << bits) - 1)), 0, 255).round().astype(np.uint8)


def _without_alpha(image: Image.Image) -> Image.Image:
    """On white. Where all of it is transparent and there are colours underneath, the transparency is a mistake."""
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA", "La", "RGBa"):
        return image
    image = image.convert("RGBA")
    if image.getextrema()[3] == (0, 0) and not shows_nothing(image.convert("RGB")):
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours converted from an embedded profile; the picture as it is where the profile is unsound."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image


@contextlib.contextmanager
def _own_limits() -> Iterator[None]:
    """Pillow's settings, which are the process's, as they are wanted here; afterwards as they were.

    No limit on pixels, which is lower than ours may be; no warnings of slight damage; and a cut file is damaged, also
    where a library (face_recognition, tensorflow-datasets) has told Pillow to fill what is missing with grey.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    cut, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, cut


@contextlib.contextmanager
def _media_errors() -> Iterator[None]:
    """What the libraries raise of a damaged file, as `MediaError`."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError:
        raise MediaError("too_large", "it does not fit into the memory that may be used") from None
    except Exception as error:  # whatever comes to hand: a damaged file may lead anywhere in a library
        raise MediaError("unreadable", f"it does not decode ({error_text(error)})") from error
