"""How head, features and camera move in time: smooth random curves, the same for the same seed."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

_SLOW, _QUICK = (0.1, 0.7), (0.2, 1.1)  # frequencies of a head or camera, of an expression, in a second
_UPWARD = 0.5  # by which a mouth's corners go further up than down
_SYLLABLES = 2.5, 4.5  # in a second
_LID = 0.32  # seconds of a blink
_CAMERA_MOVES = 0.5  # share of clips


@dataclasses.dataclass(frozen=True)
class Amplitudes:
    """How far things move at most, from rest to one side; a clip draws its own share of each, and of some nothing.

    Degrees; distances between the eyes (`sway`, `mouth`); shares of the picture's shorter side (`pan`) and size
    (`zoom`); shares of what `features.py` allows (`smile`, `brows`). talk, blink: the share of clips with speech, and
    blinks a second. All 0 is the photograph, again and again.
    """

    yaw: float = 16.0
    pitch: float = 10.0
    roll: float = 4.5
    sway: float = 0.2
    mouth: float = 0.3
    smile: float = 1.0
    brows: float = 1.0
    talk: float = 0.8
    blink: float = 0.3
    pan: float = 0.05
    zoom: float = 0.08
    tilt: float = 2.0  # roll of the camera


STILL = Amplitudes(**dict.fromkeys((field.name for field in dataclasses.fields(Amplitudes)), 0.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """What is where in each of F frames; 0 is the photograph.

    turn: of the head, degrees of yaw, pitch, roll. sway: of the head, eye distances right and down.
    mouth: eye distances by which it opens; smile, brows: -1 to 1; shut: of the eyes, 0 to 1.
    pan: shares of the picture's shorter side, right and down. zoom: shares. tilt: degrees.
    """

    turn: Float[np.ndarray, "F 3"]
    sway: Float[np.ndarray, "F 2"]
    mouth: Float[np.ndarray, " F"]
    smile: Float[np.ndarray, " F"]
    brows: Float[np.ndarray, " F"]
    shut: Float[np.ndarray, " F"]
    pan: Float[np.ndarray, "F 2"]
    zoom: Float[np.ndarray, " F"]
    tilt: Float[np.ndarray, " F"]


def draw_motion(frames: int, fps: float, seed: int, most: Amplitudes) -> Motion:
    """The motion of a clip."""
    draw, times = np.random.default_rng(seed), np.arange(frames) / fps
    head, camera = draw.beta(1.2, 1.3), float(draw.uniform() < _CAMERA_MOVES)
    yaw, pitch, roll = (head * each * _curve(draw, times, _SLOW) for each in (most.yaw, most.pitch, most.roll))
    return Motion(
        turn=np.column_stack([yaw, pitch, roll]),
        sway=head * most.sway * np.column_stack([_curve(draw, times, _SLOW), 0.5 * _curve(draw, times, _SLOW)]),
        mouth=most.mouth * _speech(draw, times, most.talk),
        smile=most.smile * draw.uniform() * (_curve(draw, times, _QUICK) + _UPWARD) / (1 + _UPWARD),
        brows=most.brows * draw.uniform() * _curve(draw, times, _QUICK),
        shut=_blinks(draw, times, most.blink),
        pan=camera * most.pan * np.column_stack([_curve(draw, times, _SLOW), _curve(draw, times, _SLOW)]),
        zoom=camera * most.zoom * draw.uniform() * _curve(draw, times, _SLOW),
        tilt=camera * most.tilt * draw.uniform() * _curve(draw, times, _SLOW),
    )


def _curve(draw: np.random.Generator, times: np.ndarray, frequencies: tuple[float, float]) -> np.ndarray:
    """A smooth curve between -1 and 1: three sines, the slower the larger."""
    hertz, phases = draw.uniform(*frequencies, 3), draw.uniform(0, 2 * np.pi, 3)
    heights = draw.uniform(0.3, 1, 3) / (0.3 + hertz)
    return np.sin(2 * np.pi * np.outer(times, hertz) + phases) @ heights / heights.sum()


def _speech(draw: np.random.Generator, times: np.ndarray, share: float) -> np.ndarray:
    """How far a mouth is open, 0 to 1: syllables of differing height, in phrases; nothing at all in other clips."""
    talks, loud, rate = draw.uniform() < share, draw.uniform(0.35, 1), draw.uniform(*_SYLLABLES)
    start, phrase, phase = draw.uniform(0, 2 * np.pi), draw.uniform(0.25, 0.6), draw.uniform()
    beats = np.floor(times * rate + phase).astype(int)
    heights = draw.uniform(0.25, 1, len(times) + 2 + int(times[-1] * rate))[beats]
    spoken = np.clip(0.6 + np.sin(2 * np.pi * phrase * times + start), 0, 1)
    return float(talks) * loud * spoken * heights * np.sin(np.pi * (times * rate + phase)) ** 2


def _blinks(draw: np.random.Generator, times: np.ndarray, rate: float) -> np.ndarray:
    """How far the eyes are shut, 0 to 1; blinks come at random, `rate` a second."""
    shut = np.zeros(len(times))
    for middle in _moments(draw, float(times[-1]), rate):
        shut = np.maximum(shut, np.clip(1.6 * np.cos(np.pi * np.clip((times - middle) / _LID, -0.5, 0.5)), 0, 1))
    return shut


def _moments(draw: np.random.Generator, end: float, rate: float) -> Iterator[float]:
    """Times of blinks, at least a second apart."""
    at = draw.exponential(1 / rate) if rate else np.inf
    while at <= end:
        yield at
        at += 1 + draw.exponential(1 / rate)
