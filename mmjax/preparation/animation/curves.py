"""Smooth shapes that displacements are made of. NumPy only."""

import numpy as np
from jaxtyping import Float


def smoothstep(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """0 below 0, 1 above 1, and no corner between."""
    values = np.clip(values, 0, 1)
    return values * values * (3 - 2 * values)


def bump(
    places: Float[np.ndarray, "*n 2"], centre: Float[np.ndarray, "2"], widths: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "*n"]:
    """1 at the centre, falling off as a Gaussian of these standard deviations across and down."""
    across, down = ((places[..., axis] - centre[axis]) / widths[axis] for axis in (0, 1))
    return np.exp(-0.5 * (across * across + down * down))
