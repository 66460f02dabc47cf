"""Little videos that say something of themselves: turned, of other pixels, of other colours, interlaced."""

import io
import struct

import av
import numpy as np
from av.video.reformatter import VideoReformatter


def written(
    frames, form="mp4", codec="libx264", pix_fmt="yuv420p", *, tags=None, options=None, aspect=None, matrix=None
) -> bytes:
    """A video of RGB frames (uint8, or uint16 for 10 bits).

    Args:
      tags: attributes of the codec, by H.273's numbers: colorspace, color_range, color_trc, color_primaries. The frames
        are converted to YUV by the first two.
      aspect: of a pixel.
      matrix: to convert with, where the tags do not say it.
    """
    tags, held = tags or {}, io.BytesIO()
    frames = np.asarray(frames)
    with av.open(held, "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            options = {"crf": "1", **(options or {})}
        stream.options = options or {}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if "x264-params" in (options or {}) and "interlaced=1" in options["x264-params"]:
            stream.codec_context.flags |= 1 << 29 | 1 << 18
        reformatter = VideoReformatter()
        for index, picture in enumerate(frames):
            deep = picture.dtype == np.uint16
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb48le" if deep else "rgb24")
            known = matrix or {1: 1, 5: 5, 9: 9}.get(tags.get("colorspace"))
            frame = reformatter.reformat(
                frame, format=pix_fmt, dst_colorspace=known, dst_color_range=tags.get("color_range", 1)
            )
            frame.colorspace = 2
            for name, value in tags.items():
                setattr(frame, name, value)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return held.getvalue()


def with_display_matrix(mp4: bytes, matrix) -> bytes:
    """The same video with a b c d as its display matrix (a b u c d v x y w), shown inside of the first quadrant."""
    data = bytearray(mp4)
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(value * 65536) for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return bytes(data)


def flat(colour, count=2, height=32, width=32, dtype=np.uint8) -> np.ndarray:
    """Frames of one colour."""
    return np.broadcast_to(np.array(colour, dtype), (count, height, width, 3))


def combed(count=12, height=64, width=96) -> np.ndarray:
    """A bar that moves right by 3 pixels a field: the odd rows of a frame are half a frame later than the even ones."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        for row in (0, 1):
            at = 4 + 6 * index + 3 * row
            frame[row::2, at : at + 16] = 220
    return frames
