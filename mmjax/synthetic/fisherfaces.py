"""A recogniser for drawn people: Fisherfaces (Belhumeur, Hespanha and Kriegman, 1997).

Networks trained on photographs see little in a drawing of 32 pixels, so drawn people get the classical linear
recogniser: the directions along which people differ most, measured against how much one person's own pictures differ.
It is fitted on people of the training split and applied to people it never saw, whose rate on real clips is the ceiling
that any generated clip can be measured against.

The original reduces the pixels by principal components first, only because the scatter within people cannot be inverted
when pictures are fewer than pixels. Here that scatter is shrunk towards a multiple of the identity instead (Friedman's
regularised discriminant analysis, 1989), which keeps fine traits that carry little variance, such as glasses.
"""

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mmjax.errors import DataError
from mmjax.faces.embeddings import unit

_SIDE = 32  # pixels a side at which faces are compared: the scatter matrix grows with the fourth power


@dataclasses.dataclass(frozen=True)
class Fisherfaces:
    """A fitted linear embedding of pictures: `(pixels - mean) @ projection`, of length one."""

    mean: Float[np.ndarray, " pixels"]
    projection: Float[np.ndarray, "pixels width"]

    def embed(self, frames: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n width"]:
        """Unit embeddings of RGB pictures, whose framing should be that of the pictures it was fitted on."""
        return unit((_pixels(frames) - self.mean) @ self.projection)


def fit_fisherfaces(
    frames: UInt8[np.ndarray, "n height width 3"],
    people: Int[np.ndarray, " n"],
    *,
    width: int = 32,
    shrinkage: float = 0.01,
) -> Fisherfaces:
    """Fits the discriminant directions to pictures of known people.

    Args:
      frames: RGB pictures, several of each person and the more varied the better.
      people: who is on each; any integers.
      width: directions kept, those that tell people apart best; more add noise.
      shrinkage: share of the identity in the scatter within people, 0 to 1.

    Raises:
      DataError: fewer than two people, or nobody with two pictures.
    """
    people = np.unique(np.asarray(people), return_inverse=True)[1]
    groups, count = int(people.max(initial=-1)) + 1, len(people)
    if groups < 2 or count <= groups:
        raise DataError(f"Fisherfaces: expected two people or more with several pictures, found {count} of {groups}")
    pixels = _pixels(frames)
    mean = pixels.mean(axis=0)
    pixels -= mean
    centres = np.zeros((groups, pixels.shape[1]), np.float32)
    np.add.at(centres, people, pixels)
    centres /= np.bincount(people)[:, None]
    pixels -= centres[people]
    within = pixels.T @ pixels / count
    within *= 1 - shrinkage
    within[np.diag_indices_from(within)] += shrinkage * np.trace(within) / len(within) + 1e-6
    root = np.linalg.cholesky(within)
    directions = _main_directions(scipy.linalg.solve_triangular(root, centres.T, lower=True), width)
    return Fisherfaces(mean, scipy.linalg.solve_triangular(root, directions, lower=True, trans=1))


def _pixels(frames) -> Float[np.ndarray, "n pixels"]:
    """Pictures as rows of values -1..1, after shrinking large ones to `_SIDE` pixels a side."""
    frames = np.asarray(frames, np.uint8)
    if max(frames.shape[1:3]) > _SIDE:
        small = [Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX) for frame in frames]
        frames = np.stack([np.asarray(frame) for frame in small])
    return (frames.astype(np.float32) / 127.5 - 1).reshape(len(frames), -1)


def _main_directions(columns: np.ndarray, width: int) -> np.ndarray:
    """Orthonormal directions of the largest spread of the columns, by the smaller of the two Gram matrices."""
    columns = columns - columns.mean(axis=1, keepdims=True)
    rows, count = columns.shape
    values, vectors = np.linalg.eigh(columns @ columns.T if rows <= count else columns.T @ columns)
    kept = np.argsort(values)[::-1][: min(width, count - 1, rows)]
    kept = kept[values[kept] > values[kept[0]] * 1e-6]
    return vectors[:, kept] if rows <= count else columns @ vectors[:, kept] / np.sqrt(values[kept])
