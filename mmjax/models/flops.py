"""How many floating-point operations a step needs, and what share of the hardware's peak that is.

A matrix product of n tokens with a kernel of k numbers takes 2 n k operations; attention of n queries over m keys at
width d takes 4 n m d (scores and their weighted sum). The forward pass of one sample is the sum of both. Backward:

- a trained kernel costs 2 more products of the same size: the gradient of its input and its own;
- a frozen kernel costs 1 more: its own gradient is not needed, but the signal to adapters below must pass through it;
- attention costs twice its forward pass.

So a frozen backbone saves only 13-17 % of a full training step's work; what it saves is memory. Recomputation (remat)
is not counted: MFU says how well the hardware serves the model, and doing work twice does not serve it better.

Left out, under 0.1 % at full size: softmax, norms, additions, and attention inside the perceivers. Counted a little too
high: frozen embeddings and modulations, through which no gradient flows.
"""

import dataclasses
import re

import numpy as np

from mmjax import config as c
from mmjax import trees

# (path of a kernel, what passes through it): each row of `_counts` says how many of these a sample has.
PASSES = (
    (r"transformer/(patch_embed|proj_out)/kernel", "video"),
    (r"transformer/text_embed/kernel", "text"),
    (r"transformer/blocks/even/(attn|ffn)/.*kernel", "adapted"),
    (r"transformer/blocks/odd/(attn|ffn)/.*kernel", "plain"),
    (r"transformer/blocks/adapter/cross/.*kernel", "face"),
    (r"face_encoder/.*resampler/.*kernel", "patches"),
    (r"face_encoder/face_perceiver/out/kernel", "face"),
    (r"face_encoder/fusion/.*kernel", "identity"),
    (r".*kernel", "sample"),  # modulations, CAN, the time embedding: once for each sample
)

PEAK_FLOPS = (  # (device kind, dense bfloat16 FLOP/s of one JAX device, as its maker states it)
    (r"NVIDIA (H100 (80GB HBM3|SXM)|H200|GH200).*", 989e12),
    (r"NVIDIA H100 PCIe.*", 756e12),
    (r"NVIDIA (B200|GB200).*", 2250e12),
    (r"NVIDIA A100.*", 312e12),
    (r"TPU v4", 275e12),
    (r"TPU (v5 lite|v5e)", 197e12),
    (r"TPU (v5|v5p)", 459e12),
    (r"TPU (v6 lite|v6e)", 918e12),
    (r"TPU7x|TPU v7x?", 2307e12 / 2),  # a chip is two devices
)


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of the forward pass, by what the backward pass makes of them."""

    frozen: float  # products with frozen kernels
    trained: float  # products with trained kernels
    attention: float

    @property
    def forward(self) -> float:
        return self.frozen + self.trained + self.attention

    @property
    def training(self) -> float:
        """Forward and backward, without recomputation."""
        return 2 * self.frozen + 3 * self.trained + 3 * self.attention


def sample_flops(config: c.Experiment, trained: trees.Tree, frozen: trees.Tree, latents: tuple[int, ...]) -> Flops:
    """Operations for one sample.

    Args:
      trained, frozen: the parameters, or their shapes.
      latents: shape of a sample's latents, (T, H, W, C), or of a batch of them.
    """
    counts, transformer = _counts(config, latents), config.model.transformer
    plain, adapted = counts["plain"], counts["adapted"]
    pairs = plain**2 + adapted**2 + adapted * counts["face"]
    attention = 4 * pairs * transformer.width * transformer.layers / 2
    return Flops(_products(frozen, counts), _products(trained, counts), attention)


def peak_flops(device_kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind, None where it is not known (a CPU, a new chip)."""
    return next((peak for pattern, peak in PEAK_FLOPS if re.fullmatch(pattern, device_kind)), None)


def _counts(config: c.Experiment, latents: tuple[int, ...]) -> dict[str, int]:
    model, adapter = config.model.transformer, config.model.adapter
    frames, height, width = latents[-4:-1]
    references = config.data.references if adapter.enabled else 0
    face = references * adapter.queries if adapter.structural_branch else 0
    video = frames * height * width // (model.patch_t * model.patch**2)
    return {
        "video": video,
        "text": model.text_length,
        "plain": model.text_length + video,
        "adapted": model.text_length + face + video,
        "face": face,
        "patches": references * adapter.clip_tokens,
        "identity": references * adapter.id_tokens,
        "sample": 1,
    }


def _products(params: trees.Tree, counts: dict[str, int]) -> float:
    total = 0.0
    for path, leaf in trees.flatten(params).items():
        passes = next((what for pattern, what in PASSES if re.fullmatch(pattern, path)), None)
        total += 2.0 * float(np.prod(leaf.shape)) * counts[passes] if passes else 0.0
    return total
