"""The CogVideoX transformer as diffusers publishes it: its `config.json` and the table of its tensors.

Serves CogVideoX-2B (sincos), CogVideoX-5B (rope) and CogVideoX1.5-5B (rope_slice, temporal patches). The
image-to-video members of the family are refused by name, because they need inputs that mmjax does not give.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.config import Transformer
from mmjax.conversion.component import Component
from mmjax.conversion.engine import Blocks, Misfit, Row, conv_patch, identity, transpose
from mmjax.conversion.source import open_diffusers
from mmjax.errors import ConversionError
from mmjax.models.cogvideox.transformer import CogVideoXTransformer
from mmjax.precision import Policy
from mmjax.seeds import abstract_key
from mmjax.trees import Tree

CLASS_NAME = "CogVideoXTransformer3DModel"
_FRAME_COMPRESSION = 4  # pixel frames a latent frame; it only sets `sample_frames`, which counts pixel frames

_SAME = {  # diffusers' setting -> ours; a setting that is absent has diffusers' default
    "num_layers": ("layers", 30),
    "num_attention_heads": ("heads", 30),
    "attention_head_dim": ("head_dim", 64),
    "in_channels": ("latent_channels", 16),
    "text_embed_dim": ("text_dim", 4096),
    "max_text_seq_length": ("text_length", 226),
    "time_embed_dim": ("time_dim", 512),
    "patch_size": ("patch", 2),
    "sample_height": ("base_height", 60),
    "sample_width": ("base_width", 90),
    "spatial_interpolation_scale": ("spatial_interpolation", 1.875),
    "temporal_interpolation_scale": ("temporal_interpolation", 1.0),
}
_DERIVED = {
    "patch_size_t": None,
    "use_rotary_positional_embeddings": False,
    "sample_frames": 49,
    "temporal_compression_ratio": _FRAME_COMPRESSION,
    "out_channels": 16,
    "patch_bias": True,
}
_FIXED = {  # what mmjax builds, and for the members of the family that differ, who they are
    "activation_fn": ("gelu-approximate", ""),
    "attention_bias": (True, ""),
    "dropout": (0.0, ""),
    "flip_sin_to_cos": (True, ""),
    "freq_shift": (0, ""),
    "norm_elementwise_affine": (True, ""),
    "norm_eps": (1e-5, ""),
    "ofs_embed_dim": (None, "CogVideoX1.5-5B-I2V"),
    "timestep_activation_fn": ("silu", ""),
    "use_learned_positional_embeddings": (False, "CogVideoX-5b-I2V"),
}


def read_config(published: dict[str, Any], what: str) -> Transformer:
    """diffusers' `config.json` as our record. `what` names the source in messages.

    Raises `ConversionError` that lists every setting that mmjax does not build.
    """
    name = published.get("_class_name", CLASS_NAME)
    if name != CLASS_NAME:
        raise ConversionError(f"{what}: expected the config.json of a {CLASS_NAME}, found one of a {name}")
    settings = {key: value for key, value in published.items() if not key.startswith("_")}
    values = {key: default for key, (_, default) in _SAME.items()} | _DERIVED | settings
    for key, (_, default) in _SAME.items():
        if type(values[key]) not in (int, float) or isinstance(default, int) and type(values[key]) is not int:
            raise ConversionError(f"{what}: {key} = {values[key]!r}: expected a number such as {default}")
    fields = {field: values[key] for key, (field, _) in _SAME.items()}
    fields |= {"patch_t": values["patch_size_t"] or 1, "position": _position(values)}
    fields["base_frames"] = (values["sample_frames"] - 1) // values["temporal_compression_ratio"] + 1
    config = Transformer(**fields)
    wrong = list(_unsupported(values)) + [f"{key} = {value}: expected {ok}" for key, value, ok in config.problems()]
    if wrong:
        raise ConversionError(f"{what}: mmjax does not build this transformer:\n" + "\n".join(f"  {w}" for w in wrong))
    return config


def write_config(config: Transformer) -> dict[str, Any]:
    """The inverse of `read_config`: a `config.json` from which diffusers builds the same transformer."""
    linear = config.position == "rope_slice"
    settings = {key: getattr(config, field) for key, (field, _) in _SAME.items()}
    settings |= {key: value for key, (value, _) in _FIXED.items()}
    settings |= {
        "out_channels": config.latent_channels,
        "patch_bias": not linear,  # of the convolution; 1.5's linear patch embedding has one whatever this says
        "patch_size_t": config.patch_t if linear else None,
        "sample_frames": (config.base_frames - 1) * _FRAME_COMPRESSION + 1,
        "temporal_compression_ratio": _FRAME_COMPRESSION,
        "use_rotary_positional_embeddings": config.position != "sincos",
    }
    return {"_class_name": CLASS_NAME} | dict(sorted(settings.items()))


def table(config: Transformer) -> list[Row]:
    """Rows for every tensor of the transformer, in diffusers' order. Kernels are [in, out]: transposed from torch.

    The input features of the patch embedding and the output features of `proj_out` come in the order (C, pt, p, p),
    in all three variants.
    """
    linear = config.position == "rope_slice"
    patch = transpose if linear else conv_patch(config.latent_channels, config.patch)
    blocks = Blocks(config.layers, ("even", "odd"))
    return [
        *_dense("patch_embed.proj", "patch_embed", kernel=patch),
        *_dense("patch_embed.text_proj", "text_embed"),
        *_dense("time_embedding.linear_1", "time_embed/in"),
        *_dense("time_embedding.linear_2", "time_embed/out"),
        *(row for source, target, kind in _BLOCK for row in kind(source, target, blocks=blocks)),
        *_norm("norm_final", "norm_final"),
        *_dense("norm_out.linear", "modulation_out"),
        *_norm("norm_out.norm", "norm_out"),
        *_dense("proj_out", "proj_out"),
    ]


@functools.cache  # tracing takes a second, and every direction asks more than once
def abstract_transformer(config: Transformer) -> Tree:
    """The base transformer's parameter tree, of shapes boxed with logical axes; nothing is allocated.

    `mmjax.sharding.param_shardings` makes the shardings for `load_component` from it.
    """
    one_patch = (1, config.patch_t, config.patch, config.patch, config.latent_channels)
    inputs = (
        jax.ShapeDtypeStruct(one_patch, jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
        jax.ShapeDtypeStruct((1, 1, config.text_dim), jnp.float32),
    )
    return jax.eval_shape(CogVideoXTransformer(config, Policy()).init, abstract_key(), *inputs)["params"]


def causes(config: Transformer) -> tuple[Callable[[Misfit], str | None], ...]:
    """Who may have been mistaken for this transformer, guessed from what does not fit."""

    def other_patch(misfit: Misfit) -> str | None:
        expected, found = misfit.misshapen.get("patch_embed.proj.weight", ((), ()))
        if len(found) == 2 and len(expected) == 4:
            return "the weights are CogVideoX1.5's (linear patches), config.json is that of a 2B or 5B model"
        if len(found) == 4 and len(expected) == 2:
            return "the weights are a 2B or 5B model's (patch convolution), config.json is CogVideoX1.5's"
        if len(found) == 4 and found[1] == 2 * expected[1]:
            return "the weights take twice the latent channels: they are an image-to-video model's, which is not built"
        return None

    def other_size(misfit: Misfit) -> str | None:
        layers = {int(key.split(".")[1]) for key in misfit.found if key.startswith("transformer_blocks.")}
        width = misfit.found.get("norm_final.weight", (config.width,))[0]
        if width != config.width or (layers and len(layers) != config.layers):
            return (
                f"the weights are {len(layers)} blocks of width {width}, config.json says {config.layers} of "
                f"{config.width}: the two come from different variants (2B: 30 of 1920; 5B: 42 of 3072), or a shard "
                "was not downloaded"
            )
        return None

    return _not_this_model, other_patch, other_size


def _not_this_model(misfit: Misfit) -> str | None:
    known = {
        "patch_embed.pos_embedding": "CogVideoX-5b-I2V, whose positions are learned; it is not built",
        "ofs_embedding.": "CogVideoX1.5-5B-I2V, which is not built",
        "local_facial_extractor.": "ConsisID, a fine-tuned model with a face extractor of its own; it is not built",
        "decoder.conv_in.": "the autoencoder: it is another component",
        "encoder.block.": "the T5 text encoder: it is another component",
        "model.diffusion_model.": "the original SAT checkpoint: take the diffusers folder of the same model",
    }
    for start, name in known.items():
        if any(key.startswith(start) for key in misfit.surplus):
            return f"the file is {name}"
    return None


def _position(values: dict[str, Any]) -> str:
    if not values["use_rotary_positional_embeddings"]:
        return "sincos"
    return "rope" if values["patch_size_t"] is None else "rope_slice"


def _unsupported(values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if key in _SAME or key in _DERIVED or value is None:
            continue
        expected, member = _FIXED.get(key, (None, ""))
        if value != expected:
            who = f" (as in {member})" if member else ""
            yield f"{key} = {value!r}{who}: expected {'it absent' if expected is None else repr(expected)}"
    if values["in_channels"] != values["out_channels"]:
        yield (
            f"in_channels = {values['in_channels']}: expected out_channels = {values['out_channels']}; "
            "image-to-video models take the picture's latents as more channels and are not built"
        )
    if values["patch_size_t"] is None and not values["patch_bias"]:
        yield "patch_bias = False: expected True with a patch convolution (patch_size_t absent)"
    if values["patch_size_t"] is not None and not values["use_rotary_positional_embeddings"]:
        yield f"patch_size_t = {values['patch_size_t']}: expected rotary positions with temporal patches"


def _dense(source: str, target: str, blocks: Blocks | None = None, kernel=transpose) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/kernel", kernel, blocks)
    yield Row(f"{source}.bias", f"{target}/bias", identity, blocks)


def _norm(source: str, target: str, blocks: Blocks | None = None) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/scale", identity, blocks)
    yield Row(f"{source}.bias", f"{target}/bias", identity, blocks)


_BLOCK = [
    (f"transformer_blocks.{{i}}.{source}", f"blocks/{{group}}/{target}", kind)
    for source, target, kind in (
        ("norm1.linear", "modulation_attn", _dense),
        ("norm1.norm", "norm_attn", _norm),
        ("attn1.norm_q", "attn/query_norm", _norm),
        ("attn1.norm_k", "attn/key_norm", _norm),
        ("attn1.to_q", "attn/query", _dense),
        ("attn1.to_k", "attn/key", _dense),
        ("attn1.to_v", "attn/value", _dense),
        ("attn1.to_out.0", "attn/out", _dense),
        ("norm2.linear", "modulation_ffn", _dense),
        ("norm2.norm", "norm_ffn", _norm),
        ("ff.net.0.proj", "ffn/in", _dense),
        ("ff.net.2", "ffn/out", _dense),
    )
]


COMPONENT = Component(
    name="transformer",
    summary="CogVideoX's diffusion transformer (2B, 5B, 1.5-5B)",
    record=Transformer,
    open=lambda source: open_diffusers(source, "transformer", read_config),
    published_config=write_config,
    abstract=abstract_transformer,
    rows=table,
    causes=causes,
)
