"""CLIP as transformers publishes it (`CLIPModel`): its `config.json` and the table of its tensors.

ViT-B/32, B/16 and L/14, and others of the same build (LAION's). PhotoMaker's table takes the rows of the vision tower
from here.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.conversion.clip_tokenizer import problem
from mmjax.conversion.component import Component
from mmjax.conversion.engine import Blocks, Row, conv_patch, identity, scalar, transpose
from mmjax.conversion.source import TRANSFORMERS, open_model
from mmjax.errors import ConversionError
from mmjax.models.clip import CHANNELS
from mmjax.models.clip_text import ContrastiveCLIP
from mmjax.models.sizes import CLIP, CLIPText, CLIPVision
from mmjax.precision import Policy
from mmjax.seeds import abstract_key
from mmjax.trees import Tree

MODEL_TYPE = "clip"
_TOWER = {  # transformers' setting -> ours, the same in both towers
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "intermediate_size": "hidden",
    "hidden_act": "activation",
    "layer_norm_eps": "norm_eps",
}
_VISION = _TOWER | {"image_size": "side", "patch_size": "patch"}
_TEXT = _TOWER | {"vocab_size": "vocabulary", "max_position_embeddings": "length", "eos_token_id": "end_token"}
_COMMON = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_VISION_DEFAULTS = _COMMON | {  # transformers', for settings that are absent: ViT-B/32's
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
}
_TEXT_DEFAULTS = _COMMON | {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
_PROJECTION = 512
_LEGACY_END = 2  # what older files say, whose texts are read out at the highest token, which is the last of all


def read_config(published: dict[str, Any], what: str) -> CLIP:
    """transformers' `config.json` as our record. `what` names the source in messages.

    Raises `ConversionError` that lists every setting that mmjax does not build.
    """
    if published.get("model_type") != MODEL_TYPE or "text_config" not in published or "vision_config" not in published:
        found = published.get("model_type", "none")
        raise ConversionError(
            f"{what}: expected the config.json of a whole {MODEL_TYPE} model, with text_config and vision_config, "
            f"found model_type {found!r}; take openai/clip-vit-base-patch32 or its like"
        )
    vision = _settings(published, "vision_config", _VISION_DEFAULTS)
    text = _settings(published, "text_config", _TEXT_DEFAULTS)
    if text["eos_token_id"] == _LEGACY_END:
        text["eos_token_id"] = text["vocab_size"] - 1
    record = CLIP(
        CLIPVision(**{ours: vision[theirs] for theirs, ours in _VISION.items()}),
        CLIPText(**{ours: text[theirs] for theirs, ours in _TEXT.items()}),
        published.get("projection_dim", _PROJECTION),
    )
    parts = (("vision_config.", record.vision), ("text_config.", record.text), ("", record))
    wrong = [f"{part}{key} = {value}: expected {ok}" for part, of in parts for key, value, ok in of.problems()]
    if wrong:
        raise ConversionError(f"{what}: mmjax does not build this CLIP:\n" + "\n".join(f"  {w}" for w in wrong))
    return record


def write_config(record: CLIP) -> dict[str, Any]:
    """The inverse of `read_config`: a `config.json` from which transformers builds the same model."""
    return {
        "architectures": ["CLIPModel"],
        "model_type": MODEL_TYPE,
        "projection_dim": record.projection,
        "text_config": _tower_config("clip_text_model", record.text, _TEXT, record.projection),
        "vision_config": _tower_config("clip_vision_model", record.vision, _VISION, record.projection),
    }


def table(record: CLIP) -> list[Row]:
    """Rows for every tensor that we use. Kernels are [in, out]: transposed from torch."""
    return [
        *vision_rows(record.vision, "vision_model", "vision"),
        *norm("vision_model.post_layernorm", "vision_norm_out"),
        Row("visual_projection.weight", "vision_projection/kernel", transpose),
        Row("text_model.embeddings.token_embedding.weight", "text/embed"),
        Row("text_model.embeddings.position_embedding.weight", "text/positions"),
        *_blocks("text_model", "text", record.text.layers),
        *norm("text_model.final_layer_norm", "text/norm_out"),
        Row("text_projection.weight", "text_projection/kernel", transpose),
        Row("logit_scale", "logit_scale", scalar),
    ]


def vision_rows(record: CLIPVision, source: str, target: str) -> Iterator[Row]:
    """Rows of the vision tower up to its last hidden state, whose keys begin with `source`, for the tree `target`."""
    yield Row(f"{source}.embeddings.class_embedding", f"{target}/class_token")
    patches = conv_patch(CHANNELS, record.patch)
    yield Row(f"{source}.embeddings.patch_embedding.weight", f"{target}/patch_embed/kernel", patches)
    yield Row(f"{source}.embeddings.position_embedding.weight", f"{target}/positions")
    yield from norm(f"{source}.pre_layrnorm", f"{target}/norm_in")
    yield from _blocks(source, target, record.layers)


def dense(source: str, target: str, blocks: Blocks | None = None) -> Iterator[Row]:
    """Rows of a torch Linear with a bias."""
    yield Row(f"{source}.weight", f"{target}/kernel", transpose, blocks)
    yield Row(f"{source}.bias", f"{target}/bias", identity, blocks)


def norm(source: str, target: str, blocks: Blocks | None = None) -> Iterator[Row]:
    """Rows of a torch LayerNorm."""
    yield Row(f"{source}.weight", f"{target}/scale", identity, blocks)
    yield Row(f"{source}.bias", f"{target}/bias", identity, blocks)


@functools.cache
def abstract_clip(record: CLIP) -> Tree:
    """The parameter tree, of shapes boxed with logical axes; nothing is allocated."""
    pixels = jax.ShapeDtypeStruct((1, record.vision.side, record.vision.side, CHANNELS), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, record.text.length), jnp.int32)
    return jax.eval_shape(ContrastiveCLIP(record, Policy()).init, abstract_key(), pixels, tokens)["params"]


def unused(key: str) -> str | None:
    """Why a published tensor has no place in our model."""
    return "0, 1, 2, ..." if key.endswith(".embeddings.position_ids") else None


def _blocks(source: str, target: str, layers: int) -> Iterator[Row]:
    blocks = Blocks(layers)
    for theirs, ours, rows in (
        ("layer_norm1", "norm_attn", norm),
        ("self_attn.q_proj", "query", dense),
        ("self_attn.k_proj", "key", dense),
        ("self_attn.v_proj", "value", dense),
        ("self_attn.out_proj", "attn_out", dense),
        ("layer_norm2", "norm_ffn", norm),
        ("mlp.fc1", "in", dense),
        ("mlp.fc2", "out", dense),
    ):
        yield from rows(f"{source}.encoder.layers.{{i}}.{theirs}", f"{target}/blocks/{ours}", blocks)


def _settings(published: dict[str, Any], part: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """A tower's settings. Older files repeat some of them under a second name, which then counts."""
    return defaults | published[part] | (published.get(f"{part}_dict") or {})


def _tower_config(kind: str, record: CLIPText | CLIPVision, names: dict[str, str], projection: int) -> dict[str, Any]:
    settings = {theirs: getattr(record, ours) for theirs, ours in sorted(names.items())}
    return {"model_type": kind, "projection_dim": projection, **settings}


COMPONENT = Component(
    name="clip",
    summary="CLIP with both towers, for text alignment: a transformers folder such as clip-vit-base-patch32",
    record=CLIP,
    open=lambda source: open_model(source, "clip", read_config),
    published_config=write_config,
    abstract=abstract_clip,
    rows=table,
    unused=unused,
    stem=TRANSFORMERS,
    tokenizer=lambda folder, record: problem(folder, record.text),
)
