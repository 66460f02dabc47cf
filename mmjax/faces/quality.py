"""How good a face is as a reference: how large, how sharp, how far turned, in colour or not, and what of it is hidden.

Figures are taken where the encoders look: sharpness, colour and what is hidden on the aligned crop of 112 pixels, yaw
on the five landmarks. Each has a threshold at which it is reported, and some a second one at which the face is no use.
Thresholds were set on photographs of LFW and their versions made worse, and then measured on 200 other ones, with
scrfd_500m and w600k_mbf (`MMJAX_MEASURE=1 pytest -s tests/faces/test_reference_calibration.py`; pixels of blur are
those of the aligned crop, cosines lie between the embeddings of the version and of the untouched picture):

| picture | reported | refused | cosine |
|---|---|---|---|
| as it is | turned 2.5 %, nothing else | 0.5 % | 1 |
| blurred by 1.5, 2, 3 pixels (Gaussian) | blurred 85 %, 100 %, 100 % | 0.5 %, 20 %, 98 % | 0.91, 0.84, 0.67 |
| shaken by 12 pixels | blurred 78 % | 1 % | 0.51 |
| a face of 64, of 40 pixels | small 100 %, 100 % | 0.5 %, 100 % | 0.98, 0.91 |
| a surgical mask, blue, black, white | mouth hidden 100 %, 99.5 %, 100 % | 0.5 % | 0.64 to 0.65 |
| a hand before the mouth | mouth hidden 100 % | 0.5 % | 0.60 |
| dark glasses | eyes hidden 76 % | 0.5 % | 0.75 |
| one half covered | side hidden 75 %, turned 23.5 % | 8 % | 0.63 |

Of 55 portraits and tight crops none is refused, and nothing is said but that two are turned by 37 and 39 degrees and
that 40 are black and white. A turned head costs the embedding little (two photographs of a person have a cosine of
0.62, of 0.57 with one turned by more than 50 degrees); it is reported because the far half of the face is not in the
picture and has to be made up. Shaken pictures are the weak spot: they cost most and a quarter goes unnoticed.

What is hidden is asked of the recogniser itself: the mouth, the eyes, one half and the other are painted over in turn,
and a part whose loss hardly changes the embedding showed nothing before. That finds masks, hands and things
before the mouth, dark glasses, and faces that the picture's edge cuts. It does not find what leaves a part half
visible: hair, a finger, clear glasses, a cap. Its thresholds belong to one recogniser, so it only ever warns. What was
done to the pixels is measured in `mmjax.faces.damage`, and only ever warns as well.
"""

import dataclasses
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.faces.damage import Damage, damage_remarks, measure_damage
from mmjax.faces.detection import Face, align
from mmjax.faces.embeddings import unit

Embed = Callable[[UInt8[np.ndarray, "n 112 112 3"]], Float[np.ndarray, "n width"]]

SMALL, TOO_SMALL = 80, 48  # pixels, longer side of the face's box
SOFT, TOO_SOFT = 0.40, 0.30  # sharpness
TURNED, TOO_TURNED = 35, 50  # degrees of yaw
MOUTH_HIDDEN, EYES_HIDDEN, SIDE_HIDDEN = 0.91, 0.835, 0.5
_GREY = 3.0  # mean distance from grey in CIELAB units; 0 where a picture is grey, 8 and more in colour
# left and right eye, nose tip, corners of the mouth of a mean face, in distances between the eyes; x right, y down,
# z to the viewer: insightface's mean shape of 68 points, made symmetric
SHAPE = np.array(
    [[-0.5, -0.484, -0.154], [0.5, -0.484, -0.154], [0, -0.155, 0.38], [-0.395, 0.56, -0.036], [0.395, 0.56, -0.036]]
)
# rows and columns of the aligned crop that are painted over
_MOUTH, _EYES = np.s_[76:108, 30:82], np.s_[40:64, 16:96]
_LEFT, _RIGHT = np.s_[:, :56], np.s_[:, 56:]
_INNER = np.s_[16:-8, 16:-16]  # of the aligned crop: face, no background


@dataclasses.dataclass(frozen=True)
class Quality:
    """Figures of one face as a reference.

    side: longer side of its box, pixels.
    sharpness: fine detail by coarser detail, in the aligned crop; about 0.57 for a sharp photograph.
    yaw: how far the head is turned, degrees; positive towards the picture's right.
    colour: mean distance of the face's colours from grey, CIELAB units; about 23 for a colour photograph.
    mouth, eyes: cosine between the embeddings without and with that part painted over.
    sides: difference of these cosines between the face's two halves.
    damage: what was done to its pixels.
    """

    side: float
    sharpness: float
    yaw: float
    colour: float
    mouth: float
    eyes: float
    sides: float
    damage: Damage


@dataclasses.dataclass(frozen=True)
class Remark:
    """Something that is wrong with a reference: a sentence, and whether the reference is no use because of it."""

    text: str
    severe: bool = False


def measure(
    picture: UInt8[np.ndarray, "h w 3"], face: Face, embed: Embed
) -> tuple[Quality, UInt8[np.ndarray, "112 112 3"], Float[np.ndarray, " width"]]:
    """(figures, aligned crop, raw embedding) of a face. `embed` sees five crops at once."""
    aligned = align(picture, face.landmarks)
    covered = [cover(aligned, part) for part in (_MOUTH, _EYES, _LEFT, _RIGHT)]
    embeddings = np.asarray(embed(np.stack([aligned, *covered])))
    mouth, eyes, left, right = (float(each) for each in unit(embeddings[1:]) @ unit(embeddings[0]))
    quality = Quality(
        face.side,
        sharpness(aligned),
        yaw(face.landmarks),
        colour(aligned),
        mouth,
        eyes,
        abs(left - right),
        measure_damage(picture, face, aligned),
    )
    return quality, aligned, embeddings[0]


def remarks(quality: Quality) -> Iterator[Remark]:
    """What is to be said of a face, in whole sentences without a full stop."""
    side, turned = round(quality.side), round(abs(quality.yaw))
    if quality.side < SMALL:
        yield Remark(
            f"expected a face of {SMALL} pixels or more, found {side}; use a larger picture, or one taken closer",
            quality.side < TOO_SMALL,
        )
    if quality.sharpness < SOFT:
        yield Remark(
            f"expected a sharp face, found a blurred one (sharpness {quality.sharpness:.2f}, sharp ones have {SOFT} or "
            "more); use a picture in focus, without motion blur",
            quality.sharpness < TOO_SOFT,
        )
    if abs(quality.yaw) > TURNED:
        yield Remark(
            f"expected a face that looks about towards the camera, found one turned away by {turned} degrees; use a "
            f"picture from the front, or turned by less than {TURNED} degrees",
            abs(quality.yaw) > TOO_TURNED,
        )
    yield from (Remark(text) for text in _hidden(quality))
    yield from (Remark(text) for text in damage_remarks(quality.damage))
    if quality.colour < _GREY:
        yield Remark("the picture is black and white: the video's colours of skin, hair and eyes will be guesses")


def _hidden(quality: Quality) -> Iterator[str]:
    if quality.mouth > MOUTH_HIDDEN:
        yield "the mouth is hidden or hard to read (a mask, a hand, a microphone?); use a picture that shows it"
    if quality.eyes > EYES_HIDDEN:
        yield "the eyes are hidden or hard to read (dark glasses, a shadow?); use a picture that shows them"
    if quality.sides > SIDE_HIDDEN and abs(quality.yaw) <= TURNED:
        yield "one side of the face is hidden, in the dark or cut off; use a picture that shows the whole face"


def sharpness(aligned: UInt8[np.ndarray, "112 112 3"]) -> float:
    """Slopes of the detail of 1 to 2 pixels by those of 2 to 4, along the direction in which they are least.

    A ratio does not change with contrast, the missing finest pixel keeps noise out, and four directions show motion
    blur, which leaves the detail across it.
    """
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY).astype(np.float32)[_INNER]
    fine, middle, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1, 2, 4))
    narrow, wide = fine - middle, middle - coarse
    return min(
        _slope(narrow, *step, 1) / max(_slope(wide, *step, 2), 1e-6) for step in ((0, 1), (1, 1), (1, 0), (1, -1))
    )


def _slope(band: np.ndarray, down: int, right: int, pixels: int) -> float:
    """Standard deviation of the differences between pixels that lie so many steps apart."""
    return float((band - np.roll(band, (down * pixels, right * pixels), (0, 1)))[pixels:, pixels:-pixels].std())


def yaw(landmarks: Float[np.ndarray, "5 2"]) -> float:
    """Degrees by which a head is turned to the side, from -90 to 90, positive towards the picture's right.

    The landmarks are fitted by an affine map of a mean face. Up and down along the face is where its second axis
    lands; how far depth and breadth land across that are sine and cosine of the angle. Nodding and tilting have no part
    in it. A detector draws full profiles less turned than they are: at 90 degrees expect 60.
    """
    points, shape = np.asarray(landmarks, np.float64), SHAPE - SHAPE.mean(0)
    breadth, height, depth = np.linalg.lstsq(shape, points - points.mean(0))[0]
    across = np.array([height[1], -height[0]])
    return float(np.degrees(np.arctan2(depth @ across, breadth @ across)))


def colour(aligned: UInt8[np.ndarray, "112 112 3"]) -> float:
    """Mean distance of the face's pixels from grey, in units of CIELAB."""
    lab = cv2.cvtColor(aligned[_INNER].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def cover(aligned: UInt8[np.ndarray, "112 112 3"], part: tuple) -> UInt8[np.ndarray, "112 112 3"]:
    """The crop with one part painted in its mean colour."""
    painted = aligned.copy()
    painted[part] = aligned.mean(axis=(0, 1)).round()
    return painted
