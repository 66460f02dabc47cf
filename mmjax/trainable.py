"""What is trained: the one place where the parameter tree is split into trained and frozen leaves (METHOD 7).

The configuration decides: `train.trainable` has patterns of paths in the tree, of a diffusion model by default those of
face branch and adapter (`ADAPTER_PATTERNS`). State, optimizer, precision, checkpoints and sampling all ask here.
"""

from mmjax import trees
from mmjax.config import ADAPTER_PATTERNS
from mmjax.training_settings import TrainingExperiment
from mmjax.trees import Tree


def is_trainable(config: TrainingExperiment, path: str) -> bool:
    """Whether the leaf at this path is trained."""
    return trees.matches(config.train.trainable, path)


def split_trainable(config: TrainingExperiment, tree: Tree) -> tuple[Tree, Tree]:
    """(trained leaves, frozen leaves), each a tree without the other's branches.

    Raises `TreeError` for a pattern of `train.trainable` that matches no parameter; those of the adapter may, since an
    ablation can leave a part of it without parameters.
    """
    return trees.split(tree, config.train.trainable, may_be_empty=ADAPTER_PATTERNS)


def is_adapter(path: str) -> bool:
    """Whether the leaf at this path belongs to face branch or adapter, and not to the published transformer."""
    return trees.matches(ADAPTER_PATTERNS, path)


def split_adapter(tree: Tree) -> tuple[Tree, Tree]:
    """(leaves of face branch and adapter, the transformer's); an ablation can leave the first without leaves."""
    return trees.split(tree, ADAPTER_PATTERNS, may_be_empty=ADAPTER_PATTERNS)
