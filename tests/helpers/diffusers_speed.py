"""What diffusers takes for the work of `mmjax.bench`, on the same machine: `python tests/helpers/diffusers_speed.py`.

CogVideoX-5B with random weights in bfloat16, 49 frames of 480 x 720: a guided forward (batch 2) eager and compiled,
with PyTorch's cuDNN attention; the gradient of a sample's loss through the frozen weights, with checkpointing, as
adapters need it; and the decoder, whole and in tiles. Not a test; it needs a GPU, torch and diffusers.
"""

import argparse
import statistics
import time

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

GIB = 2**30
PUBLISHED = dict(num_attention_heads=48, num_layers=42, use_rotary_positional_embeddings=True)
VAE = dict(
    block_out_channels=(128, 256, 256, 512),
    down_block_types=("CogVideoXDownBlock3D",) * 4,
    up_block_types=("CogVideoXUpBlock3D",) * 4,
    scaling_factor=0.7,
)


def drawn(kind, settings):
    """A model on the GPU in bfloat16 whose weights are small random numbers."""
    with torch.device("meta"):
        model = kind(**settings)
    model = model.to(torch.bfloat16).to_empty(device="cuda").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, 0.02)
            if "norm" in name and name.endswith("weight") and weight.ndim == 1:
                weight.add_(1)
    return model


def timed(what, function, repeats):
    """Prints the median of `repeats` calls after a warm-up, the warm-up's time and the peak of memory."""
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        function()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / GIB
    print(f"{what}: {statistics.median(seconds[1:]):.3f} s, first {seconds[0]:.1f} s, {peak:.1f} GiB", flush=True)


def frozen_gradient(model, latents, text, steps, rotary):
    """Forward and backward of one sample: to the text and the latents, through weights that get no gradient."""
    model.requires_grad_(False).enable_gradient_checkpointing()
    inputs = [each[:1].clone().requires_grad_() for each in (latents, text)]
    with torch.enable_grad():
        v = model(*inputs, steps[:1], None, None, rotary, return_dict=False)[0]
        return torch.autograd.grad(v.float().square().mean(), inputs)


@torch.no_grad()
def main():
    """Prints one line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", choices=["forward", "gradient", "decoder"], nargs="*", default=None)
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, random weights")
    model = drawn(CogVideoXTransformer3DModel, PUBLISHED)
    latents = torch.randn(2, 13, 16, 60, 90, device="cuda", dtype=torch.bfloat16)
    text = torch.randn(2, 226, 4096, device="cuda", dtype=torch.bfloat16)
    steps, angles = torch.full((2,), 999, device="cuda"), torch.randn(13 * 30 * 45, 64, device="cuda")
    rotary = angles.cos(), angles.sin()
    wanted = args.only or ["forward", "gradient", "decoder"]
    networks = {"eager": model} | ({"compiled": torch.compile(model)} if args.compile else {})
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        if "forward" in wanted:
            for what, net in networks.items():
                run = lambda net=net: net(latents, text, steps, None, None, rotary)  # noqa: E731
                timed(f"guided forward, {what}", run, args.repeats)
        if "gradient" in wanted:
            run = lambda model=model: frozen_gradient(model, latents, text, steps, rotary)  # noqa: E731
            timed("gradient through frozen weights, eager", run, args.repeats)
    del model, networks
    torch.cuda.empty_cache()
    if "decoder" not in wanted:
        return
    vae, latents = drawn(AutoencoderKLCogVideoX, VAE), latents[:1].transpose(1, 2)
    timed("decoder", lambda: vae.decode(latents), args.repeats)
    vae.enable_tiling()
    timed("decoder, in tiles", lambda: vae.decode(latents), args.repeats)


if __name__ == "__main__":
    main()
