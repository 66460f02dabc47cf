"""The update of what waits in host memory (`runtime.offload`): a part at a time, so that the device never holds all.

Nothing in the compiler's schedule would do that by itself: it fetches everything as soon as it may. So each part is
fetched behind a barrier, when the last but one is back in host memory; one part comes while another goes.
"""

from collections.abc import Callable
from typing import Any

import jax

from mmjax import sharding, trees

_PART = 2**27  # numbers of a part, at least; small leaves travel together


def update_in_parts(function: Callable, waiting: Any, *others: trees.Tree) -> tuple[Any, Any]:
    """`function(waiting, *others)`, computed with the leaves of some paths at a time where `waiting` is in host memory.

    Args:
      function: gives (`waiting` anew, whatever else), leaf by leaf: a leaf depends on the other trees at its own path.
      waiting: a tree of parameters, or tuples of such trees beside single numbers, as an optimizer's state.
      others: trees of the same paths, on the device.
    """
    if not any(_on_host(leaf) for leaf in jax.tree.leaves(waiting)):
        return function(waiting, *others)
    done = []
    for paths in _parts(others[0]):
        part, *beside = (_pick(tree, paths) for tree in (waiting, *others))
        if len(done) < 2:
            part, beside[0] = jax.lax.optimization_barrier((part, beside[0]))
        else:
            part, done[-2] = jax.lax.optimization_barrier((part, done[-2]))
        new, rest = function(sharding.fetch(part), *beside)
        done.append((_sent_back(new, part), rest))
    return _join([new for new, _ in done]), _join([rest for _, rest in done])


def _on_host(leaf: jax.Array) -> bool:
    return jax.typeof(leaf).memory_space == jax.memory.Space.Host


def _sent_back(new: Any, old: Any) -> Any:
    """The new leaves, in host memory where the old ones were."""
    return jax.tree.map(lambda x, like: jax.device_put(x, jax.memory.Space.Host) if _on_host(like) else x, new, old)


def _parts(tree: trees.Tree) -> list[list[str]]:
    """Paths of leaves that travel together."""
    parts: list[list[str]] = [[]]
    size = 0
    for path, leaf in trees.flatten(tree).items():
        if size >= _PART:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += leaf.size
    return parts


def _is_tree(node: Any) -> bool:
    return isinstance(node, dict)


def _pick(structure: Any, paths: list[str]) -> Any:
    """The structure with those paths alone of each tree in it."""

    def pick(node):
        if not _is_tree(node):
            return node
        leaves = trees.flatten(node)
        return trees.unflatten({path: leaves[path] for path in paths})

    return jax.tree.map(pick, structure, is_leaf=_is_tree)


def _join(structures: list[Any]) -> Any:
    """The inverse of `_pick`."""

    def join(*nodes):
        if not _is_tree(nodes[0]):
            return nodes[0]
        return trees.unflatten({path: leaf for node in nodes for path, leaf in trees.flatten(node).items()})

    return jax.tree.map(join, *structures, is_leaf=_is_tree)
