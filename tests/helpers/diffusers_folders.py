"""Folders of tiny diffusers models, sound and edited ones, for the tests of conversion."""

import torch
from safetensors.torch import load_file, save_file

from tests.helpers import reference, vae_reference

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


def pipeline(folder, variant="5b", scheduler="CogVideoXDPMScheduler", transformer=None, vae=None, **settings):
    """A tiny `CogVideoXPipeline` with random weights, and its saved folder. `settings` are the scheduler's."""
    import diffusers

    published = dict(
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0 if variant == "2b" else 1.0,
        timestep_spacing="trailing",
    )
    whole = diffusers.CogVideoXPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder(),
        vae=vae_reference.torch_vae(**(vae or {})),
        transformer=reference.torch_transformer(variant, **(transformer or {})),
        scheduler=getattr(diffusers, scheduler)(**(published | settings)),
    )
    whole.save_pretrained(folder)
    return whole


def text_encoder(seed=0, **settings):
    """A tiny T5 encoder, as wide as the text that the tiny transformers take."""
    from transformers import T5Config, T5EncoderModel

    tiny = dict(d_model=20, d_kv=8, d_ff=24, num_layers=2, num_heads=3, vocab_size=40, feed_forward_proj="gated-gelu")
    model = T5EncoderModel(T5Config(**(tiny | settings))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2 + ("layer_norm" in name))
    return model


def tokenizer():
    """A T5 tokenizer of single letters."""
    from transformers import T5Tokenizer

    letters = [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyzAI.,"]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0)
