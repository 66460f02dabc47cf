"""Head pose: by how many degrees the head is turned, nodded and tilted in the course of a video.

A head model is laid into each frame (perspective-n-point: SQPnP and a refinement by least squares), as if a camera saw
it whose focal length is the picture's longer side. It goes by 17 of dlib's 68 points where they are there (ends of the
eyebrows, corners of the eyes, nose, corners of the mouth: not the outline, which slides over a head that turns, and not
the chin, which a mouth that opens moves), and by the detector's five landmarks otherwise.

What that is worth, on 80 heads that are not the model (breadth, height and depth by 6 %, every point by 5 % of the eye
distance, and landmarks that tremble by 2 % of it) swung by 10, 20 and 30 degrees: the range found by the true one, mean
and standard deviation (`pytest -s tests/evaluation/test_head_pose.py`):

| | yaw | pitch |
|---|---|---|
| 17 of 68 points | 1.09 +- 0.27 | 0.96 +- 0.20 |
| five landmarks | 1.09 +- 0.34 | 0.98 +- 0.24 |

Most of it is the person's own shape. On 19 real clips of 75 frames (scrfd_500m against dlib's points) the two differ by
1.1 degrees of yaw and of pitch in the median, and rank the clips with correlations of 0.80 and 0.56. Looked at by eye:
two heads that nod by 15 and 17 degrees by five landmarks and by 5 by 17 points only smile, which lifts the corners of
the mouth; one that turns by 17 degrees by 17 points and by 4 by five does not, dlib's points had slipped into a fringe
on a face of 76 pixels (`MMJAX_MEASURE=1 pytest -s tests/evaluation/test_metric_calibration.py`). Ranges below about 4
degrees are trembling. A clip and its mirror image agree within 2 degrees by 17 points, by five within 6
(`pytest -s tests/evaluation/test_distortions.py`). Compare videos of one kind of landmarks.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float

from mmjax.evaluation.metrics.interface import FACES, MeanOverVideos, Metric, Score, VideoToScore
from mmjax.evaluation.metrics.over_time import range_score
from mmjax.evaluation.observation import FacesSeen
from mmjax.faces.dlib_faces import POINTS
from mmjax.faces.head_model import FIRST, HEAD, RIGID
from mmjax.faces.quality import SHAPE

AXES = {
    "yaw": "turned to the sides",
    "pitch": "nodded",
    "roll": "tilted",
}
_FOCAL_LENGTH = 1.0  # of the camera, by the picture's longer side
_STEADY = np.array([17, 21, 22, 26, *RIGID, 48, 54])  # of dlib's numbers: those and ends of brows, corners of the mouth
_FIVE = SHAPE * [1, 1, -1]  # the detector's five; as in `HEAD`, z is away from the viewer


def metrics() -> list[Metric]:
    """The ranges of yaw, pitch and roll."""
    return [HeadPoseRange(axis) for axis in AXES]


@dataclasses.dataclass(frozen=True)
class HeadPoseRange(MeanOverVideos):
    """Degrees between the head's farthest poses about one axis, bad frames left out; `series` is the angle by frame.

    It says how much the head moves, and not whether it moves well; angles themselves are off by some degrees from
    person to person, which a range does not show. With five landmarks a smile counts as nodding.

    axis: one of `AXES`.
    """

    axis: str
    better: str = ""
    needs: frozenset[str] = frozenset({FACES})
    version: int = 1

    @property
    def name(self) -> str:
        return f"head_{self.axis}"

    @property
    def title(self) -> str:
        return f"range over which the head is {AXES[self.axis]}, degrees of {self.axis}"

    def score(self, case: VideoToScore) -> Score:
        poses = head_poses(case.observation.faces, case.observation.size)
        landmarks = POINTS if case.observation.faces.dense else 5
        return range_score(poses[:, list(AXES).index(self.axis)], details={"landmarks": landmarks})


def head_poses(faces: FacesSeen, size: tuple[int, int]) -> Float[np.ndarray, "n 3"]:
    """Yaw, pitch and roll of the main face of each frame in degrees, NaN without one.

    Yaw is positive towards the picture's right, as in `mmjax.faces.quality`, pitch upwards, roll clockwise.

    Args:
      size: height and width of the frames.
    """
    if not faces.dense:
        return five_point_poses(faces.landmarks, size)
    return _poses(faces.points[:, _STEADY], HEAD[_STEADY - FIRST], size)


def five_point_poses(landmarks: Float[np.ndarray, "n 5 2"], size: tuple[int, int]) -> Float[np.ndarray, "n 3"]:
    """As `head_poses`, of the detector's five landmarks."""
    return _poses(landmarks, _FIVE, size)


def _poses(
    seen: Float[np.ndarray, "n p 2"], model: Float[np.ndarray, "p 3"], size: tuple[int, int]
) -> Float[np.ndarray, "n 3"]:
    poses = np.full((len(seen), 3), np.nan)
    for index, points in enumerate(np.asarray(seen, np.float64)):
        if np.isfinite(points).all():
            poses[index] = _pose(np.ascontiguousarray(points), model, size)
    return poses


def _pose(points: Float[np.ndarray, "p 2"], model: Float[np.ndarray, "p 3"], size: tuple[int, int]) -> np.ndarray:
    height, width = size
    focal = _FOCAL_LENGTH * max(size)
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    try:
        found, turn, shift = cv2.solvePnP(model, points, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            return np.full(3, np.nan)
        turn, _ = cv2.solvePnPRefineLM(model, points, camera, None, turn, shift)
    except cv2.error:  # points that are no face, such as five in one place
        return np.full(3, np.nan)
    rotation = cv2.Rodrigues(turn)[0]
    right, ahead = rotation[:, 0], -rotation[:, 2]
    yaw = np.arctan2(ahead[0], -ahead[2])
    pitch = np.arcsin(np.clip(-ahead[1], -1, 1))
    roll = np.arctan2(right[1], right[0])
    return np.degrees([yaw, pitch, roll])
