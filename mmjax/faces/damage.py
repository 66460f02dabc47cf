"""What was done to the pixels of a face: burnt out, faint, compressed to blocks, a negative, posterised, drawn over.

A detector takes such a picture for a person as well, but its embedding has less to do with them, down to nothing for a
negative. Each figure is one in which photographs lie close together. Thresholds were set on 600 photographs of LFW and
on 55 portraits and tight crops, whose smooth skin and hard light look like filters to most measures. On 200 other
photographs and their versions, with scrfd_500m and w600k_mbf (`MMJAX_MEASURE=1 pytest -s tests/faces/test_damage.py`;
told is what the right sentence is said of, or in which no face is found; cosines, median and at 5 %, lie between the
embeddings of the version and of the picture as it is):

| picture | told | no face | cosine |
|---|---|---|---|
| as it is; in grey | wrongly 1.5 %; 1.5 %, all of outlines | 0 | 1 |
| overexposed 1.5 times, twice, 2.5 times | 58.5 %, 97 %, 99 % | 0, 0, 5.5 % | 0.95 (0.83), 0.81 (0.56), 0.66 (0.33) |
| a tenth of the light | 100 % | 0 | 0.80 (0.70) |
| JPEG of quality 5, 10 | 100 %, 66 % | 0 | 0.55 (0.37), 0.80 (0.70) |
| a negative; one in grey | 100 %; 91.5 % | 11 %; 19.5 % | 0.12 (0.00); 0.13 (0.02) |
| red and blue swapped | 99 % | 0 | 0.94 (0.88) |
| posterised, 4 levels; then as JPEG 92 | 100 %; 97 % | 0 | 0.67 (0.48); 0.68 (0.48) |
| posterised, 8 levels | 90 % | 0 | 0.89 (0.79) |
| a cartoon filter: smooth colours, black outlines | 92 % | 0 | 0.63 (0.47) |
| OpenCV's stylization | 74 % | 1 % | 0.30 (0.15) |
| noise of 60 levels | 97.5 % | 47.5 % | 0.55 (0.29) |
| JPEG of quality 20 | 0 | 0 | 0.92 (0.88) |
| JPEG of quality 5, then shrunk to 0.8 | 0 | 0 | 0.55 (0.39) |
| an edge-preserving filter: smooth, no outlines | 0 | 0 | 0.72 (0.58) |

The last two cannot be told from photographs: once its blocks are off the grid of 8 pixels, compression looks like soft
light, and what a beauty filter leaves looks like the skin of a studio portrait. None of the 55 portraits is told.
"""

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mmjax.faces.detection import Face

BURNT, FAINT, BLOCKY, STEPPED, OUTLINED, NOISY = 0.08, 12.0, 1.3, 0.18, 0.046, 0.2  # more, but for FAINT: less
NO_SKIN, NEGATIVE = -4.0, 0.1  # less; more

_INNER = np.s_[16:-8, 16:-16]  # of the aligned crop: face, no background
# rows and columns of the aligned crop: both eyes; both cheeks and the bridge of the nose
_EYES = np.s_[50:55, 33:44], np.s_[50:55, 68:79]
_SKIN = np.s_[66:76, 30:42], np.s_[66:76, 70:82], np.s_[40:70, 53:59]
_BRIGHT = 250  # of 255
_ENDS = 5, 250  # levels between which steps are looked for; what is clipped makes one
_FEWEST = 200  # pixels that make a histogram
_DITHER = 1.0  # pixels, over which dithered shades are one: a GIF's few colours do no harm
_PEAK, _HILL = 2.0, 8.0  # levels: a step that compression has widened, and what photographs vary by
_BLOCK = 8  # pixels of JPEG's blocks
_SMALLEST = 3 * _BLOCK  # pixels of a face in which blocks are looked for
_DARKER = 35  # of 255, a drawn line than what is beside it
_LINE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # wider than a drawn line of the aligned crop


@dataclasses.dataclass(frozen=True)
class Damage:
    """Figures of the pixels of one face.

    burnt: share of the face in which two colours or more are at their brightest, 0 to 1.
    contrast: standard deviation of the face's brightness, of 255.
    blocks: how much steeper the picture is at the borders of JPEG's blocks, by its mean slope.
    skin: redness and yellowness (a* + b* of CIELAB) of the median pixel; of skin 10 to 60, of grey 0.
    eyes: brightness of the eyes less that of cheeks and nose, in `contrast`; of people below 0.
    steps: how far the histogram of the colours is from a smooth one, by that.
    outlines: share of the face in thin lines that are darker than both sides, by `contrast` and more, 0 to 1.
    noise: finest detail of the median pixel, in `contrast`; in photographs it is at edges, and little elsewhere.
    """

    burnt: float
    contrast: float
    blocks: float
    skin: float
    eyes: float
    steps: float
    outlines: float
    noise: float


def measure_damage(picture: UInt8[np.ndarray, "h w 3"], face: Face, aligned: UInt8[np.ndarray, "112 112 3"]) -> Damage:
    """The figures of a face: blocks and steps from the picture's own pixels, the rest from the aligned crop."""
    grey = cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY)
    contrast = max(float(grey[_INNER].std()), 1.0)
    fine, soft = (cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma) for sigma in (1, 2))
    eyes, skin = (np.mean([soft[part].mean() for part in parts]) for parts in (_EYES, _SKIN))
    lines = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, _LINE)[_INNER]
    cut = _cut(picture, face)
    return Damage(
        burnt=float(((aligned[_INNER] >= _BRIGHT).sum(-1) >= 2).mean()),
        contrast=contrast,
        blocks=blockiness(cut),
        skin=_skin(aligned),
        eyes=float(eyes - skin) / contrast,
        steps=_steps(cut),
        outlines=float((lines > max(contrast, _DARKER)).mean()),
        noise=float(np.median(np.abs(grey - fine)[_INNER])) / contrast,
    )


def damage_remarks(damage: Damage) -> Iterator[str]:
    """The likeliest damage, one sentence without a full stop; nothing of a sound photograph."""
    if damage.burnt > BURNT:
        yield f"overexposed, {damage.burnt:.0%} of the face is burnt out; use a picture in which skin is not white"
    elif damage.contrast < FAINT:
        yield "hardly any contrast in the face (too dark, fogged, faded?); use a picture in better light"
    elif damage.blocks > BLOCKY:
        yield "compressed so far that blocks show (JPEG of low quality); use the original picture"
    elif damage.skin < NO_SKIN:
        yield (
            "the face has not the colours of skin (a negative, red and blue swapped, coloured light?); use a picture "
            "in its true colours"
        )
    elif damage.eyes > NEGATIVE:
        yield "the eyes are brighter than the skin (a negative?); use the picture itself"
    elif damage.noise > NOISY:
        yield "noise covers the face; use a picture in better light"
    elif damage.steps > STEPPED:
        yield "too few shades of colour (posterised, drawn, heavily compressed?); use a photograph as it was taken"
    elif damage.outlines > OUTLINED:
        yield "dark outlines in the face (a cartoon filter, a drawing?); use a photograph as it was taken"


def _cut(picture: np.ndarray, face: Face) -> np.ndarray:
    left, top, right, bottom = (max(round(float(edge)), 0) for edge in face.box)
    return np.ascontiguousarray(picture[top:bottom, left:right])


def blockiness(picture: UInt8[np.ndarray, "h w 3"]) -> float:
    """How much steeper a picture is at the borders of JPEG's blocks, by its mean slope: of both directions the lesser.

    0 of a picture that is too small to hold some blocks.
    """
    if min(picture.shape[:2]) < _SMALLEST:
        return 0.0
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return min(_every_eighth(grey), _every_eighth(grey.T))


def _every_eighth(grey: Float[np.ndarray, "h w"]) -> float:
    """How much steeper than its neighbours every eighth step along the rows is, by the mean slope."""
    slopes = np.abs(np.diff(grey, axis=1)).mean(0)
    excess = slopes[1:-1] - (slopes[:-2] + slopes[2:]) / 2
    by_place = np.array([excess[place::_BLOCK].mean() for place in range(_BLOCK)])
    return float((by_place.max() - np.median(by_place)) / max(slopes.mean(), 1e-6))


def _steps(cut: UInt8[np.ndarray, "h w 3"]) -> float:
    """Distance of a histogram from a smoother one: peaks two levels wide count, gaps of one do not."""
    soft = cv2.GaussianBlur(cut, (0, 0), _DITHER) if cut.size else cut
    return float(np.median([_unevenness(soft[..., channel]) for channel in range(3)]))


def _unevenness(values: UInt8[np.ndarray, "h w"]) -> float:
    low, high = _ENDS
    counted = values[(values >= low) & (values <= high)]
    if len(counted) < _FEWEST:
        return 0.0
    shares = np.bincount(counted, minlength=256)[None] / len(counted)
    fine, coarse = (cv2.GaussianBlur(shares, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in (_PEAK, _HILL))
    fine, coarse = np.sqrt(fine), np.sqrt(coarse)  # roots, so that one peak does not outweigh a comb of small ones
    return float(np.abs(fine - coarse).sum() / coarse.sum())


def _skin(aligned: UInt8[np.ndarray, "112 112 3"]) -> float:
    lab = cv2.cvtColor(aligned[_INNER].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(np.median(lab[..., 1]) + np.median(lab[..., 2]))
