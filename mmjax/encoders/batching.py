"""Batches of few sizes, so that few programs are compiled: rows are filled up, and what was filled up is cut off again.

Rows know nothing of each other, so what fills them up does not matter: it is the rows themselves, from the first on.
NumPy only.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

Arrays = np.ndarray | tuple[np.ndarray, ...]


def power_of_two(rows: int) -> int:
    """The least of 1, 2, 4, ... that is no less than `rows`."""
    return 1 << (rows - 1).bit_length()


def run_filled(compute: Callable[[np.ndarray], Arrays], rows: Shaped[np.ndarray, "n ..."], size: int) -> Arrays:
    """`compute` of `rows` filled up to `size` rows; of its result, or of each of its results, the first n rows."""
    found = compute(np.resize(rows, (size, *rows.shape[1:])))
    if isinstance(found, tuple):
        return tuple(np.asarray(each)[: len(rows)] for each in found)
    return np.asarray(found)[: len(rows)]


def run_in_batches(
    compute: Callable[[np.ndarray], Arrays],
    rows: Shaped[np.ndarray, "n ..."],
    batch: int,
    size: Callable[[int], int] = power_of_two,
) -> Arrays:
    """`compute` of one row or more, `batch` at a time; n rows that are left are filled up to `size(n)`."""
    pieces = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    found = [run_filled(compute, piece, size(len(piece))) for piece in pieces]
    if isinstance(found[0], tuple):
        return tuple(np.concatenate(each) for each in zip(*found, strict=True))
    return np.concatenate(found)
