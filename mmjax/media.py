"""Videos and pictures on disk, and the contact sheet that shows a person beside the clips made of them.

Every file written here says of itself that it was made by a model: a video of a person that nobody can tell
from a recording is a harm waiting to happen. The wording follows IPTC's digital source types.
"""

import dataclasses
import io
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from mmjax import files
from mmjax.config import FPS
from mmjax.errors import DataError

Picture = str | os.PathLike | Image.Image  # a file, or an opened picture
AI_NOTICE = "AI-generated: made with mmjax by a diffusion model; not a recording of a real event."
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

# x264's macroblock tree in AVX-512 reads memory that nobody wrote: the bytes differ from run to run. SSE4.2 takes as
# long and gives the bytes of AVX and AVX2. libswscale too rounds by the instruction set, unless it is told not to.
_SAME_BYTES = {"x264-params": "asm=sse4.2"} if platform.machine().lower() in ("x86_64", "amd64") else {}

_BT601 = 6  # in H.273: the matrix that libswscale converts with unless it is told another

_INK, _FAINT, _PAPER = (24, 24, 28), (110, 110, 118), (250, 250, 248)
_GAP, _TEXT, _TITLE = 8, 13, 17  # pixels between cells; letter sizes


def write_video(
    path: str | os.PathLike,
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: float,
    *,
    metadata: Mapping[str, str] | None = None,
    quality: int = 16,
    sign: Callable[[Path], None] | None = None,
) -> Path:
    """Writes an H.264 mp4 that plays everywhere (yuv420p, index in front) and says that a model made it.

    The same frames and tags give the same bytes, run after run and on any x86 machine with the same PyAV; see
    `_SAME_BYTES`.

    Args:
      path: the file to write; missing folders are made.
      frames: RGB. Height and width must be even, which H.264's colour planes ask for.
      fps: frames a second.
      metadata: more tags, such as the prompt and the seed.
      quality: libx264's constant rate factor, 0 (lossless) to 51; 16 is visually lossless.
      sign: changes the whole file before it takes its name (`mmjax.credentials.Signer.sign`).

    Returns:
      the path written. The file appears whole or not at all.

    Raises:
      DataError: frames of another shape or dtype, no frames, or an odd size. ConfigError: a rate that is none.
    """
    import av  # only who writes a video needs it
    from av.video.reformatter import Interpolation

    frames, fps = _checked_frames(frames), FPS.checked("fps", fps)
    tags = {"comment": AI_NOTICE, "digital_source_type": DIGITAL_SOURCE_TYPE, **(metadata or {})}
    options = {"movflags": "+faststart+use_metadata_tags"}  # without the second, mp4 keeps only tags it knows
    colours = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    with files.written_whole(path, ".mp4") as partial:
        with av.open(str(partial), "w", format="mp4", options=options) as container:
            container.metadata.update(tags)
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, 1  # or HD is taken for BT.709
            stream.codec_context.thread_count = 1  # as many slices as threads, and by default as many threads as cores
            stream.options = {"crf": str(quality), "preset": "medium", **_SAME_BYTES}
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation=colours)))
            container.mux(stream.encode())
        if sign:
            sign(partial)
    return Path(path)


def write_png(
    path: str | os.PathLike,
    picture: UInt8[np.ndarray, "height width 3"],
    *,
    metadata: Mapping[str, str] | None = None,
    sign: Callable[[Path], None] | None = None,
) -> Path:
    """Writes an RGB picture whose text chunks say that a model made it; the file appears whole or not at all.

    metadata: more of such texts, by their keywords. sign: as of `write_video`.
    """
    notes = PngImagePlugin.PngInfo()
    for keyword, text in {"Comment": AI_NOTICE, "DigitalSourceType": DIGITAL_SOURCE_TYPE, **(metadata or {})}.items():
        notes.add_text(keyword, text)
    with files.written_whole(path) as partial:
        Image.fromarray(np.asarray(picture)).save(partial, format="png", pnginfo=notes)
        if sign:
            sign(partial)
    return Path(path)


def encode_gif(frames: UInt8[np.ndarray, "frames height width 3"], fps: float, width: int = 480) -> bytes:
    """An animated GIF that plays for ever, no wider than `width` pixels, for where an mp4 does not play: TensorBoard.

    It has 256 colours a frame and whole hundredths of a second, so it shows what happens and not how fine it is; it
    says that a model made it.
    """
    height = max(1, round(frames.shape[1] * width / frames.shape[2]))
    pictures = [Image.fromarray(frame) for frame in frames]
    if frames.shape[2] > width:
        pictures = [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
    content = io.BytesIO()
    shown = {"save_all": True, "append_images": pictures[1:], "duration": 1000 / fps, "loop": 0}
    pictures[0].save(content, format="gif", comment=AI_NOTICE.encode(), **shown)
    return content.getvalue()


def side_by_side(videos: UInt8[np.ndarray, "clips frames h w 3"]) -> UInt8[np.ndarray, "frames height width 3"]:
    """Clips in rows and columns of one video, as near to a square as their number allows; its sides are even."""
    count, frames, height, width = videos.shape[:4]
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.empty((frames, rows * height + rows * height % 2, columns * width + columns * width % 2, 3), np.uint8)
    sheet[:] = _PAPER
    for number, video in enumerate(videos):
        top, left = number // columns * height, number % columns * width
        sheet[:, top : top + height, left : left + width] = video
    return sheet


def psnr(found: UInt8[np.ndarray, "*dims"], real: UInt8[np.ndarray, "*dims"]) -> float:
    """Peak signal-to-noise ratio of uint8 pictures or videos of one shape, in dB; infinite where they are equal."""
    error = np.mean(np.square(found.astype(np.float64) - real.astype(np.float64)))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def spread(count: int, total: int) -> list[int]:
    """Indices of `count` frames spread evenly over `total`, first and last among them."""
    return [int(index) for index in np.round(np.linspace(0, total - 1, min(count, total)))]


@dataclasses.dataclass(frozen=True)
class SheetRow:
    """One line of a contact sheet: cells of (label, RGB picture), with a title above them that may be empty."""

    cells: Sequence[tuple[str, np.ndarray]]
    title: str = ""


def contact_sheet(
    rows: Sequence[SheetRow], *, title: str = "", cell_height: int = 144
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws rows of labelled pictures, all `cell_height` pixels high, on paper.

    Small pictures grow by repeated pixels, so that what is seen is what the model made; large ones shrink smoothly.
    Labels are shortened to their cell, titles wrap to the sheet.
    """
    font, large = ImageFont.load_default(_TEXT), ImageFont.load_default(_TITLE)
    scaled = [[(label, _scale(picture, cell_height)) for label, picture in row.cells] for row in rows]
    widths = [sum(picture.width + _GAP for _, picture in cells) + _GAP for cells in scaled]
    width = max([*widths, 320])
    headings = [_wrap(row.title, width - 2 * _GAP, font) for row in rows]
    head = _wrap(title, width - 2 * _GAP, large)
    line, head_line = _TEXT + 5, _TITLE + 7
    heights = [len(heading) * line + cell_height + line + _GAP for heading in headings]
    sheet = Image.new("RGB", (width, _GAP + len(head) * head_line + sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _write_lines(draw, head, _GAP, large, _INK, head_line)
    for heading, cells in zip(headings, scaled, strict=True):
        y, x = _write_lines(draw, heading, y, font, _INK, line), _GAP
        for label, picture in cells:
            sheet.paste(picture, (x, y))
            draw.text((x, y + cell_height + 1), _shorten(label, picture.width, font), font=font, fill=_FAINT)
            x += picture.width + _GAP
        y += cell_height + line + _GAP
    return np.asarray(sheet)


def _checked_frames(frames):
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        found = f"{frames.dtype} of shape {frames.shape}"
        raise DataError(f"video frames: expected uint8 [frames, height, width, 3] with a frame or more, found {found}")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        size = f"{frames.shape[1]}x{frames.shape[2]}"
        raise DataError(
            f"video frames: expected an even height and width (H.264), found {size}; crop or pad by a pixel"
        )
    return np.ascontiguousarray(frames)


def _scale(picture: np.ndarray, height: int) -> Image.Image:
    picture = Image.fromarray(np.asarray(picture, np.uint8))
    size = (max(1, round(picture.width * height / picture.height)), height)
    grows = height >= picture.height
    return picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS)


def _write_lines(draw, lines: list[str], y: int, font, ink, line: int) -> int:
    for text in lines:
        draw.text((_GAP, y), text, font=font, fill=ink)
        y += line
    return y


def _wrap(text: str, width: int, font) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_shorten(word, width, font))
    return lines


def _shorten(text: str, width: int, font) -> str:
    text = text[:width]  # no letter is narrower than a pixel, and fonts measure a million letters at most
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
