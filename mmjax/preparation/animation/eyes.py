"""Eyes that blink: the skin above the upper lid is drawn down over the eye, its lashes at the edge."""

import numpy as np
from jaxtyping import Float

from mmjax.preparation.animation.curves import smoothstep
from mmjax.preparation.animation.placing import PlacedFace

# dlib's points of each eye, from left to right in the picture: upper edge, lower edge; and of the brow above it
_EYES = ((36, 37, 38, 39), (36, 41, 40, 39), (18, 19, 20)), ((42, 43, 44, 45), (42, 47, 46, 45), (23, 24, 25))
_LASHES = 0.035  # eye distances above the edge of the lid that are not stretched
_WIDER = 1.08  # of the eye, that moves: dlib's corners lie inside of it
_MARGIN = 0.02  # eye distances by which the lids' edges lie beyond dlib's lines, which touch the iris
_SKIN = 0.65  # of what is between lid and brow, that is drawn down
_FOLDS = 0.12, 0.35  # eye distances above the lid from which on skin moves: least, most


class Eyes:
    """The eyes of a photograph. Places are in the face's coordinates."""

    def __init__(self, face: PlacedFace):
        points = face.of_face(face.points)
        self._lids = [_Lid(*(points[list(each)] for each in eye)) for eye in _EYES]

    def sources(self, places: Float[np.ndarray, "h w 2"], shut: float) -> Float[np.ndarray, "h w 2"]:
        """Where the pixels of a frame come from; `shut` is 0 for eyes as in the photograph, 1 for lids that meet."""
        for lid in self._lids:
            places = lid.sources(places, shut)
        return places


class _Lid:
    def __init__(self, upper: np.ndarray, lower: np.ndarray, brow: np.ndarray):
        self._half = _WIDER * float(np.linalg.norm(upper[-1] - upper[0])) / 2
        across = (upper[-1] - upper[0]) / np.linalg.norm(upper[-1] - upper[0])
        self._axes, self._middle = np.array([across, [-across[1], across[0]]]), (upper[0] + upper[-1]) / 2
        upper, lower, brow = ((each - self._middle) @ self._axes.T for each in (upper, lower, brow))
        self._upper, self._lower = (np.polyfit(each[:, 0] / self._half, each[:, 1], 2) for each in (upper, lower))
        self._upper[-1] -= _MARGIN
        self._lower[-1] += _MARGIN
        space = upper[1:3, 1].mean() - brow[:, 1].mean()
        self._fold = float(np.clip(_SKIN * space, *_FOLDS))

    def sources(self, places: np.ndarray, shut: float) -> np.ndarray:
        own = (places - self._middle) @ self._axes.T
        across = own[..., 0] / self._half
        upper, lower = np.polyval(self._upper, across), np.polyval(self._lower, across)
        down = np.where(np.abs(across) < 1, shut * np.maximum(lower - upper, 0), 0)
        above = upper + down - own[..., 1]  # of the lid's edge
        reach = self._fold + down - _LASHES
        eased = smoothstep((above - _LASHES) / reach)
        came = down * (1 - 0.5 * (eased + np.clip((above - _LASHES) / reach, 0, 1)))
        own = np.dstack([own[..., 0], own[..., 1] - np.where(above >= 0, came, 0)])
        return own @ self._axes + self._middle
