"""A mean head: where dlib's points 17 to 67 are in space. It is insightface's mean shape of 68 points, made symmetric.

Lengths are distances between the eyes; x is to the picture's right, y down, z away from the viewer. The outline of the
face, points 0 to 16, is left out: it slides over a head that turns.
"""

import numpy as np
from jaxtyping import Float

from mmjax.faces.dlib_faces import POINTS

FIRST = 17  # of the points that are here; `HEAD[number - FIRST]` is that of dlib's number
RIGID = np.array([36, 39, 42, 45, 27, 28, 29, 30, 31, 33, 35])  # corners of the eyes and nose: no expression moves them

_OF_BOTH_SIDES = {  # numbers in the picture's left and right half: place of the right one
    **{(17, 26): (0.85, -0.66, 0.27), (18, 25): (0.73, -0.72, 0.14), (19, 24): (0.6, -0.74, 0.06)},  # brows
    **{(20, 23): (0.44, -0.73, 0.01), (21, 22): (0.27, -0.69, -0.02)},
    **{(36, 45): (0.72, -0.42, 0.28), (37, 44): (0.58, -0.49, 0.15), (38, 43): (0.43, -0.49, 0.14)},  # eyes
    **{(39, 42): (0.28, -0.41, 0.18), (40, 47): (0.42, -0.37, 0.16), (41, 46): (0.58, -0.37, 0.18)},
    **{(31, 35): (0.26, 0.22, -0.02), (32, 34): (0.14, 0.25, -0.12)},  # base of the nose
    **{(48, 54): (0.39, 0.62, 0.06), (49, 53): (0.25, 0.52, -0.1), (50, 52): (0.13, 0.46, -0.17)},  # lips, outside
    **{(59, 55): (0.26, 0.7, -0.05), (58, 56): (0.13, 0.73, -0.13)},
    **{(60, 64): (0.32, 0.61, 0.03), (61, 63): (0.13, 0.57, -0.11), (67, 65): (0.13, 0.6, -0.1)},  # lips, inside
}
_OF_THE_MIDDLE = {
    **{27: (0, -0.43, -0.1), 28: (0, -0.31, -0.19), 29: (0, -0.2, -0.27), 30: (0, -0.1, -0.35), 33: (0, 0.25, -0.19)},
    **{51: (0, 0.49, -0.2), 57: (0, 0.74, -0.14), 62: (0, 0.58, -0.14), 66: (0, 0.6, -0.12)},
}


def _all_points() -> Float[np.ndarray, "51 3"]:
    points = np.zeros((POINTS - FIRST, 3))
    for (left, right), place in _OF_BOTH_SIDES.items():
        points[right - FIRST] = place
        points[left - FIRST] = -place[0], *place[1:]
    for number, place in _OF_THE_MIDDLE.items():
        points[number - FIRST] = place
    return points


HEAD: Float[np.ndarray, "51 3"] = _all_points()
