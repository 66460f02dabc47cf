"""Which way is up: photographs that lie on their side or stand on their head, with no note of it in the file.

    found = find_upright(picture, detect)
    found.picture, found.faces  # turned, where that was needed; the faces are those of the turned picture
    print(found.remark or "upright")

A detector finds faces in turned pictures too, mostly in the wrong places: the embedding is then that of a stranger. It
is less sure of them, though. So where the largest face is not clearly one that stands upright, the other three turns
are looked at as well, and the one whose largest face has the best score is taken. A face whose own landmarks lie on
their side counts for less, since it says that another turn is right.

Measured with scrfd_500m on 200 photographs of LFW in all four turns, as they are and cut to the face
(`MMJAX_MEASURE=1 pytest -s tests/faces/test_upright.py`); cosines lie between the embeddings of the picture and of the
upright photograph:

| 800 pictures | right | upright ones turned | of these seen once | cosine before: 5, 50, 95 % | after, least |
|---|---|---|---|---|---|
| as they are | 100 % | 0 of 200 | 90 % | -0.05, 0.09, 0.89 | 1.000 |
| cut tightly | 100 % | 0 of 200 | 20.5 % | -0.04, 0.19, 0.94 | 1.000 |

Seen once is what a picture took before; the others take four detections, and five where they are turned. Of 600 other
photographs that stood on their head, one had a score above `CLEAR`, and such a one is taken as it is. A head that is
tilted by 45 degrees may be turned either way. People who lie are turned upright with all that is around them. With
another detector than scrfd_500m, `CLEAR` may lie elsewhere among its scores: pictures are then seen more or less often.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from mmjax.faces.detection import Face

CLEAR = 0.85  # score from which on an upright face is taken for one without a look at the other turns
_TILTED = 45.0  # degrees, from which on another turn has the face more upright
_SURE = 0.03  # of the score, between the best turn and the next
_WAYS = {1: "by 90 degrees to the left", 2: "by 180 degrees", 3: "by 90 degrees to the right"}

Detect = Callable[[UInt8[np.ndarray, "h w 3"]], list[Face]]


@dataclasses.dataclass(frozen=True, eq=False)
class UprightPicture:
    """A picture in the turn in which its faces stand upright, and the faces in it, the largest first.

    turns: quarter turns to the left that brought it there; 0 for a picture as it is in its file.
    sure: no other turn is nearly as good.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    faces: list[Face]
    turns: int = 0
    sure: bool = True

    @property
    def remark(self) -> str:
        """What is to be said of it; see `remark`."""
        return remark(self.turns, self.sure)


def find_upright(picture: UInt8[np.ndarray, "h w 3"], detect: Detect) -> UprightPicture:
    """The faces of an RGB picture, which is turned first where it does not stand upright.

    A picture whose largest face is clearly upright is seen once; others are seen four times, and once more if turned.
    """
    faces = detect(picture)
    if faces and is_clear(faces[0]):
        return UprightPicture(picture, faces)
    turns, sure = _best(_ratings(picture, detect, faces))
    if turns:
        picture = turned(picture, turns)
        faces = detect(picture)
    return UprightPicture(picture, faces, turns, sure)


def upright_turns(frames: Sequence[UInt8[np.ndarray, "h w 3"]], detect: Detect) -> tuple[int, bool]:
    """How a clip has to be turned, from a few of its frames: (quarter turns to the left, whether that is sure).

    The middle one is asked first, and the others only where it does not stand upright for sure.
    """
    middle, *others = sorted(range(len(frames)), key=lambda index: abs(index - len(frames) // 2))
    ratings = _ratings(frames[middle], detect)
    if _best(ratings) == (0, True):
        return 0, True
    return _best(np.mean([ratings, *(_ratings(frames[index], detect) for index in others)], axis=0))


def is_clear(face: Face) -> bool:
    """Whether a face surely stands upright in its picture."""
    return face.score >= CLEAR and abs(roll(face.landmarks)) < _TILTED


def roll(landmarks: Float[np.ndarray, "5 2"]) -> float:
    """Degrees by which a face is tilted, -180 to 180: 0 with the mouth below the eyes, positive to the right."""
    points = np.asarray(landmarks, np.float64)
    x, y = points[:2].mean(0) - points[3:].mean(0)
    return math.degrees(math.atan2(x, -y))


def turned(pixels: UInt8[np.ndarray, "*frames h w 3"], turns: int) -> UInt8[np.ndarray, "*frames new_h new_w 3"]:
    """A picture or frames by so many quarter turns to the left."""
    return np.ascontiguousarray(np.rot90(pixels, turns, axes=(-3, -2))) if turns % 4 else pixels


def remark(turns: int, sure: bool) -> str:
    """That a picture was turned, in a sentence without a full stop; "" for one that surely stands upright."""
    if turns:
        doubt = "" if sure else ", though it is not sure which way is up"
        return f"does not stand upright and was turned {_WAYS[turns]}{doubt}; if that is wrong, use another picture"
    return "" if sure else "perhaps does not stand upright, and is used as it is; if it does not, turn it and save it"


def _ratings(picture: np.ndarray, detect: Detect, faces: list[Face] | None = None) -> Float[np.ndarray, "4"]:
    """Of a picture in each turn; `faces` are those of the picture as it is, where they are known."""
    known = [detect(picture) if faces is None else faces]
    return np.array([_rating(each) for each in known + [detect(turned(picture, turns)) for turns in (1, 2, 3)]])


def _best(ratings: Float[np.ndarray, "4"]) -> tuple[int, bool]:
    """(the best turn, of equals the first; whether none else is nearly as good). Nobody in any turn leaves no doubt."""
    best = int(ratings.argmax())
    return best, bool(ratings[best] - np.delete(ratings, best).max() >= _SURE or not ratings.any())


def _rating(faces: list[Face]) -> float:
    """How well a picture in one turn shows an upright face: the score of the largest, less where it lies."""
    if not faces:
        return 0.0
    upright = math.cos(math.radians(roll(faces[0].landmarks))) / math.cos(math.radians(_TILTED))
    return faces[0].score * min(max(upright, 0.0), 1.0)
