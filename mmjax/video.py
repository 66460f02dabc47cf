"""The one decoder of videos: frames in RGB as a player shows them, whatever the file says of itself.

    with open("clip.mp4", "rb") as file, open_video(file) as video:
        for seconds, pixels in video.frames():
            ...

Honoured are the display matrix (turned, mirrored or both), pixels that are not square, the matrix and the range of its
colours, PQ and HLG and wide gamuts (`mmjax.colours`), and interlacing (`mmjax.deinterlacing`). What cannot be shown
rightly is refused as "unsupported", never shown wrongly: Dolby Vision without a base layer, ICtCp, two views in one
frame, spheres.

A file is taken for what its content says, and only for a video of `CONTAINERS`: libav knows hundreds more, among them
playlists that name other files or servers. PyAV is imported when the first video is read.
"""

import contextlib
import fractions
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from mmjax import colours
from mmjax.deinterlacing import Deinterlacer
from mmjax.errors import MediaError, error_text

CONTAINERS = (  # as libav calls them
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegvideo,mpegts,avi,asf,flv,ogg,mxf,dv,yuv4mpegpipe,gif"
)
ENDINGS = (  # of names; what a file is, its content says
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".gif", ".3gp", ".3g2"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf", ".dv", ".y4m"),
)
MAX_PIXELS = 100_000_000  # of a frame

_PREROLL = 1.0  # seconds to seek ahead of a frame; 0 lands behind it in files with coarse indices
_SQUARE = (0.25, 4.0)  # pixel shapes outside of this are damage
_UNKNOWN = (0, 2, 3)  # of H.273's numbers: reserved or unspecified
_BT709, _BT2020 = 1, 9  # matrices, as H.273 and PyAV call them
_MATRICES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "240M", 9: "BT.2020", 10: "BT.2020"}
_NO_CURVE = {8: "linear", 9: "logarithmic", 10: "logarithmic", 17: "SMPTE 428"}  # transfers that are not read
_HIGH_DEFINITION = (1280, 576)  # wider or higher than this is BT.709 where nothing is said, as players have it


@contextlib.contextmanager
def open_video(file: BinaryIO, max_pixels: float = MAX_PIXELS) -> Iterator["Video"]:
    """A video in a seekable file; closed in the end, the file is not.

    Raises:
      MediaError: `NoVideo` for what is none of `CONTAINERS`; no stream that can be decoded, or frames of more than
        `max_pixels`.
    """
    import av

    with _media_errors():
        container = _container(file)
    try:
        with _media_errors():
            stream = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                raise MediaError("unreadable", "a file without a video stream that can be decoded")
            if container.format.name == "gif" and not _has_end(file):
                raise MediaError("unreadable", "cut off: a GIF without its end")
            if stream.disposition & av.stream.Disposition.attached_pic:
                raise MediaError("unreadable", "sound with a cover picture, no video")
            context = stream.codec_context
            _check_size(context.width, context.height, max_pixels)
            context.thread_count = 1  # there is a worker for every core
            context.options = {"max_pixels": f"{max_pixels:.0f}"}
        yield Video(container, stream, max_pixels)
    finally:
        container.close()


def format_of(file: BinaryIO) -> str:
    """The container of a video, as libav calls it; "" for what is none of `CONTAINERS`."""
    with contextlib.suppress(Exception), _container(file) as container:
        return container.format.name
    return ""


class NoVideo(MediaError):
    """The file is no video at all, by its content."""


class Video:
    """An opened video; see `open_video`."""

    def __init__(self, container, stream, max_pixels: float):
        self._container, self._stream, self._max_pixels = container, stream, max_pixels

    @property
    def tags(self) -> dict[str, str]:
        """What the container says of itself, by the names of its tags."""
        return dict(self._container.metadata)

    @property
    def summary(self) -> dict[str, int | float | str]:
        """Container, codec, size in pixels and, where the file says so, frames and frames a second."""
        stream, rate = self._stream, self._stream.average_rate
        found = {"container": self._container.format.name, "codec": stream.codec_context.name}
        found |= {"width": stream.codec_context.width, "height": stream.codec_context.height}
        found |= {"frames": stream.frames, "fps": round(float(rate), 3) if rate else 0}
        return {name: value for name, value in found.items() if value}

    @property
    def is_cut(self) -> bool:
        """Whether the index of an mp4 names pictures beyond the end of its file."""
        return self._container.format.name.startswith("mov") and _index_end(self._stream) > self._container.size > 0

    def frames(self, near: float | None = None) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
        """Seconds since the first frame, and RGB, of every frame in the order in which they are shown.

        Args:
          near: seconds. Reading then starts at or before that place, where the file allows; how many frames are left
            out, only their times tell.

        Raises:
          MediaError: at a damaged place, behind the frames before it; "too_large" where a frame is.
        """
        start = None
        if near is not None:
            start = self._first_time()
            with _media_errors():
                place = start + max(near - _PREROLL, 0)
                self._container.seek(int(place / self._stream.time_base), stream=self._stream)
        picture = _Picture(self._stream, self._max_pixels)
        for time, frame in self._deinterlaced():
            start = time if start is None else start
            with _media_errors():
                pixels = picture.of(frame)
            yield time - start, pixels
        if start is None:
            raise MediaError("unreadable", "a video without a frame")

    def times(self) -> list[float]:
        """Seconds since the first frame of every frame of `frames`, without their pixels; spends the video.

        Raises `MediaError` as `frames` does.
        """
        found = [time for time, _ in self._deinterlaced()]
        if not found:
            raise MediaError("unreadable", "a video without a frame")
        return [time - found[0] for time in found]

    def _first_time(self) -> float:
        """Of the first frame, which is where seconds are counted from."""
        with _media_errors():
            time = next(self._container.decode(self._stream)).time
        if time is None:
            raise MediaError("unreadable", "frames without times")
        return time

    def _deinterlaced(self):
        """Times and frames without fields; a damaged place is told when the frames before it are out."""
        fields, damage = Deinterlacer(), None
        frames = self._decoded()
        while True:
            try:
                with _media_errors():
                    found = next(frames, None)
            except MediaError as error:
                found, damage = None, error
            with _media_errors():
                ready = fields.finish() if found is None else fields.add(*found)
            yield from ready
            if damage is not None:
                raise damage
            if found is None:
                return

    def _decoded(self):
        """Times and frames as they are stored."""
        stream, count = self._stream, 0
        rate = float(stream.guessed_rate or stream.average_rate or 25)
        for packet in self._container.demux(stream):
            if packet.is_corrupt:
                raise MediaError("unreadable", f"cut off or damaged after frame {count}", count)
            for frame in self._frames_of(packet):
                _check_size(frame.width, frame.height, self._max_pixels)
                if frame.is_corrupt:
                    raise MediaError("unreadable", f"damaged at frame {count}", count)
                yield count / rate if frame.time is None else frame.time, frame
                count += 1
        if self.is_cut:
            raise MediaError("unreadable", f"cut off after frame {count}: its index names more", count)

    def _frames_of(self, packet):
        import av

        try:
            return packet.decode()
        except av.ArgumentError as error:  # libav's answer to a size beyond `max_pixels`, or beyond its own limit
            limit = f"{self._max_pixels / 1e6:g} million"
            raise MediaError("too_large", f"frames of an impossible size, or of more than {limit} pixels") from error


def _container(file):
    import av

    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        return av.open(file, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise NoVideo("unreadable", f"a file that does not open as a video ({error_text(error)})") from error


class _Picture:
    """Frames of a stream as a player shows them."""

    def __init__(self, stream, max_pixels: float):
        from av.video.reformatter import VideoReformatter

        self._stream, self._max_pixels, self._reformatter = stream, max_pixels, VideoReformatter()

    def of(self, frame) -> UInt8[np.ndarray, "h w 3"]:
        """Pixels of a frame. Raises `MediaError` for what cannot be shown rightly, or is too large when it is."""
        notes = {each.type.name: each for each in frame.side_data}
        _check_layout(notes)
        transfer, primaries, matrix = _colours_of(frame, "DOVI_RPU_BUFFER" in notes or "DOVI_METADATA" in notes)
        width, height = self._shown_size(frame)
        wide = transfer != "srgb" or primaries != "srgb"
        form = "rgb48le" if wide else "rgba" if _has_alpha(frame) else "rgb24"
        pixels = self._reformatter.reformat(
            frame, width=width, height=height, format=form, src_colorspace=matrix, threads=1
        ).to_ndarray()
        if wide:
            pixels = colours.to_srgb(pixels, transfer, primaries)
        elif form == "rgba":
            pixels = _on_white(pixels)
        return turned(pixels, _matrix_of(notes.get("DISPLAYMATRIX")))

    def _shown_size(self, frame) -> tuple[int, int]:
        """Width and height with square pixels."""
        shape = self._stream.sample_aspect_ratio or fractions.Fraction(1)
        if not _SQUARE[0] < shape < _SQUARE[1]:
            shape = fractions.Fraction(1)
        width = round(frame.width * shape) if shape > 1 else frame.width
        height = frame.height if shape > 1 else round(frame.height / shape)
        _check_size(width, height, self._max_pixels)
        return width, height


def turned(pixels: UInt8[np.ndarray, "h w 3"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A frame as its display matrix has it shown, by the nearest quarter turn; mirrored if the determinant is negative.

    Args:
      matrix: a, b, c, d of x' = a x + c y and y' = b x + d y, where y points down; of any scale.
    """
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # rows become columns
        pixels, right, down = pixels.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _matrix_of(note) -> tuple[int, int, int, int]:
    """a, b, c, d of libav's display matrix (a b u, c d v, x y w)."""
    if note is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(note))
    return a, b, c, d


def _check_layout(notes: dict) -> None:
    if "SPHERICAL" in notes:
        raise MediaError("unsupported", "a spherical (360 degree) video, of which a player shows a part")
    if "STEREO3D" in notes and struct.unpack_from("=i", bytes(notes["STEREO3D"]))[0] in range(1, 8):
        raise MediaError("unsupported", "a stereoscopic video: two views in one frame")


def _colours_of(frame, dolby: bool) -> tuple[str, str, int | None]:
    """Transfer and primaries as `mmjax.colours` names them, and the matrix where it is not the frame's to tell."""
    transfer, primaries, matrix = frame.color_trc, frame.color_primaries, frame.colorspace
    if dolby and transfer in _UNKNOWN:
        raise MediaError("unsupported", "Dolby Vision without a base layer (profile 5); export it as HDR10, HLG or SDR")
    if transfer in _NO_CURVE:
        raise MediaError("unsupported", f"colours with a {_NO_CURVE[transfer]} transfer; export it as BT.709")
    if matrix not in _MATRICES and matrix not in _UNKNOWN[1:]:
        raise MediaError("unsupported", f"colours of the matrix {matrix} of H.273; export it as BT.709")
    curve = colours.TRANSFERS.get(transfer, "srgb")
    gamut = colours.PRIMARIES.get(primaries, "srgb")
    if curve != "srgb" and primaries in _UNKNOWN:
        gamut = "bt2020"  # which is what BT.2100 has with both curves
    if matrix not in _UNKNOWN[1:] or frame.format.is_rgb:
        return curve, gamut, None
    if gamut == "bt2020":
        return curve, gamut, _BT2020
    large = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]
    return curve, gamut, _BT709 if large else None


def _has_alpha(frame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _on_white(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """What shows through is white, as in pictures."""
    alpha = pixels[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return pixels[..., :3]
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _has_end(file: BinaryIO) -> bool:
    """Whether a GIF has its last byte; libav does not mind."""
    at = file.tell()
    file.seek(-min(1024, file.seek(0, os.SEEK_END)), os.SEEK_END)
    end = file.read().rstrip(b"\0\r\n ")
    file.seek(at)
    return end.endswith(b"\x3b")


def _index_end(stream) -> int:
    """Where in its file the last picture ends that an mp4's index names: a cut between two pictures damages none."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


def _check_size(width: int, height: int, max_pixels: float) -> None:
    if width * height > max_pixels:
        found = f"frames of {width}x{height} pixels, expected at most {max_pixels / 1e6:g} million"
        raise MediaError("too_large", found, width * height / 1e6)


@contextlib.contextmanager
def _media_errors():
    """What the libraries raise of a damaged file, as `MediaError`."""
    try:
        yield
    except (MediaError, GeneratorExit):
        raise
    except MemoryError:
        raise MediaError("too_large", "it does not fit into the memory that may be used") from None
    except Exception as error:  # whatever comes to hand: a damaged file may lead anywhere in a library
        raise MediaError("unreadable", f"it does not decode ({error_text(error)})") from error
