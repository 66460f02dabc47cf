"""How much a clip moves, and how much of a picture is text that somebody laid over it.

**Motion** is dense optical flow (DIS, Kroeger et al., 2016) between neighbouring frames on a small grey copy, in
percent of the frame's height a second, so that it compares between sizes and rates. Measured on the first 49 frames of
42 clips: a face that talks before a still camera 0.4 to 10, the most restless clip 30; a photograph encoded as a video
0.01, with noise of 3 grey levels in every frame 0.3, slowly zoomed (2 to 10 percent a second) 0.6 to 3.7, panned (5 to
20 percent a second) 5 to 22; frames that jump by up to 2 percent of the height 56. So `min_motion=0.1` drops still
pictures and `max_motion=50` what shakes; a photograph that zooms or pans moves as much as a person and passes.

**Text** is looked for as lines: five and more thin strokes of a letter's height side by side, brighter or darker than
what is beside them. Of 200 photographs of LFW, 250 pixels high, so many have a share above 0.005, the proposed
`max_text`, as they are and with a line of text at the bottom (`MMJAX_MEASURE=1 pytest -s
tests/preparation/test_scores.py`):

| text, by the picture's height | 4 % | 5 % | 6 % | 8 % | 10 % |
|---|---|---|---|---|---|
| none | 1 % | | | | |
| white with a black outline | 99 % | 99 % | 98.5 % | 100 % | 100 % |
| yellow with a black outline | 99 % | 99 % | 99 % | 99.5 % | 100 % |
| white on a black box, on a red band | 100 % | 100 % | 100 % | 100 % | 100 % |
| white without an outline | 93.5 % | 97.5 % | 97.5 % | 97 % | 81.5 % |
| white, half transparent | 26.5 % | 67.5 % | 84 % | 82 % | 42 % |

Weak spots: half transparent watermarks, large letters without an outline, words and logos of fewer than five letters,
and writing that is not in level rows. Only Latin letters were tried. Text that is part of the scene counts as well, a
banner or a jersey; of 1,500 other photographs 0.9 percent are above 0.005 as they are, and most of those do show
writing. Of the first 49 frames of 42 clips none is. Gravel and lawn can look like it.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse.csgraph import connected_components

from mmjax.media import spread

_PAIRS = 12  # neighbouring frames that are compared
_FLOW_SIDE = 128  # pixels of the shorter side, for motion
_TEXT_SIDE = 360  # pixels of the shorter side, for text; the lengths below are such pixels
_STRIP = 4  # times the shorter side that the longer one has at most, which bounds the time
_TEXT_LOOKS = 3  # frames of a clip that are searched for text
_STROKE = 11  # letters are drawn in strokes thinner than that
_CONTRAST = 60  # of 255, of a stroke against what is beside it
_HEIGHTS = (7, 70)  # of a letter
_WIDTHS = (0.08, 2.0)  # of a letter by its height; two or three may touch
_FILLED = (0.2, 0.9)  # of a letter's box, by its strokes
_MOST = 1000  # letters; more are texture, and pairs are looked at
_GAP, _RISE, _RATIO = 0.8, 0.35, 1.9  # between neighbours in a line, by the taller one: gap, step, heights
_LETTERS = 5  # of a line, at least


def motion_score(frames: UInt8[np.ndarray, "F h w 3"], fps: float) -> float:
    """Mean speed of a clip's pixels, in percent of the frame's height a second; 0 for a single frame."""
    if len(frames) < 2:
        return 0.0
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    speeds = []
    for start in spread(_PAIRS, len(frames) - 1):
        before, after = (_grey(frames[index], _FLOW_SIDE) for index in (start, start + 1))
        speeds.append(np.linalg.norm(flow.calc(before, after, None), axis=-1).mean() / len(before))
    return float(100 * fps * np.mean(speeds))


def text_share(frames: UInt8[np.ndarray, "F h w 3"]) -> float:
    """Share of the picture, 0 to 1, that lines of text cover: the median of a few frames."""
    shares = [_text_of(_grey(frames[index], _TEXT_SIDE)) for index in spread(_TEXT_LOOKS, len(frames))]
    return float(np.median(shares))


def _text_of(grey: UInt8[np.ndarray, "h w"]) -> float:
    covered = np.zeros(grey.shape, bool)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_STROKE, _STROKE))
    for brighter_or_darker in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        letters = _letters(cv2.morphologyEx(grey, brighter_or_darker, kernel) > _CONTRAST)
        for line in _lines(letters):
            left, top = line[:, :2].min(0)
            right, bottom = (line[:, :2] + line[:, 2:]).max(0)
            covered[top:bottom, left:right] = True
    return float(covered.mean())


def _letters(strokes: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "n 4"]:
    """Left, top, width and height of connected strokes that could be letters, the tallest first."""
    boxes = cv2.connectedComponentsWithStats(strokes.astype(np.uint8))[2][1:]  # the first is what is no stroke
    _, _, width, height, area = boxes.T
    letters = _within(height, _HEIGHTS) & _within(width / height, _WIDTHS) & _within(area / (width * height), _FILLED)
    boxes = boxes[letters, :4]
    return boxes[np.argsort(-boxes[:, 3], kind="stable")[:_MOST]]


def _lines(letters: Int[np.ndarray, "n 4"]) -> Iterator[Int[np.ndarray, "m 4"]]:
    """Letters of each line of text: chains of neighbours of like height."""
    left, top, width, height = letters.T.astype(np.float32)
    right, middle = left + width, top + height / 2
    taller, smaller = np.maximum.outer(height, height), np.minimum.outer(height, height)
    beside = np.maximum.outer(left, left) - np.minimum.outer(right, right) < _GAP * taller
    level = np.abs(np.subtract.outer(middle, middle)) < _RISE * taller
    count, line = connected_components(beside & level & (taller < _RATIO * smaller), directed=False)
    yield from (letters[line == number] for number in range(count) if np.sum(line == number) >= _LETTERS)


def _within(values: Float[np.ndarray, " n"], limits: tuple[float, float]) -> Bool[np.ndarray, " n"]:
    return (values >= limits[0]) & (values <= limits[1])


def _grey(frame: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "small_h small_w"]:
    """A grey copy whose shorter side has so many pixels. Strips are squeezed: DIS crashes on thin pictures."""
    scale = side / min(frame.shape[:2])
    size = tuple(min(round(length * scale), _STRIP * side) for length in frame.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=method)
