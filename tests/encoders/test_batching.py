"""Rows that are filled up to a size and cut again, and weights that are read when they are needed."""

import numpy as np
import pytest

from mmjax.encoders.batching import power_of_two, run_filled, run_in_batches
from mmjax.encoders.lazy import LazyWeights


class Doubled:
    """Doubles rows and remembers how many it was given."""

    def __init__(self):
        self.sizes = []

    def __call__(self, rows):
        self.sizes.append(len(rows))
        return 2 * rows

    def both(self, rows):
        return self(rows), rows[:, 0] + 0.5


def test_powers_of_two():
    assert [power_of_two(rows) for rows in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]


@pytest.mark.parametrize("rows, batch, sizes", [(1, 8, [1]), (3, 8, [4]), (19, 8, [8, 8, 4]), (16, 8, [8, 8])])
def test_batches_have_few_sizes_and_give_every_row_its_own(rows, batch, sizes):
    x, doubled = np.arange(rows * 2).reshape(rows, 2), Doubled()
    np.testing.assert_array_equal(run_in_batches(doubled, x, batch), 2 * x)
    assert doubled.sizes == sizes
    one, other = run_in_batches(doubled.both, x, batch)
    np.testing.assert_array_equal(one, 2 * x)
    np.testing.assert_array_equal(other, x[:, 0] + 0.5)


def test_a_size_may_be_given():
    doubled, x = Doubled(), np.arange(7)
    np.testing.assert_array_equal(run_in_batches(doubled, x, 5, lambda rows: 5), 2 * x)
    np.testing.assert_array_equal(run_filled(doubled, x, 16), 2 * x)
    assert doubled.sizes == [5, 5, 16]


def test_rows_are_filled_up_with_themselves():
    np.testing.assert_array_equal(run_filled(lambda rows: rows[:, None] * np.ones(2), np.arange(3), 8)[:, 0], range(3))
    seen = []
    run_filled(lambda rows: seen.append(rows) or rows, np.array([[1, 2], [3, 4]], np.uint8), 5)
    assert seen[0].tolist() == [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2]] and seen[0].dtype == np.uint8


def test_weights_are_read_once_until_they_are_let_go():
    reads = []
    weights = LazyWeights(lambda: reads.append(1) or {"a": 1})
    assert not weights.loaded and not reads
    assert weights.get() == weights.get() == {"a": 1} and weights.loaded and len(reads) == 1
    weights.free()
    assert not weights.loaded
    assert weights.get() == {"a": 1} and len(reads) == 2
