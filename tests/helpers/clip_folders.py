"""Small CLIP folders as transformers publishes them: drawn weights, and a tokenizer that knows a few words."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer

WORDS = ("man", "smiling", "park", "is", "in", "a", "woman", "talks")
TEXT = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4)
VISION = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=28)


def write_tokenizer(folder: Path) -> int:
    """`vocab.json` and `merges.txt` of single letters and `WORDS`. Returns the number of tokens."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens, merges = [*letters, *(f"{letter}</w>" for letter in letters)], []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if tuple(parts[:2]) not in merges:
                merges.append(tuple(parts[:2]))
                tokens += [parts[0] + parts[1]] * (parts[0] + parts[1] not in tokens)
            parts[:2] = [parts[0] + parts[1]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    return len(tokens)


def torch_clip(seed=0, tokens=200, text=None, vision=None, length=16) -> CLIPModel:
    """A tiny model whose every weight is drawn anew, norms' and biases' included; its end token is the last of all."""
    config = CLIPConfig(
        text_config=TEXT
        | dict(vocab_size=tokens, max_position_embeddings=length, eos_token_id=tokens - 1, bos_token_id=tokens - 2)
        | (text or {}),
        vision_config=VISION | dict(patch_size=7) | (vision or {}),
        projection_dim=32,
    )
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * 0.2 + (name.endswith("weight") and "norm" in name))
        model.logit_scale.fill_(4.0)
    return model


def write_clip(folder: Path, seed=0, fast=False, **overrides) -> CLIPModel:
    """A published folder: model.safetensors, config.json and the tokenizer's files, as one `tokenizer.json` if fast."""
    count = write_tokenizer(folder)
    if fast:
        CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
        for name in ("vocab.json", "merges.txt"):
            (folder / name).unlink(missing_ok=True)
    model = torch_clip(seed, count, **overrides)
    model.save_pretrained(folder)
    return model
