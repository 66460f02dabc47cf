"""High dynamic range and wide gamut as sRGB, which is what records, networks and screens take.

A file that is coded for PQ or HLG (BT.2100) and shown as it is looks grey and washed out, and a face in it is no longer
the face of the same person's other pictures. Here it becomes the light that it stands for, that light is brought
into the range of sRGB, and then coded again:

1. light in cd/m2: PQ says it outright (SMPTE ST 2084); HLG is meant for a screen of 1,000 cd/m2 (BT.2100's system gamma
   of 1.2).
2. the knee of BT.2390: what is darker than about 90 cd/m2 stays, 1,000 cd/m2 becomes white, by the brightest of the
   three colours, so that hues stay. White paper (203 cd/m2, BT.2408) comes out a little below white.
3. from the file's primaries to those of sRGB; what lies outside is clipped.
"""

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8, UInt16

WHITE, PEAK = 203.0, 1000.0  # cd/m2 of white in SDR, by BT.2408; of the brightest light that is not clipped

# by their numbers in ITU-T H.273, which every container and codec writes
TRANSFERS = {16: "pq", 18: "hlg"}
PRIMARIES = {9: "bt2020", 11: "p3", 12: "p3"}

_STEPS = 4096  # of the curves that are looked up over light
_XY = {  # of red, green, blue; white is D65 for all of them
    "srgb": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020's primaries, which HLG's gamma is taken of


def to_srgb(codes: UInt16[np.ndarray, "h w 3"], transfer: str, primaries: str) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as sRGB.

    Args:
      codes: RGB, 0 to 65535 for the whole range.
      transfer: "pq", "hlg" or "srgb" (any curve of standard dynamic range, which are alike; then nothing is mapped).
      primaries: "bt2020", "p3" or "srgb".
    """
    light = _light(transfer)[codes]  # in units of `PEAK`, or of white
    if transfer == "hlg":
        light *= np.power(np.maximum(light @ _LUMINANCE, 1e-6), 0.2)[..., None]
    if transfer != "srgb":
        light *= _knee()[_step(light.max(-1))][..., None]
    if primaries != "srgb":
        light = light @ _matrix(primaries).T
    return _coded()[_step(light)]


def pq(light: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Light in cd/m2 as PQ's code, 0 to 1 (SMPTE ST 2084)."""
    power = np.power(np.asarray(light, np.float64) / 10_000, 2610 / 16384)
    return np.power((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power), 2523 / 32)


def _pq_light(code: np.ndarray) -> np.ndarray:
    root = np.power(code, 32 / 2523)
    return 10_000 * np.power(np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root), 16384 / 2610)


def _hlg_light(code: np.ndarray) -> np.ndarray:
    """Light of the scene, 0 to 1 (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _srgb_light(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


@functools.cache
def _light(transfer: str) -> Float[np.ndarray, " 65536"]:
    curves: Mapping = {"pq": lambda code: _pq_light(code) / PEAK, "hlg": _hlg_light, "srgb": _srgb_light}
    return curves[transfer](np.linspace(0, 1, 65536)).astype(np.float32)


@functools.cache
def _knee() -> Float[np.ndarray, " steps"]:
    """Factors over light: BT.2390's EETF (section 5.4.1), from a screen of `PEAK` to one of `WHITE`, black at 0."""
    light = PEAK * np.linspace(0, 1, _STEPS) ** 2
    top = pq(WHITE) / pq(PEAK)
    start = 1.5 * top - 0.5
    code = pq(light) / pq(PEAK)
    t = (code - start) / (1 - start)
    spline = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * (1 - start) + (3 * t**2 - 2 * t**3) * top
    mapped = _pq_light(np.where(code < start, code, spline) * pq(PEAK))
    factors = np.full(_STEPS, PEAK / WHITE)
    factors[1:] = mapped[1:] / WHITE / (light[1:] / PEAK)
    return factors.astype(np.float32)


@functools.cache
def _coded() -> UInt8[np.ndarray, " steps"]:
    light = np.linspace(0, 1, _STEPS) ** 2
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * code).astype(np.uint8)


def _step(light: np.ndarray) -> np.ndarray:
    """Places in the curves over light, which are fine where it is dark."""
    return (np.sqrt(np.clip(light, 0, 1)) * (_STEPS - 1) + 0.5).astype(np.int32)


@functools.cache
def _matrix(primaries: str) -> Float[np.ndarray, "3 3"]:
    """From linear RGB of these primaries to that of sRGB's."""
    return (np.linalg.inv(_to_xyz("srgb")) @ _to_xyz(primaries)).astype(np.float32)


def _to_xyz(primaries: str) -> Float[np.ndarray, "3 3"]:
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _XY[primaries]]).T
    white = np.array([_D65[0] / _D65[1], 1, (1 - sum(_D65)) / _D65[1]])
    return columns * np.linalg.solve(columns, white)
