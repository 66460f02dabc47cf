"""Small changes of expression: the corners of the mouth, the cheeks and the brows shift a little, without a seam."""

import numpy as np
from jaxtyping import Float

from mmjax.preparation.animation.curves import bump
from mmjax.preparation.animation.placing import PlacedFace

_ITERATIONS = 4


class Features:
    """Mouth and brows of a photograph. Places are in the face's coordinates."""

    def __init__(self, face: PlacedFace):
        points = face.of_face(face.points)
        self._smile, self._brows = [], []  # centre, standard deviations, motion for a share of 1
        for corner, side in ((48, -1), (54, 1)):
            self._smile.append((points[corner], (0.24, 0.22), (0.11 * side, -0.09)))
            self._smile.append((points[corner] + [0.12 * side, -0.42], (0.25, 0.2), (0.02 * side, -0.04)))
        for brow in (points[18:21].mean(0), points[23:26].mean(0)):
            self._brows.append((brow, (0.35, 0.16), (0.0, -0.1)))

    def moved(self, places: Float[np.ndarray, "*n 2"], smile: float, brows: float) -> Float[np.ndarray, "*n 2"]:
        """Where places of the photograph go: with 1 as far as they may, with -1 as far the other way."""
        across, down = places[..., 0], places[..., 1]
        for share, parts in ((smile, self._smile), (brows, self._brows)):
            for centre, widths, motion in parts if share else ():
                weight = share * bump(places, centre, widths)
                across, down = across + motion[0] * weight, down + motion[1] * weight
        return np.stack([across, down], -1)

    def sources(self, places: Float[np.ndarray, "h w 2"], smile: float, brows: float) -> Float[np.ndarray, "h w 2"]:
        """Where the pixels of a frame come from."""
        found = places
        for _ in range(_ITERATIONS if smile or brows else 0):
            found = places - (self.moved(found, smile, brows) - found)
        return found
