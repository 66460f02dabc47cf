"""Which base an adapter was trained on: a fingerprint of the frozen transformer's values, wherever they lie.

An adapter on another base of the same sizes gives wrong videos and no error. The fingerprint is that of values and not
of files, so that a run tells its base from the parameters that it keeps, when the folder it began from is gone or has
been converted anew; every value is rounded to bfloat16 first, so that weights in float32 and what is kept of them in
bfloat16 are the same base.

It reads a part: all outside the blocks, the blocks' biases and norms, and one kernel of them (`_TELLING`), 0.4 of the
11 GB at 5B. A fine-tuned transformer and one with a LoRA merged into its attention are other bases; one that differs
in other kernels of the blocks alone is not noticed.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from mmjax import config as c
from mmjax import trees
from mmjax.conversion import store
from mmjax.conversion.transformer import COMPONENT as TRANSFORMER
from mmjax.models.build import abstract_params
from mmjax.sharding import make_mesh
from mmjax.trainable import is_adapter
from mmjax.weights.parameters import load_part
from mmjax.weights.runs import read_config

_TELLING = (r"transformer/blocks/even/attn/query/kernel", r"transformer/blocks/.*/(bias|scale)")
_OUTSIDE = r"transformer/(?!blocks/).*"


def of_folder(folder: Path | str) -> str:
    """The fingerprint of a converted transformer. Raises `CheckpointError` for a folder of anything else."""
    folder = Path(folder)
    stored = trees.flatten(store.described_leaves(store.read_manifest(folder, TRANSFORMER.name)))
    telling = {path: leaf for path, leaf in stored.items() if _tells(f"transformer/{path}")}
    return of_values((f"transformer/{path}", values) for path, values in store.read_leaves(folder, telling))


def of_run(workdir: Path | str, step: int | None = None, ema: bool = True) -> str:
    """The fingerprint of the transformer in a run, as `load_params` would give it.

    Raises `CheckpointError` for no such run or step, or one that is damaged.
    """
    config = read_config(workdir)
    leaves = trees.flatten(abstract_params(config, one_device()))
    telling = trees.unflatten({path: leaf for path, leaf in leaves.items() if _tells(path)})
    params = trees.flatten(load_part(workdir, telling, step, ema))
    return of_values((path, np.asarray(values)) for path, values in params.items())


def of_values(leaves: Iterable[tuple[str, np.ndarray]]) -> str:
    """The fingerprint of a transformer's leaves, with their paths in the whole tree; more of them do not matter."""
    digests = {}
    for path, values in leaves:
        if _tells(path):
            rounded = np.ascontiguousarray(values.astype(ml_dtypes.bfloat16, copy=False))
            digests[path] = hashlib.sha256(rounded.reshape(-1).view(np.uint8).data).hexdigest()
    listed = "\n".join(f"{path} {digest}" for path, digest in sorted(digests.items()))
    return f"cogvideox/1 weights={hashlib.sha256(listed.encode()).hexdigest()[:16]}"


def one_device() -> jax.sharding.Mesh:
    """A mesh of the first device alone, for what is read here to be looked at or written elsewhere."""
    return make_mesh(c.Mesh(), jax.local_devices()[:1])


def _tells(path: str) -> bool:
    return trees.matches((*_TELLING, _OUTSIDE), path) and not is_adapter(path)
