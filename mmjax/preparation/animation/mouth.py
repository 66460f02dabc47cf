"""A mouth that opens and closes: the lower lip and the chin slide away from the upper lip, and between them it is dark.

The photograph is taken for two layers that part along the lips' line (of a mouth that is open: along the lower lip, so
that upper teeth stay with the skull). A frame's pixel is the lower layer where that has come to lie, else the upper
one, else the inside of the mouth. A mouth that smiles with its teeth showing closes by the lower lip sliding over them.
"""

import cv2
import numpy as np
from jaxtyping import Float

from mmjax.preparation.animation.curves import smoothstep
from mmjax.preparation.animation.placing import PlacedFace

_UPPER, _LOWER = [60, 61, 62, 63, 64], [60, 67, 66, 65, 64]  # dlib's inner edges of the lips, left to right
_LOWER_LIP = [56, 57, 58, 65, 66, 67]
_OPEN = 0.06  # eye distances between the lips from which on a mouth counts as open
_WIDEST = 0.3  # eye distances between the lips of a mouth that was open already
_SEARCHED = np.linspace(-0.06, 0.06, 25)  # eye distances down, where the dark line between closed lips is looked for
_JAW = 0.75  # eye distances to the side over which the chin's motion falls off
_CHIN, _THROAT = 0.3, (0.75, 1.7)  # eye distances below the lips: all of the jaw moves; the motion falls off
_LIFT, _LIFTED = 0.2, 0.18  # of the opening, by which the upper lip rises; eye distances over which that falls off
_DARK = 0.25  # of the lower lip's colour, the inside of the mouth
_TONGUE_COLOUR = np.array([0.6, 0.4, 0.4])  # of the same
_TEETH, _TOOTH_LIGHT = 0.09, np.array([1.1, 1.05, 0.95])  # eye distances; of the lower lip's brightness
_TONGUE = 0.05, 0.15  # eye distances of opening from which on, and at which wholly, a tongue shows
_ITERATIONS = 6


class Mouth:
    """The mouth of a photograph. Places are in the face's coordinates (`PlacedFace`), lengths in eye distances.

    opened: between the lips in the photograph.
    """

    def __init__(self, face: PlacedFace, picture: Float[np.ndarray, "h w 3"]):
        points = face.of_face(face.points)
        left, right = points[60], points[64]
        self._half = float(np.linalg.norm(right - left)) / 2
        across = (right - left) / (2 * self._half)
        self._axes, self._middle = np.array([across, [-across[1], across[0]]]), (left + right) / 2
        upper, lower = (self._to(points[each]) for each in (_UPPER, _LOWER))
        self.opened = max(float((lower - upper)[1:4, 1].mean()), 0.0)
        closed = self.opened <= _OPEN
        line = (upper + lower) / 2 if closed else lower
        self._line = np.polyfit(line[:, 0] / self._half, line[:, 1], 2)
        if closed:
            self._line[-1] += self._dark_line(face, picture)
        lip = cv2.remap(picture, face.points[_LOWER_LIP].astype(np.float32)[None], None, cv2.INTER_LINEAR)[0]
        self._lip = np.median(lip, axis=0)

    def opening(self, wanted: float) -> float:
        """How far the lower lip moves down in speech; an open mouth half closes, and opens no wider than others."""
        if self.opened <= _OPEN:
            return wanted
        return float(np.clip(wanted - 0.5 * self.opened, -0.9 * self.opened, max(_WIDEST - self.opened, 0)))

    def sources(
        self, places: Float[np.ndarray, "h w 2"], opening: float
    ) -> tuple[Float[np.ndarray, "h w 2"], Float[np.ndarray, "h w 4"]]:
        """Where the pixels of a frame come from, and what is seen between the lips: a colour, and 1 or 0 for where.

        opening: by how much the lower lip is lower than in the photograph; a negative one closes an open mouth.
        """
        own = self._to(places)
        below = self._before(own, opening, self._sunk)
        above = self._before(own, opening, self._risen)
        is_below = self._under(below) >= 0
        is_above = self._under(above) < 0
        found = np.where(is_below[..., None], below, above)
        inside = ~is_below & ~is_above & (opening > 0)
        colour = self._inside(own, opening) * inside[..., None]
        return found @ self._axes + self._middle, np.dstack([colour, inside]).astype(np.float32)

    def _inside(self, own: np.ndarray, opening: float) -> Float[np.ndarray, "h w 3"]:
        """Dark; in the lower part of a gap that is wide enough as red as a tongue in the shade.

        Where lips were closed, teeth show below the upper one, greyish in its shade, lest smiles look toothless.
        """
        depth = (self._under(own) + _LIFT * opening) / max((1 + _LIFT) * opening, 1e-6)
        tongue = smoothstep((depth - 0.35) / 0.6) * smoothstep((opening - _TONGUE[0]) / (_TONGUE[1] - _TONGUE[0]))
        colour = self._lip * (_DARK + (_TONGUE_COLOUR - _DARK) * tongue[..., None])
        if self.opened > _OPEN:
            return colour
        below = self._under(own) + _LIFT * opening * self._gap(own)  # of the upper lip's edge
        arch = np.sqrt(np.maximum(1 - (own[..., 0] / (0.85 * self._half)) ** 2, 0))
        high = _TEETH * smoothstep(opening / _TONGUE[1]) * arch
        tooth = smoothstep((high - below) / (0.5 * _TEETH))[..., None]
        return colour + (_TOOTH_LIGHT * self._lip.mean() - colour) * tooth

    def moved(self, places: Float[np.ndarray, "n 2"], opening: float) -> Float[np.ndarray, "n 2"]:
        """Where places of the photograph go."""
        own = self._to(places)
        down = np.where(self._under(own) >= 0, self._sunk(own, opening), self._risen(own, opening))
        return np.column_stack([own[:, 0], own[:, 1] + down]) @ self._axes + self._middle

    def _before(self, own: np.ndarray, opening: float, displaced) -> np.ndarray:
        """Where a layer's pixels were before it moved."""
        down = displaced(own, opening)
        for _ in range(_ITERATIONS):
            down = displaced(np.dstack([own[..., 0], own[..., 1] - down]), opening)
        return np.dstack([own[..., 0], own[..., 1] - down])

    def _sunk(self, own: np.ndarray, opening: float) -> np.ndarray:
        """How far the lower layer moves down: at the lips between their corners alone, at the chin as a whole."""
        under = np.maximum(self._under(own), 0)
        jaw = smoothstep(under / _CHIN)
        chin = np.exp(-((own[..., 0] / _JAW) ** 2))
        throat = 1 - smoothstep((under - _THROAT[0]) / (_THROAT[1] - _THROAT[0]))
        return opening * ((1 - jaw) * self._gap(own) + jaw * chin) * throat

    def _risen(self, own: np.ndarray, opening: float) -> np.ndarray:
        """How far the upper layer moves down: a little up, where the mouth opens."""
        over = np.maximum(-self._under(own), 0)
        return -_LIFT * max(opening, 0) * self._gap(own) * np.exp(-((over / _LIFTED) ** 2))

    def _gap(self, own: np.ndarray) -> np.ndarray:
        """How wide the lips part, by the middle's: nothing at the corners."""
        return np.maximum(1 - (own[..., 0] / (0.95 * self._half)) ** 2, 0)

    def _under(self, own: np.ndarray) -> np.ndarray:
        """How far places lie below the lips' line."""
        return own[..., 1] - np.polyval(self._line, np.clip(own[..., 0] / self._half, -1.2, 1.2))

    def _dark_line(self, face: PlacedFace, picture: np.ndarray) -> float:
        """How far below dlib's line the dark one between closed lips is."""
        across = np.linspace(-0.7, 0.7, 15)
        rows = np.polyval(self._line, across) + _SEARCHED[:, None]
        own = np.dstack([np.broadcast_to(across * self._half, rows.shape), rows])
        places = face.of_picture(own @ self._axes + self._middle).astype(np.float32)
        grey = cv2.remap(picture, places, None, cv2.INTER_LINEAR).mean(-1).mean(-1)
        return float(_SEARCHED[grey.argmin()])

    def _to(self, places: np.ndarray) -> np.ndarray:
        return (places - self._middle) @ self._axes.T
