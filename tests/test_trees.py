"""(path, leaf) tools: what they keep, and what they refuse."""

import numpy as np
import pytest

from mmjax import trees
from mmjax.errors import TreeError

TREE = {"a": {"b": np.zeros((2, 3)), "c": np.ones(4, np.float16)}, "d": np.zeros(5)}


def test_flatten_and_unflatten_are_inverse():
    flat = trees.flatten(TREE)
    assert list(flat) == ["a/b", "a/c", "d"]
    assert trees.flatten(trees.unflatten(flat)) == flat


def test_split_and_merge_are_inverse():
    chosen, rest = trees.split(TREE, ("a/.*",))
    assert set(trees.flatten(chosen)) == {"a/b", "a/c"} and set(trees.flatten(rest)) == {"d"}
    assert set(trees.flatten(trees.merge(chosen, rest))) == set(trees.flatten(TREE))
    with pytest.raises(TreeError, match="1 parameters are in both trees: d"):
        trees.merge(TREE, rest)


def test_a_pattern_must_match_a_whole_path_and_at_least_one():
    assert trees.flatten(trees.match(("a/b",), TREE)) == {"a/b": True, "a/c": False, "d": False}
    with pytest.raises(TreeError, match=r"'a' matches no parameter; the tree has a/b, a/c, d"):
        trees.split(TREE, ("d", "a"))


def test_a_leaf_in_the_way_is_named():
    with pytest.raises(TreeError, match="a/b/c: a/b is a leaf already"):
        trees.unflatten({"a/b": 1, "a/b/c": 2})


def test_misfits_are_listed_together():
    found = {"a": {"b": np.zeros((3, 2))}, "d": np.zeros(5), "e": np.zeros(1)}
    with pytest.raises(TreeError) as caught:
        trees.check_same(TREE, found, "the file")
    message = str(caught.value)
    assert "1 missing: a/c" in message and "1 surplus: e" in message
    assert "1 misshapen: a/b (3, 2), expected (2, 3)" in message
    trees.check_same(TREE, TREE, "itself")


def test_counts():
    assert trees.count(TREE) == 15
