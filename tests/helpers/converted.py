"""Converted folders with drawn weights, as `mmjax.convert` writes them, without a published model to convert."""

import dataclasses
from pathlib import Path

import numpy as np

from mmjax import trees
from mmjax.conversion import store
from mmjax.conversion.registry import COMPONENTS
from mmjax.model_settings import VAE
from tests.helpers import tiny

# 8 x 8 pixels of 4 frames to 16 numbers, as the published one, in 58,000 parameters
SMALL_VAE = VAE(channels=(8, 8, 8, 8), resnets=1, norm_groups=4, scaling_factor=1.0)


def component(folder: Path, name: str, record, seed: int = 0, sha256: str = "") -> Path:
    """A folder of the component `name` of these sizes."""
    tree = tiny.redrawn(COMPONENTS[name].shapes(record), seed)
    leaves = {path: np.asarray(leaf, np.float32) for path, leaf in trees.flatten(tree).items()}
    promised = {
        path: store.PromisedLeaf(leaf.shape, leaf.dtype, lambda leaf=leaf: leaf) for path, leaf in leaves.items()
    }
    folder.mkdir(parents=True)
    store.write_params(folder, promised, written=lambda size: None)
    manifest = {"component": name, "config": dataclasses.asdict(record)}
    manifest["source"] = {"name": "owner/base", "sha256": {"model.safetensors": sha256 or f"{seed:02d}"}}
    store.write_manifest(folder, manifest | {"leaves": store.describe(promised)}, store.all_files(folder))
    return folder
