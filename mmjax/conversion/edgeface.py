"""The table of EdgeFace as published: safetensors with the keys of timm's `edgenext_*` under `model.` (George et al.).

Sizes are read from the tensors' shapes. Linear layers of low rank, as the published `_gamma_` files have them, are
refused; what is built here are the plain ones, of `edgeface_xs_q` and `edgeface_xxs_q` in float32.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.conversion.engine import Misfit, Row, Shape, assemble, check, conv_patch, expand, identity, transpose
from mmjax.conversion.safetensors_io import read_headers, read_tensor
from mmjax.conversion.soundness import checked
from mmjax.conversion.vae import conv_2d
from mmjax.errors import ConversionError
from mmjax.models.edgeface import EdgeFace, EdgeFaceSizes
from mmjax.seeds import abstract_key
from mmjax.sharding import unbox
from mmjax.trees import Tree, flatten, unflatten

SIDE = 112  # pixels of the aligned face
_STEM, _HEAD = "model.stem.0.weight", "model.head.fc.weight"


def read_sizes(file: Path) -> EdgeFaceSizes:
    """The network's sizes, from the header alone. Raises `ConversionError` for a file of another network."""
    return _sizes({key: tensor.shape for key, tensor in read_headers([file]).items()}, file)


def read_edgeface(file: Path) -> tuple[EdgeFaceSizes, Tree]:
    """Sizes and parameters, numpy arrays in float32. Raises `ConversionError` for what does not fit, naming it."""
    tensors = read_headers([file])
    found = {key: tensor.shape for key, tensor in tensors.items()}
    sizes = _sizes(found, file)
    leaves = expand(table(sizes), {path: leaf.shape for path, leaf in flatten(abstract_edgeface(sizes)).items()})
    check(leaves, found, str(file), (_low_rank,))
    read = checked(lambda key: read_tensor(tensors[key]), zeros=False)  # int8 left nothing of XS's last `qkv`
    return sizes, unflatten({leaf.path: assemble(leaf, read, np.dtype(np.float32)) for leaf in leaves})


def abstract_edgeface(sizes: EdgeFaceSizes) -> Tree:
    """The parameter tree as shapes."""
    picture = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)
    return unbox(jax.eval_shape(EdgeFace(sizes).init, abstract_key(), picture)["params"])


def table(sizes: EdgeFaceSizes) -> list[Row]:
    """One row for each tensor."""
    rows = [*_layer("model.stem.0", "stem/patch", conv_patch(3, 4)), *_norm("model.stem.1", "stem_norm")]
    rows += [*_norm("model.head.norm", "head_norm"), *_layer("model.head.fc", "head")]
    for stage, depth in enumerate(sizes.depths):
        source = f"model.stages.{stage}"
        if stage:
            rows += _norm(f"{source}.downsample.0", f"stage_{stage}_norm")
            patch = conv_patch(sizes.widths[stage - 1], 2)
            rows += _layer(f"{source}.downsample.1", f"stage_{stage}_in/patch", patch)
        for block in range(depth):
            splits = sizes.splits[stage] if block == depth - 1 else 0
            positions = stage == sizes.position_stage
            rows += _block(f"{source}.blocks.{block}", f"stage_{stage}_block_{block}", splits, positions)
    return rows


def _block(source: str, target: str, splits: int, positions: bool) -> Iterator[Row]:
    yield from _norm(f"{source}.norm", f"{target}/norm")
    yield from _layer(f"{source}.mlp.fc1", f"{target}/ffn/in")
    yield from _layer(f"{source}.mlp.fc2", f"{target}/ffn/out")
    yield Row(f"{source}.gamma", f"{target}/gamma")
    if not splits:
        yield from _layer(f"{source}.conv_dw", f"{target}/depthwise", conv_2d)
        return
    for number in range(splits - 1):
        yield from _layer(f"{source}.convs.{number}", f"{target}/split/depthwise_{number}", conv_2d)
    if positions:
        yield from _layer(f"{source}.pos_embd.token_projection", f"{target}/positions", conv_patch(64, 1))
    yield from _norm(f"{source}.norm_xca", f"{target}/norm_attn")
    yield Row(f"{source}.gamma_xca", f"{target}/gamma_attn")
    yield Row(f"{source}.xca.temperature", f"{target}/attention/temperature")
    yield from _layer(f"{source}.xca.qkv", f"{target}/attention/qkv")
    yield from _layer(f"{source}.xca.proj", f"{target}/attention/out")


def _layer(source: str, target: str, transform=transpose) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/kernel", transform)
    yield Row(f"{source}.bias", f"{target}/bias", identity)


def _norm(source: str, target: str) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/scale")
    yield Row(f"{source}.bias", f"{target}/bias")


def _sizes(found: Mapping[str, Shape], file: Path) -> EdgeFaceSizes:
    if not {_STEM, _HEAD} <= found.keys():
        some = ", ".join(list(found)[:3]) or "no tensor"
        raise ConversionError(
            f"{file}: expected an EdgeFace, with timm's keys such as {_STEM} and {_HEAD}; found {some}"
        )
    widths, depths = [found[_STEM][0]], []
    for stage in range(4):
        pattern = re.compile(rf"model\.stages\.{stage}\.blocks\.(\d+)\.")
        blocks = {int(match[1]) for key in found if (match := pattern.match(key))}
        depths.append(max(blocks, default=-1) + 1)
        if stage:
            widths.append(found.get(f"model.stages.{stage}.downsample.1.weight", (0,))[0])
    return EdgeFaceSizes(tuple(widths), tuple(depths), found[_HEAD][0])


def _low_rank(misfit: Misfit) -> str | None:
    if any(".linear1." in key or ".linear2." in key for key in misfit.surplus):
        return "an EdgeFace with layers of low rank (a `_gamma_` file), which mmjax does not build: take xs_q or xxs_q"
    return None
