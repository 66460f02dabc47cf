"""Whether two runs are the same one, bit for bit: state, order of the data, logged figures."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.helpers import tiny_run


def rows(workdir):
    """The logged figures that do not depend on the clock, in order."""
    kept = []
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = {tag: value for tag, value in json.loads(line).items() if not tag.startswith(("speed/", "compile/"))}
        kept += [row] if len(row) > 1 else []
    return kept


def saved(workdir, number):
    """(everything that a checkpoint holds of the state, what the order of its data depends on)."""
    path = workdir / "checkpoints" / str(number)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        as_numpy = ocp.args.PyTreeRestore(restore_args=_numpy_args(checkpointer, path / "state"))
        state = checkpointer.restore(path / "state", args=as_numpy)
    return state, json.loads((path / "meta" / "metadata").read_text())["data_order"]


def assert_same_run(one, other, last):
    (state, order), (other_state, other_order) = saved(one, last), saved(other, last)
    tiny_run.assert_bit_equal(state, other_state)
    assert order == other_order
    assert rows(one) == rows(other)


def _numpy_args(checkpointer, path):
    described = checkpointer.metadata(path).item_metadata.tree
    return jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), described)
