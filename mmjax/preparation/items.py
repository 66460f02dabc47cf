"""What travels between the steps of a preparation: items of the input, samples found in them, and what was dropped.

An *item* is a file, or a member of an archive or data set. Its analysis gives *samples*, each of which may become a
training record (a photo gives one, a video one for each window of frames), and *stills*, pictures of the person in it
that may serve as references. Whatever is dropped carries a reason of `mmjax.preparation.reasons`.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.preparation.framing import Framing


@dataclasses.dataclass(frozen=True)
class Item:
    """A photo or video of the input.

    key: names it in the whole input, and is the same in every run: "anna/1.jpg", "shard-0003.tar/000017.jpg".
    kind: "photo" or "video", by its name; only decoding shows what it is.
    path: the file that holds it. With a `size`, it is the bytes from `offset` on, a member of a tar; with a `dataset`
      the path is TFDS's folder and `offset` the example's number.
    person: who it shows, where the input says so; a group of items that may be paired.
    role: "sample", "reference" (only ever a reference, such as a generated picture) or "both".
    collection: the input that it came from.
    """

    key: str
    kind: str
    path: str
    collection: str
    offset: int = 0
    size: int | None = None
    dataset: str = ""
    caption: str | None = None
    person: str | None = None
    role: str = "both"


@dataclasses.dataclass(frozen=True, eq=False)
class Still:
    """A picture of one face that may be a reference.

    key: of the sample that it is part of, or of its item where that gave no sample.
    frame: of the source.
    time: seconds from the start of the video; 0 of a photo.
    shot: number of the shot in its video.
    scores: what was measured: "confidence", "face" (pixels), "sharpness", "yaw" (degrees).
    aligned: for ArcFace. portrait: for CLIP.
    embedding: raw, by the experiment's recogniser; empty until it has seen `aligned`.
    """

    key: str
    item: str
    person: str | None
    role: str
    frame: int
    time: float
    shot: int
    scores: dict[str, float]
    aligned: UInt8[np.ndarray, "112 112 3"]
    portrait: UInt8[np.ndarray, "side side 3"]
    embedding: Float[np.ndarray, " width"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """A photo, or a window of a video, that may become a record; its pixels are read again when they are encoded.

    key: the item's, with "#FIRST" behind it for the window of a video that starts at frame FIRST.
    frames: numbers of the source's frames, in order.
    times: of the first and the last frame, seconds.
    framing: from the source's pixels, turned, to the record's.
    turns: quarter turns to the left that bring the source upright (`mmjax.faces.upright`).
    boxes, landmarks: of the face, in the record's pixels.
    animation: number, from 1, of a clip that is drawn from a photo (`mmjax.preparation.animation`); `frames` repeat the
      photo's only one then, `boxes` and `landmarks` are the photo's. 0 of what is as it was taken.
    """

    key: str
    item: str
    person: str | None
    collection: str
    caption: str | None
    frames: tuple[int, ...]
    times: tuple[float, float]
    shot: int
    framing: Framing
    boxes: Float[np.ndarray, "F 4"]
    landmarks: Float[np.ndarray, "F 5 2"]
    scores: dict[str, float]
    turns: int = 0
    animation: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class SampleFrames:
    """A sample's pixels at the record's size, and where the face is in each of its frames."""

    pixels: UInt8[np.ndarray, "F h w 3"]
    boxes: Float[np.ndarray, "F 4"]
    landmarks: Float[np.ndarray, "F 5 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class Turned:
    """A photo or window that did not stand upright and was turned, or may not, with a small picture as it is used."""

    key: str
    detail: str
    picture: UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dropped:
    """An item or sample that was dropped, with a small picture of it where there is one to show."""

    key: str
    reason: str
    detail: str
    value: float | None = None
    picture: UInt8[np.ndarray, "h w 3"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """All that the analysis of one item gave."""

    item: str
    samples: tuple[Sample, ...] = ()
    stills: tuple[Still, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    pictures: tuple[UInt8[np.ndarray, "h w 3"], ...] = ()  # one small picture for each sample
    turned: tuple[Turned, ...] = ()
