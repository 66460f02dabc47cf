"""PhotoMaker V2's ID encoder as published: `photomaker-v2.bin`, a torch pickle with `id_encoder` and `lora_weights`.

Its fine-tuned CLIP tower becomes `clip`, its perceiver `id_perceiver`, the very tree of our model's
`face_encoder/id_perceiver`. Keys are those of the pickle, joined by dots (`id_encoder.vision_model...`), which is also
how PhotoMaker's own loader names the tensors of a safetensors file. There is no configuration beside the weights: sizes
are read from their shapes, and head widths, which no shape shows, are the published code's.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import config as c
from mmjax.conversion import pickles
from mmjax.conversion.clip import dense, norm, vision_rows
from mmjax.conversion.component import Component
from mmjax.conversion.engine import Misfit, Row, Shape, transpose
from mmjax.conversion.source import Source, download, open_tensors
from mmjax.errors import ConversionError
from mmjax.models.clip import CHANNELS, CLIPVisionTower
from mmjax.models.magicmirror.face_branch import IdPerceiver
from mmjax.models.sizes import CLIPVision, PhotoMaker
from mmjax.precision import Policy
from mmjax.seeds import abstract_key
from mmjax.trees import Tree

STEM = "photomaker-v2"
_HUB = "TencentARC/PhotoMaker-V2"
_CLIP_HEAD_DIM = 64
_VISION = "id_encoder.vision_model"
_PERCEIVER = "id_encoder.qformer_perceiver"
_UNUSED = {
    "lora_weights.": "low-rank changes to SDXL, which is not the model here",
    "id_encoder.fuse_module.": "fuses identities into CLIP's text, 2048 wide; T5's text is 4096 wide and has its own",
    "id_encoder.visual_projection": "projects CLIP's pooled output, which no perceiver reads",
    f"{_VISION}.post_layernorm.": "normalizes CLIP's pooled output, which no perceiver reads",
    f"{_VISION}.embeddings.position_ids": "0, 1, 2, ...",
}


def open_photomaker(source: str) -> Source:
    """Opens `photomaker-v2.bin`, the folder that holds it, or a hub id such as `TencentARC/PhotoMaker-V2`.

    A safetensors file with the same keys is read as well, and needs no torch. Raises `ConversionError`.
    """
    path = Path(source)
    file = path if path.is_file() else _find(path if path.is_dir() else download(source, [f"{STEM}.bin"]))
    if file.suffix == ".safetensors":
        tensors, read = open_tensors([file])
    else:
        tensors = _pickled(file)
        read = lambda key: tensors[key].read()  # noqa: E731
    try:
        record = read_sizes({key: tuple(tensor.shape) for key, tensor in tensors.items()}, str(file))
    except (ValueError, ArithmeticError) as error:
        raise ConversionError(f"{file}: these shapes make no PhotoMaker V2 ({error}). Download it again") from error
    return Source(path.resolve().name if path.exists() else source, record, tensors, read, (file,))


def read_sizes(shapes: Mapping[str, Shape], what: str) -> PhotoMaker:
    """The record that the tensors' shapes tell; where a tensor is missing, the published model's size.

    `what` names the source in messages. Raises `ConversionError` for sizes that make no network.
    """
    clip, default = CLIPVision(), PhotoMaker()

    def size(key: str, published: Shape) -> Shape:
        found = shapes.get(key, published)
        return found if len(found) == len(published) else published

    width, _, patch, _ = size(f"{_VISION}.embeddings.patch_embedding.weight", (clip.width, CHANNELS, clip.patch, 0))
    places, _ = size(f"{_VISION}.embeddings.position_embedding.weight", (clip.tokens, clip.width))
    hidden, _ = size(f"{_VISION}.encoder.layers.0.mlp.fc1.weight", (clip.hidden, clip.width))
    (latent,) = size(f"{_PERCEIVER}.token_norm.weight", (default.width,))
    _, id_dim = size(f"{_PERCEIVER}.token_proj.0.weight", (default.width, default.id_dim))
    queries, _ = size(f"{_PERCEIVER}.token_proj.2.weight", (default.id_tokens * latent, default.width))
    record = PhotoMaker(
        CLIPVision(
            layers=_count(shapes, f"{_VISION}.encoder.layers.", clip.layers),
            width=width,
            heads=max(width // _CLIP_HEAD_DIM, 1),
            hidden=hidden,
            side=math.isqrt(places - 1) * patch,
            patch=patch,
        ),
        id_dim=id_dim,
        id_tokens=queries // latent,
        width=latent,
        depth=_count(shapes, f"{_PERCEIVER}.perceiver_resampler.layers.", default.depth),
    )
    wrong = [f"{key} = {value}: expected {ok}" for each in (record.clip, record) for key, value, ok in each.problems()]
    if wrong:
        raise ConversionError(f"{what}: these shapes make no PhotoMaker V2:\n" + "\n".join(f"  {w}" for w in wrong))
    return record


def write_config(record: PhotoMaker) -> dict[str, Any]:
    """The sizes, for the reader of a folder that is written back; PhotoMaker's code has them built in."""
    return {"model_type": STEM, **dataclasses.asdict(record)}


def table(record: PhotoMaker) -> list[Row]:
    """Rows for every tensor that we use. Kernels are [in, out]: transposed from torch."""
    return [*vision_rows(record.clip, _VISION, "clip"), *_id_perceiver(record.depth)]


@functools.cache
def abstract_photomaker(record: PhotoMaker) -> Tree:
    """{"clip": ..., "id_perceiver": ...}, of shapes boxed with logical axes; nothing is allocated."""
    clip, key = record.clip, abstract_key()
    pixels = jax.ShapeDtypeStruct((1, clip.side, clip.side, CHANNELS), jnp.float32)
    q_id = jax.ShapeDtypeStruct((1, record.id_dim), jnp.float32)
    features = jax.ShapeDtypeStruct((1, clip.tokens, clip.width), jnp.float32)
    perceiver = IdPerceiver(c.Adapter(**record.adapter_settings), Policy())
    return {
        "clip": jax.eval_shape(CLIPVisionTower(clip, Policy()).init, key, pixels)["params"],
        "id_perceiver": jax.eval_shape(perceiver.init, key, q_id, features)["params"],
    }


def unused(key: str) -> str | None:
    """Why a published tensor has no place in our model."""
    return next((reason for start, reason in _UNUSED.items() if key.startswith(start)), None)


def causes(record: PhotoMaker) -> tuple[Callable[[Misfit], str | None], ...]:
    """Who may have been mistaken for PhotoMaker V2, guessed from what does not fit."""

    def first_version(misfit: Misfit) -> str | None:
        clip_alone = all(key.startswith(_PERCEIVER) for key in misfit.missing)
        if clip_alone and not any(key.startswith(_PERCEIVER) for key in misfit.found):
            return f"the file is PhotoMaker V1's, which has no ID perceiver: take {STEM}.bin of {_HUB}"
        return None

    return (first_version,)


def _find(folder: Path) -> Path:
    for name in (f"{STEM}.bin", f"{STEM}.safetensors"):
        if (folder / name).is_file():
            return folder / name
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise ConversionError(f"{folder}: expected {STEM}.bin, as in {_HUB}; found {found}")


def _pickled(file: Path) -> dict[str, pickles.PickledTensor]:
    """The tensors of the pickle's two dictionaries, under one name each."""
    parts = pickles.unwrapped(pickles.load(file))
    if not isinstance(parts, dict) or not isinstance(parts.get("id_encoder"), dict):
        found = ", ".join(map(str, list(parts)[:5])) if isinstance(parts, dict) else type(parts).__name__
        raise ConversionError(
            f"{file}: expected a pickle with id_encoder and lora_weights, as {STEM}.bin of {_HUB}; found {found}"
        )
    return {
        f"{part}.{key}": tensor
        for part in ("id_encoder", "lora_weights")
        for key, tensor in pickles.tensors(file, parts.get(part, {})).items()
    }


def _count(shapes: Mapping[str, Shape], start: str, default: int) -> int:
    """Blocks whose keys begin with `start`; one that is missing inside is missed later, by its name."""
    numbers = {key[len(start) :].split(".")[0] for key in shapes if key.startswith(start)}
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=default)


def _id_perceiver(depth: int) -> Iterator[Row]:
    yield from dense(f"{_PERCEIVER}.token_proj.0", "id_perceiver/token_in")
    yield from dense(f"{_PERCEIVER}.token_proj.2", "id_perceiver/token_out")
    yield from norm(f"{_PERCEIVER}.token_norm", "id_perceiver/token_norm")
    theirs, ours = f"{_PERCEIVER}.perceiver_resampler", "id_perceiver/resampler"
    yield from dense(f"{theirs}.proj_in", f"{ours}/in")
    for i in range(depth):
        attention, feed_forward = f"{theirs}.layers.{i}.0", f"{theirs}.layers.{i}.1"
        yield from norm(f"{attention}.norm1", f"{ours}/attn_{i}/norm_features")
        yield from norm(f"{attention}.norm2", f"{ours}/attn_{i}/norm_latents")
        yield Row(f"{attention}.to_q.weight", f"{ours}/attn_{i}/query/kernel", transpose)
        yield Row(f"{attention}.to_kv.weight", f"{ours}/attn_{i}/key_value/kernel", transpose)
        yield Row(f"{attention}.to_out.weight", f"{ours}/attn_{i}/out/kernel", transpose)
        yield from norm(f"{feed_forward}.0", f"{ours}/norm_ffn_{i}")
        yield Row(f"{feed_forward}.1.weight", f"{ours}/ffn_{i}/in/kernel", transpose)
        yield Row(f"{feed_forward}.3.weight", f"{ours}/ffn_{i}/out/kernel", transpose)
    yield from dense(f"{theirs}.proj_out", f"{ours}/out")
    yield from norm(f"{theirs}.norm_out", f"{ours}/norm_out")


COMPONENT = Component(
    name="photomaker",
    summary="PhotoMaker V2's CLIP and ID perceiver: photomaker-v2.bin",
    record=PhotoMaker,
    open=open_photomaker,
    published_config=write_config,
    abstract=abstract_photomaker,
    rows=table,
    causes=causes,
    unused=unused,
    stem=STEM,
)
