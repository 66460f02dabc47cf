"""What was seen in a video and on a person's pictures: all that metrics need, and small enough to keep.

A video is decoded once, in a worker. What stays of it are times, the main face of each frame that was looked at, its
embedding by each embedder, and small pictures for the page; with the pixels still there, metrics that need them are
taken.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mmjax.faces.dlib_faces import POINTS


@dataclasses.dataclass(frozen=True, eq=False)
class FacesSeen:
    """The main face of each of n pictures or frames; rows are NaN where there is none. Coordinates are pixels."""

    counts: Int[np.ndarray, " n"]  # faces in the picture, the main one among them
    boxes: Float[np.ndarray, "n 4"]  # left, top, right, bottom
    landmarks: Float[np.ndarray, "n 5 2"]  # left eye, right eye (as seen), nose tip, left and right corner of the mouth
    scores: Float[np.ndarray, " n"]  # of the detector
    points: Float[np.ndarray, "n p 2"]  # denser landmarks; p is 0 without a network for them, 68 in dlib's order
    embeddings: Mapping[str, Float[np.ndarray, "n width"]]  # by the name of the embedder; not of length one

    @property
    def found(self) -> Bool[np.ndarray, " n"]:
        return self.counts > 0

    @property
    def dense(self) -> bool:
        """Whether dlib's 68 points were looked for, and not a detector's five landmarks alone."""
        return self.points.shape[1] == POINTS


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedVideo:
    """Frames of a video that were looked at, spread evenly from the first to the last."""

    frames: UInt8[np.ndarray, "n h w 3"]
    seconds: Float[np.ndarray, " n"]  # since the first frame
    numbers: Int[np.ndarray, " n"]  # of the frames in the file
    total: int  # frames in the file

    @property
    def rate(self) -> float:
        """Frames a second among those looked at; NaN for one frame."""
        span = float(self.seconds[-1] - self.seconds[0])
        return (len(self.seconds) - 1) / span if span > 0 else float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Observation:
    """A video without its pixels."""

    size: tuple[int, int]  # height, width
    seconds: Float[np.ndarray, " n"]
    numbers: Int[np.ndarray, " n"]
    total: int
    faces: FacesSeen
    strip: Sequence[bytes] = ()  # a few frames as small JPEGs, in the order of time


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A person with all the pictures that are known of them. `given` is the one that the generator was given.

    pictures: paths of the files. sizes: height and width of each.
    """

    name: str
    pictures: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    faces: FacesSeen
    given: int | None = None  # index into `pictures`, None where it is not known
    thumbnails: Sequence[bytes] = ()  # a small JPEG of each picture
