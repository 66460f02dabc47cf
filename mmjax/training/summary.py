"""What a run says of its parameters before its first step, and sizes in words."""

from mmjax import trees
from mmjax.models.build import Params

GIB = 2**30


def parameter_table(trained: Params, frozen: Params) -> str:
    """Trained and total parameters of every subtree, a line each, and their sum."""
    rows: dict[str, list[int]] = {}
    for tree, column in ((trained, 0), (frozen, 1)):
        for path, leaf in trees.flatten(tree).items():
            rows.setdefault(subtree(path), [0, 0])[column] += trees.count({"leaf": leaf})
    rows = dict(sorted(rows.items()))
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    width = max(map(len, rows))
    lines = [f"{'parameters':{width}}  {'trained':>15}  {'total':>15}"]
    lines += [f"{name:{width}}  {mine:15,}  {mine + rest:15,}" for name, (mine, rest) in rows.items()]
    return "\n".join(lines)


def subtree(path: str) -> str:
    """The part of the model that a parameter belongs to: two levels of the tree, or four of the adapter's."""
    parts = path.split("/")
    depth = 4 if parts[1:3] == ["blocks", "adapter"] else 3 if parts[1:2] == ["blocks"] else 2
    return "/".join(parts[:depth])


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.2f} MiB"
