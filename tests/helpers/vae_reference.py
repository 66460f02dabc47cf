"""Tiny torch autoencoders with random weights, and the same weights in our tree."""

import numpy as np

from mmjax import trees
from mmjax.conversion import engine, vae
from mmjax.model_settings import VAE

TINY = dict(
    block_out_channels=(8, 16, 16, 32),
    latent_channels=4,
    layers_per_block=1,
    norm_num_groups=4,
    sample_height=96,
    sample_width=80,
    scaling_factor=0.7,
)
SHALLOW = dict(block_out_channels=(8, 16), temporal_compression_ratio=2)  # quick to compile: half the levels
# of `jax.jit` for `vae.encode` and `vae.decode`: compiled in half the time, without optimization
QUICK = dict(static_argnums=(0, 3), compiler_options={"xla_backend_optimization_level": 0})


def torch_vae(seed: int = 0, **settings):
    """A small `AutoencoderKLCogVideoX` whose every weight is drawn anew: norms about 1, convolutions keep variance."""
    import torch
    from diffusers import AutoencoderKLCogVideoX

    settings = TINY | settings
    levels = len(settings["block_out_channels"])
    blocks = {f"{side}_block_types": (f"CogVideoX{side.title()}Block3D",) * levels for side in ("down", "up")}
    model = AutoencoderKLCogVideoX(**(settings | blocks)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * weight[0].numel() ** -0.5 if weight.ndim > 1 else drawn * 0.2)
        for name, weight in model.named_parameters():
            if name.endswith(
                ("norm1.weight", "norm2.weight", "norm_out.weight", "norm_layer.weight", "conv_y.conv.bias")
            ):
                weight += 1
    return model


def ours(model) -> tuple[VAE, dict]:
    """(record, parameters) of a torch autoencoder, through the converter's table."""
    record = vae.read_config(dict(model.config), "the reference")
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    leaves = vae.COMPONENT.leaves(record)
    engine.check(leaves, {key: value.shape for key, value in state.items()}, "the reference")
    return record, trees.unflatten({leaf.path: engine.assemble(leaf, state.__getitem__, np.float32) for leaf in leaves})


def drawn(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def to_torch(x: np.ndarray):
    """[B, T, H, W, C] as torch's [B, C, T, H, W]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 4, 1, 2, 3)))


def from_torch(x) -> np.ndarray:
    """The inverse of `to_torch`."""
    return x.detach().numpy().transpose(0, 2, 3, 4, 1)
