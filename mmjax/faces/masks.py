"""Which part of a frame is face: the mask that restricts the loss to it (METHOD 4), from box and landmarks.

[ours] An oval from hairline to chin and from ear to ear. The box says where it is and, by its area, how large; the
landmarks say how the head is tilted. Its shape is fixed: fitted once to the face masks that SAM2 drew for ConsisID's
training sample. The box is the better measure because it still holds the whole face when the head turns to the side,
where eyes, nose and mouth move away from its middle.

Measured with scrfd_500m and a detection every 4 frames: IoU with SAM2's masks, over all 244 frames, 0.935 on pixels (at
least 0.868) and 0.937 on latents of 8x8 pixels, with 97.5 percent of their pixels covered. On 400 photographs of LFW,
98.8 percent and more of the face below the eyes, as insightface's 106 points draw it, lies inside, also of heads turned
by more than 35 degrees; placed by the landmarks alone it would be 78. Of heads tilted by 40 degrees it is 97.8 percent.
"""

import numpy as np
from jaxtyping import Float

from mmjax.faces.detection import alignment

# half axes of the oval, in square roots of the box's area: to both sides, up, down
_ACROSS, _UP, _DOWN = 0.46, 0.57, 0.64
_SOFT = 0.1  # width of the edge over which the mask falls from 1 to 0, by the distance from the middle


def face_masks(
    landmarks: Float[np.ndarray, "F 5 2"], boxes: Float[np.ndarray, "F 4"], height: int, width: int
) -> Float[np.ndarray, "F height width"]:
    """How much each pixel is part of the face: 1 inside, 0 outside, 0.5 on the oval's line.

    Args:
      landmarks, boxes: one face a frame, in pixels of the frames; it may stick out of them.
      height, width: of the frames.
    """
    masks = np.zeros((len(boxes), height, width), np.float32)
    for mask, points, box in zip(masks, landmarks, boxes, strict=True):
        middle, root = (box[:2] + box[2:]) / 2, np.sqrt(np.prod(box[2:] - box[:2]))
        reach = root * _DOWN * (1 + _SOFT)
        left, top = (int(max(0, np.floor(edge))) for edge in middle - reach)
        right, bottom = (int(max(0, np.ceil(edge))) for edge in middle + reach)
        part = mask[top:bottom, left:right]
        rows, columns = np.indices(part.shape, np.float32)
        across, down = _upright(columns + left + 0.5 - middle[0], rows + top + 0.5 - middle[1], points)
        along = np.where(down < 0, _UP, _DOWN)
        distance = np.hypot(across / (_ACROSS * root), down / (along * root))
        part[:] = np.clip((1 - distance) / _SOFT + 0.5, 0, 1)
    return masks


def _upright(x: np.ndarray, y: np.ndarray, landmarks: Float[np.ndarray, "5 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Distances along the face's own axes, to its side and down, of points (x, y) from its middle."""
    turn = alignment(landmarks)[:, 0]
    cos, sin = turn / np.linalg.norm(turn)
    return cos * x - sin * y, sin * x + cos * y
