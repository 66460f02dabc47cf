"""The head in depth: what turning it does to the pixels of a photograph.

A depth is laid over the picture, by thin plates through the points of the face, each as deep as it is in a mean head
that is turned as this one. Turned about an axis in the neck, a pixel moves by its depth. Towards the edge of the head
and the shoulders the motion falls off smoothly, so that the background is drawn along instead of torn.

The field says where each pixel of the photograph goes (forward); frames need where each of their pixels comes from,
which fixed-point iteration finds, as the field's slopes stay below 1.
"""

import cv2
import numpy as np
from jaxtyping import Float
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation

from mmjax.preparation.animation.curves import smoothstep
from mmjax.preparation.animation.placing import MEAN_FACE, SKULL, PlacedFace

_CELLS = 64  # of the field's grid along the picture's longer side
_AXIS = np.array([0.0, 0.9, 1.25])  # the point in the neck about which a head turns, of the mean head
_HEAD = (0.0, 0.2), (1.25, 1.7)  # centre in the face's coordinates, half axes: the head with its hair
_FALLOFF = 1.0, 2.0  # of those half axes, between which the motion falls to nothing
_BEFORE = 0.2  # eye distances before the axis, of the deepest place: cheeks slope no further into ears and background
_BLUR = 0.2  # eye distances, of the depth: steep cheeks would fold
_SMOOTH = 0.02  # of the thin plates
_ITERATIONS = 20


class HeadField:
    """Displacements of a photograph's pixels on a grid, for one face."""

    def __init__(self, face: PlacedFace, size: tuple[int, int]):
        height, width = size
        self._face, self._cell = face, max(size) / _CELLS
        columns, rows = (int(np.ceil(length / self._cell)) + 1 for length in (width, height))
        self._places = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1) * self._cell
        flat = self._places.reshape(-1, 2)
        known = np.concatenate([np.column_stack([face.points, face.seen(MEAN_FACE)[:, 2]]), face.seen(SKULL)])
        plates = RBFInterpolator(face.of_face(known[:, :2]), known[:, 2], smoothing=_SMOOTH)
        across, down = (face.of_face(self._places) - _HEAD[0]).transpose(2, 0, 1)
        distance = np.hypot(across / _HEAD[1][0], down / _HEAD[1][1])
        self._share = smoothstep(1 - (distance - _FALLOFF[0]) / (_FALLOFF[1] - _FALLOFF[0]))
        axis = face.seen(_AXIS[None])[0]
        depth = plates(face.of_face(flat)).reshape(distance.shape)
        depth = np.clip(depth, known[:, 2].min(), axis[2] - _BEFORE)
        depth = cv2.GaussianBlur(depth, (0, 0), _BLUR * face.unit / self._cell, borderType=cv2.BORDER_REPLICATE)
        self._from_axis = np.dstack([(self._places - axis[:2]) / face.unit, depth - axis[2]])

    def forward(
        self, turn: Float[np.ndarray, "3"], shift: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "rows columns 2"]:
        """Where the grid's pixels go, less where they are.

        Args:
          turn: degrees of yaw (positive to the picture's right), pitch (up) and roll (clockwise).
          shift: of the whole head, to the right and down, in distances between the eyes.
        """
        yaw, pitch, roll = turn
        rotation = Rotation.from_euler("ZXY", [roll, -pitch, -yaw], degrees=True).as_matrix()
        moved = (self._from_axis @ rotation.T - self._from_axis)[..., :2] + shift
        return (moved * self._share[..., None] * self._face.unit).astype(np.float32)

    def backward(self, forward: Float[np.ndarray, "rows columns 2"]) -> Float[np.ndarray, "rows columns 2"]:
        """Where what is at the grid's pixels comes from, less where it is."""
        back = -forward
        for _ in range(_ITERATIONS):
            back = -self.at(forward, self._places + back)
        return back

    def at(self, field: Float[np.ndarray, "rows columns 2"], places: Float[np.ndarray, "h w 2"]) -> np.ndarray:
        """A field between its grid's pixels, at places of the picture."""
        where = (places / self._cell).astype(np.float32)
        return cv2.remap(field, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
