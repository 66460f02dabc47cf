"""Tools over (path, leaf): the parameter tree is the interface.

A tree is nested dictionaries with string keys; a path is its keys joined by `/`. Freezing, counting, exporting and
merging are all said as patterns over paths: regular expressions that must match a whole path.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import TreeError

Tree = dict[str, Any]


def flatten(tree: Tree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Nested dictionaries as one, `{'a/b/c': leaf}`, in sorted order. Empty branches vanish."""
    return dict(_leaves(tree, (), is_leaf or (lambda node: not isinstance(node, dict))))


def _leaves(node, path: tuple[str, ...], is_leaf: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """Not a closure that calls itself: that is a cycle, which would hold the leaves until garbage is collected."""
    if is_leaf(node):
        yield "/".join(path), node
    else:
        for key in sorted(node):
            yield from _leaves(node[key], (*path, key), is_leaf)


def unflatten(leaves: dict[str, Any]) -> Tree:
    """The inverse of `flatten`. Raises `TreeError` where a leaf stands in another one's way."""
    tree: Tree = {}
    for path, leaf in leaves.items():
        *branches, last = path.split("/")
        node = tree
        for depth, key in enumerate(branches):
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise TreeError(f"{path}: {'/'.join(branches[: depth + 1])} is a leaf already")
        if last in node:
            raise TreeError(f"{path}: there already")
        node[last] = leaf
    return tree


def matches(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns matches the whole path."""
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def match(patterns: Iterable[str], tree: Tree) -> Tree:
    """The tree with booleans for leaves: True where a pattern matches the whole path."""
    patterns = tuple(patterns)
    return unflatten({path: matches(patterns, path) for path in flatten(tree)})


def split(tree: Tree, patterns: Iterable[str], may_be_empty: Iterable[str] = ()) -> tuple[Tree, Tree]:
    """(leaves that match, the others), each a tree without the other's branches.

    Raises `TreeError` for a pattern that matches nothing: it is a misspelt one. Those in `may_be_empty` may.
    """
    patterns, leaves = tuple(patterns), flatten(tree)
    for pattern in patterns:
        if pattern not in may_be_empty and not any(re.fullmatch(pattern, path) for path in leaves):
            tops = sorted({"/".join(path.split("/")[:2]) for path in leaves})
            raise TreeError(f"pattern {pattern!r} matches no parameter; the tree has {', '.join(tops)}")
    chosen = {path: leaf for path, leaf in leaves.items() if matches(patterns, path)}
    rest = {path: leaf for path, leaf in leaves.items() if path not in chosen}
    return unflatten(chosen), unflatten(rest)


def merge(one: Tree, other: Tree) -> Tree:
    """Both trees' leaves in one tree. Raises `TreeError` where both hold the same path."""
    one, other = flatten(one), flatten(other)
    both = sorted(set(one) & set(other))
    if both:
        raise TreeError(f"{len(both)} parameters are in both trees: {_some(both)}")
    return unflatten(one | other)


def check_same(expected: Tree, found: Tree, what: str) -> None:
    """Raises `TreeError` that lists every missing, surplus and misshapen leaf of `found`. Leaves have `.shape`."""
    expected, found = flatten(expected), flatten(found)
    lines = []
    if missing := sorted(set(expected) - set(found)):
        lines.append(f"{len(missing)} missing: {_some(missing)}")
    if surplus := sorted(set(found) - set(expected)):
        lines.append(f"{len(surplus)} surplus: {_some(surplus)}")
    shapes = [
        f"{path} {tuple(found[path].shape)}, expected {tuple(leaf.shape)}"
        for path, leaf in expected.items()
        if path in found and tuple(found[path].shape) != tuple(leaf.shape)
    ]
    if shapes:
        lines.append(f"{len(shapes)} misshapen: {_some(shapes)}")
    if lines:
        raise TreeError(f"{what} does not fit the model:\n" + "\n".join(f"  {line}" for line in lines))


def count(tree: Tree) -> int:
    """Number of parameters; arrays and `jax.ShapeDtypeStruct`s alike."""
    return sum(int(np.prod(leaf.shape, dtype=np.int64)) for leaf in jax.tree.leaves(tree))


def in_float32(abstract: Tree) -> Tree:
    """The same shapes and shardings in float32, as gradients, moments and averages have them."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=leaf.sharding), abstract)


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
