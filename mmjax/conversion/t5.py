"""The T5 v1.1 encoder as transformers publishes it: its `config.json` and the table of its tensors.

The encoder alone (`T5EncoderModel`, the `text_encoder` of CogVideoX's folder) or the whole model, whose decoder is left
out. T5 v1.0 and mT5's younger relatives are refused by name, because their blocks are built otherwise.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.conversion.component import Component
from mmjax.conversion.engine import Blocks, Misfit, Row, identity, transpose
from mmjax.conversion.source import TRANSFORMERS, open_model
from mmjax.conversion.tokenizer import load_tokenizer, problem
from mmjax.errors import ConversionError
from mmjax.models.sizes import T5
from mmjax.models.t5 import T5Encoder
from mmjax.precision import Policy
from mmjax.seeds import abstract_key
from mmjax.trees import Tree

MODEL_TYPE = "t5"
GATED = "gated-gelu"

_SAME = {  # transformers' setting -> ours; a setting that is absent has transformers' default, T5 small's
    "num_layers": ("layers", 6),
    "d_model": ("width", 512),
    "num_heads": ("heads", 8),
    "d_kv": ("head_dim", 64),
    "d_ff": ("hidden", 2048),
    "vocab_size": ("vocabulary", 32128),
    "relative_attention_num_buckets": ("buckets", 32),
    "relative_attention_max_distance": ("max_distance", 128),
    "layer_norm_epsilon": ("norm_eps", 1e-6),
}
_RELATIVES = {
    "umt5": "UMT5, whose blocks have a table of relative positions each",
    "clip_text_model": "the text encoder of Stable Diffusion and its like",
}


def read_config(published: dict[str, Any], what: str) -> T5:
    """transformers' `config.json` as our record; settings of the decoder and of training say nothing of the encoder.

    `what` names the source in messages. Raises `ConversionError` that lists every setting that mmjax does not build.
    """
    kind = published.get("model_type", MODEL_TYPE)
    if kind != MODEL_TYPE:
        who = f" ({_RELATIVES[kind]})" if kind in _RELATIVES else ""
        raise ConversionError(f"{what}: expected the config.json of a {MODEL_TYPE} model, found one of {kind!r}{who}")
    values = {key: published.get(key, default) for key, (_, default) in _SAME.items()}
    for key, (_, default) in _SAME.items():
        if type(values[key]) not in (int, float) or isinstance(default, int) and type(values[key]) is not int:
            raise ConversionError(f"{what}: {key} = {values[key]!r}: expected a number such as {default}")
    record = T5(**{field: values[key] for key, (field, _) in _SAME.items()})
    wrong = [f"{key} = {value}: expected {allowed}" for key, value, allowed in record.problems()]
    feed_forward = published.get("feed_forward_proj", "relu")
    if feed_forward != GATED:
        wrong.append(f"feed_forward_proj = {feed_forward!r}: expected {GATED!r}, as T5 v1.1 has; v1.0 has 'relu'")
    if wrong:
        raise ConversionError(f"{what}: mmjax does not build this encoder:\n" + "\n".join(f"  {w}" for w in wrong))
    return record


def write_config(record: T5) -> dict[str, Any]:
    """The inverse of `read_config`: a `config.json` from which transformers builds the same encoder."""
    settings = {key: getattr(record, field) for key, (field, _) in _SAME.items()}
    settings |= {"feed_forward_proj": GATED, "is_encoder_decoder": False, "use_cache": False}
    return {"architectures": ["T5EncoderModel"], "model_type": MODEL_TYPE} | dict(sorted(settings.items()))


def table(record: T5) -> list[Row]:
    """Rows for every tensor of the encoder. Kernels are [in, out]: transposed from torch."""
    blocks = Blocks(record.layers)
    return [
        Row("shared.weight", "embed"),
        Row("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "relative_bias"),
        *(
            Row(f"encoder.block.{{i}}.layer.{source}.weight", f"blocks/{target}", transform, blocks)
            for source, target, transform in _BLOCK
        ),
        Row("encoder.final_layer_norm.weight", "norm_out/scale"),
    ]


@functools.cache
def abstract_t5(record: T5) -> Tree:
    """The encoder's parameter tree, of shapes boxed with logical axes; nothing is allocated."""
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return jax.eval_shape(T5Encoder(record, Policy()).init, abstract_key(), tokens)["params"]


def unused(key: str) -> str | None:
    """Why a published tensor has no place in the encoder."""
    if key == "encoder.embed_tokens.weight":
        return "a second name of shared.weight: the two are tied"
    if key.startswith("decoder.") or key == "lm_head.weight":
        return "of the decoder: prompts are only encoded"
    return None


def causes(record: T5) -> tuple[Callable[[Misfit], str | None], ...]:
    """What may have been mistaken for this encoder, guessed from what does not fit."""

    def older(misfit: Misfit) -> str | None:
        if any(key.endswith("DenseReluDense.wi.weight") for key in misfit.surplus):
            return "the weights are T5 v1.0's, whose feed-forward layers are not gated; CogVideoX has v1.1's"
        return None

    def own_tables(misfit: Misfit) -> str | None:
        if any("relative_attention_bias" in key for key in misfit.surplus):
            return "the weights are UMT5's, with a table of relative positions in each block; they are not built"
        return None

    def other_size(misfit: Misfit) -> str | None:
        layers = {key.split(".")[2] for key in misfit.found if key.startswith("encoder.block.")}
        width = misfit.found.get("encoder.final_layer_norm.weight", (record.width,))[0]
        if width != record.width or (layers and len(layers) != record.layers):
            return (
                f"the weights are {len(layers)} blocks of width {width}, config.json says {record.layers} of "
                f"{record.width}: the two come from different sizes (XXL: 24 of 4096), or a shard was not downloaded"
            )
        return None

    return older, own_tables, other_size


_BLOCK = (
    ("0.layer_norm", "norm_attn/scale", identity),
    ("0.SelfAttention.q", "attn/query/kernel", transpose),
    ("0.SelfAttention.k", "attn/key/kernel", transpose),
    ("0.SelfAttention.v", "attn/value/kernel", transpose),
    ("0.SelfAttention.o", "attn/out/kernel", transpose),
    ("1.layer_norm", "norm_ffn/scale", identity),
    ("1.DenseReluDense.wi_0", "ffn/gate/kernel", transpose),
    ("1.DenseReluDense.wi_1", "ffn/in/kernel", transpose),
    ("1.DenseReluDense.wo", "ffn/out/kernel", transpose),
)


COMPONENT = Component(
    name="text-encoder",
    summary="T5 v1.1 encoder: the text_encoder of a CogVideoX folder, or a transformers folder",
    record=T5,
    open=lambda source: open_model(source, "text_encoder", read_config),
    published_config=write_config,
    abstract=abstract_t5,
    rows=table,
    causes=causes,
    unused=unused,
    stem=TRANSFORMERS,
    tokenizer=lambda folder, record: problem(load_tokenizer(folder), record.vocabulary),
)
