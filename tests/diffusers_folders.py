"""Folders of tiny diffusers transformers, sound and edited ones, for the tests of conversion."""

import torch
from safetensors.torch import load_file, save_file

from tests import reference

WEIGHTS = "diffusion_pytorch_model.safetensors"


def saved(folder, variant="5b", dtype=torch.float32, shard="1GB"):
    """A tiny model and the diffusers folder it was saved to."""
    model = reference.torch_transformer(variant).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def edited(folder, change):
    """A saved tiny model whose tensors went through `change(state)`."""
    saved(folder)
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / WEIGHTS)
