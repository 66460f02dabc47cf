"""Faces followed through a clip: found in every few frames, led from one to the next by what the pixels do.

    tracks = track_faces(frames, detect, every=4)  # largest first
    main = tracks[0]
    main.boxes, main.landmarks, main.scores  # of every frame
    main.present.all()  # in view from the first frame to the last

A detector costs ten times what following five points costs, and its landmarks tremble from frame to frame. So it
sees frames 0, every, 2 every, ..., and the last one. Faces of neighbouring detections are joined where their landmarks
lie near each other; a face that one detection misses is bridged. Between two of them each landmark is followed forward
from the earlier and backward from the later one by pyramidal Lucas-Kanade (Bouguet, 2001), and the two are blended by
their distance in time, so that the track passes through what was detected. A point that does not come back to where it
started when it is followed there and back (Kalal et al., 2010), or that the two sides do not find at like places, is
put on a straight line instead.

Measured with scrfd_500m on eight clips of 75 to 244 frames, 176x144 to 720x1280, against a thorough detection in every
frame: detecting every 4 frames, boxes overlap by 0.94 to 0.99 (mean IoU; at least 0.88) and landmarks are off by 0.005
to 0.045 eye distances; every 8 frames, by 0.94 to 0.99 (0.85) and 0.008 to 0.043. Most of that is the detector's own
trembling, half of which is gone. It takes 2 to 6 ms a frame where detection takes 18 to 34. The boxes of ConsisID's
training sample, from another detector, are met with an IoU of 0.936, at least 0.891 in 244 frames
(`pytest -s tests/faces/test_tracking.py`).
"""

import dataclasses
import itertools
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import linear_sum_assignment

from mmjax.faces.detection import Face

Detect = Callable[..., list[Face]]  # (picture, like: Face | None = None) -> faces

_NEAR = 0.5  # box sides that landmarks may move from one detection to the next, on average
_GROWTH = 1.6  # factor by which a box may grow or shrink from one detection to the next
_BRIDGE = 2  # detections from one that finds a face to the next that does: one may miss it
_SIDE = 128  # pixels that a face's box shrinks to before its landmarks are followed
_MARGIN = 0.4  # box sides of surroundings that are kept for it
_ASTRAY = 2.0  # of those pixels, from where a followed point started to where it comes back
_APART = 8.0  # of those pixels, between a point followed forward and backward
_FLOW = {"winSize": (21, 21), "maxLevel": 2}


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """One face through F frames, in pixels; NaN in frames where it is not present."""

    boxes: Float[np.ndarray, "F 4"]  # left, top, right, bottom
    landmarks: Float[np.ndarray, "F 5 2"]
    scores: Float[np.ndarray, " F"]  # of the detector, interpolated between detections
    present: Bool[np.ndarray, " F"]  # from the first detection that finds it to the last

    @property
    def area(self) -> float:
        """Mean area of the box, counted as nothing where the face is not present."""
        width, height = (self.boxes[:, 2:] - self.boxes[:, :2]).T
        return float(np.where(self.present, width * height, 0).mean())


def track_faces(frames: UInt8[np.ndarray, "F h w 3"], detect: Detect, every: int) -> list[Track]:
    """Follows every face of a clip without cuts.

    Args:
      frames: RGB.
      detect: a `mmjax.faces.detection.FaceDetector`, or what can be called like one.
      every: frames from one detection to the next.

    Returns:
      the tracks, that of the largest mean area first; a face that more than one detection in a row misses comes back
      as a new track. A track may be as short as one frame.
    """
    detected = sorted({*range(0, len(frames), every), len(frames) - 1})
    tracks: list[dict[int, Face]] = []  # faces by the number of the detection
    for number, index in enumerate(detected):
        open_ = [track for track in tracks if number - max(track) <= _BRIDGE]
        _join(open_, tracks, number, _detect_again(frames[index], detect, [track[max(track)] for track in open_]))
    found = [_follow(frames, {detected[number]: face for number, face in track.items()}) for track in tracks]
    return sorted(found, key=lambda track: -track.area)


def _detect_again(frame: np.ndarray, detect: Detect, known: list[Face]) -> list[Face]:
    """Faces of a frame: by a quick detection, if it finds the largest face that is known, else by a thorough one."""
    if known:
        main = max(known, key=lambda face: face.area)
        faces = detect(frame, like=main)
        if any(_distance(main, face) < 1 for face in faces):
            return faces
    return detect(frame)


def _join(open_: list[dict[int, Face]], tracks: list[dict[int, Face]], number: int, faces: list[Face]) -> None:
    """Adds the faces of a detection to the tracks that they continue, and opens a new track for each of the others."""
    costs = np.array([[_distance(track[max(track)], face) for face in faces] for track in open_])
    pairs = zip(*linear_sum_assignment(np.minimum(costs, 1)), strict=True) if costs.size else ()
    continued = {face: track for track, face in pairs if costs[track, face] < 1}
    for index, face in enumerate(faces):
        if index in continued:
            open_[continued[index]][number] = face
        else:
            tracks.append({number: face})


def _distance(a: Face, b: Face) -> float:
    """How far apart two faces are; from 1 on they are not the same one."""
    side = (a.side + b.side) / 2
    moved = np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() / side / _NEAR
    grown = abs(np.log(b.side / a.side)) / np.log(_GROWTH)
    return float(max(moved, grown))


def _follow(frames: np.ndarray, faces: dict[int, Face]) -> Track:
    """The track through the frames in which a face was detected, and those between them."""
    count = len(frames)
    boxes, landmarks, scores = (np.full((count, *shape), np.nan, np.float32) for shape in ((4,), (5, 2), ()))
    for index, face in faces.items():
        boxes[index], landmarks[index], scores[index] = face.box, face.landmarks, face.score
    detected = sorted(faces)
    for first, last in itertools.pairwise(detected):
        if last - first > 1:
            between = slice(first, last + 1)
            landmarks[between] = _between(frames[between], faces[first], faces[last])
            boxes[between] = _carry(faces[first], faces[last], landmarks[between])
            scores[between] = np.linspace(faces[first].score, faces[last].score, last - first + 1)
    return Track(boxes, landmarks, scores, ~np.isnan(scores))


def _between(frames: np.ndarray, first: Face, last: Face) -> Float[np.ndarray, "n 5 2"]:
    """Landmarks from the frame of one detection to that of the next."""
    greys, corner, scale = _surroundings(frames, first, last)
    ends = [(face.landmarks - corner) * scale for face in (first, last)]
    weight = np.linspace(0, 1, len(frames))[:, None, None]
    straight = (1 - weight) * ends[0] + weight * ends[1]
    forward, ahead = _flow(greys, ends[0])
    backward, astern = (found[::-1] for found in _flow(greys[::-1], ends[1]))
    blended = (1 - weight) * forward + weight * backward
    agreed = ahead & astern & (np.linalg.norm(forward - backward, axis=-1) < _APART)
    points = np.where(agreed[..., None], blended, straight)
    return points / scale + corner


def _surroundings(frames: np.ndarray, first: Face, last: Face) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Grey crops of what both boxes and a margin cover, small; where they start, and pixels of theirs by a frame's."""
    side = max(first.side, last.side)
    low = np.minimum(first.box[:2], last.box[:2]) - _MARGIN * side
    high = np.maximum(first.box[2:], last.box[2:]) + _MARGIN * side
    size = np.array(frames.shape[2:0:-1])
    left, top = np.clip(np.floor(low), 0, size - 1).astype(int)  # a face may lie outside of the frame
    right, bottom = np.clip(np.ceil(high), (left + 1, top + 1), size).astype(int)
    scale = min(1.0, _SIDE / side)
    small = tuple(max(1, round(length * scale)) for length in (right - left, bottom - top))
    crops = (cv2.cvtColor(frame[top:bottom, left:right], cv2.COLOR_RGB2GRAY) for frame in frames)
    greys = [cv2.resize(crop, small, interpolation=cv2.INTER_AREA) for crop in crops]
    return greys, np.array([left, top], np.float32), scale


def _flow(greys: list[np.ndarray], points: np.ndarray) -> tuple[Float[np.ndarray, "n 5 2"], Bool[np.ndarray, "n 5"]]:
    """Follows points from the first picture to the last; and whether each has stayed on its way so far."""
    found, sound = [points.astype(np.float32)], [np.ones(len(points), bool)]
    for before, after in itertools.pairwise(greys):
        there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, found[-1], None, **_FLOW)
        back, seen_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **_FLOW)
        returned = np.linalg.norm(back - found[-1], axis=1) < _ASTRAY
        sound.append(sound[-1] & (seen[:, 0] > 0) & (seen_back[:, 0] > 0) & returned)
        found.append(there)
    return np.stack(found), np.stack(sound)


def _carry(first: Face, last: Face, landmarks: Float[np.ndarray, "n 5 2"]) -> Float[np.ndarray, "n 4"]:
    """Boxes that move with the landmarks' middle; their size and place round it go straight from one to the other.

    That follows the detector as well as a scale that is estimated from five points, and trembles less.
    """
    weight = np.linspace(0, 1, len(landmarks))[:, None]
    own, other = (face.box - np.tile(face.landmarks.mean(0), 2) for face in (first, last))
    return np.tile(landmarks.mean(1), 2) + (1 - weight) * own + weight * other
