"""The CogVideoX video autoencoder as diffusers publishes it: its `config.json` and the table of its tensors.

One table serves CogVideoX-2B, 5B and 1.5, whose autoencoders differ in their scaling factor alone.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.conversion.component import Component
from mmjax.conversion.engine import Misfit, Row, Transform, identity
from mmjax.conversion.source import open_diffusers
from mmjax.errors import ConversionError
from mmjax.model_settings import VAE
from mmjax.models.cogvideox.vae import Decoder, Encoder
from mmjax.precision import Policy
from mmjax.seeds import abstract_key
from mmjax.trees import Tree

CLASS_NAME = "AutoencoderKLCogVideoX"

_SAME = {  # diffusers' setting -> ours; a setting that is absent has diffusers' default
    "latent_channels": ("latent_channels", 16),
    "block_out_channels": ("channels", (128, 256, 256, 512)),
    "layers_per_block": ("resnets", 3),
    "norm_num_groups": ("norm_groups", 32),
    "temporal_compression_ratio": ("temporal_compression", 4),
    "scaling_factor": ("scaling_factor", 1.15258426),
    "sample_height": ("sample_height", 480),
    "sample_width": ("sample_width", 720),
    "invert_scale_latents": ("invert_scale", False),
}
_FIXED = {  # what mmjax builds
    "in_channels": 3,
    "out_channels": 3,
    "act_fn": "silu",
    "norm_eps": 1e-6,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_IGNORED = ("force_upcast",)  # advice to whoever runs the network in float16
_BLOCKS = {"down_block_types": "CogVideoXDownBlock3D", "up_block_types": "CogVideoXUpBlock3D"}


def read_config(published: dict[str, Any], what: str) -> VAE:
    """diffusers' `config.json` as our record. `what` names the source in messages.

    Raises `ConversionError` that lists every setting that mmjax does not build.
    """
    name = published.get("_class_name", CLASS_NAME)
    if name != CLASS_NAME:
        raise ConversionError(f"{what}: expected the config.json of a {CLASS_NAME}, found one of a {name}")
    settings = {key: value for key, value in published.items() if not key.startswith("_")}
    values = {key: default for key, (_, default) in _SAME.items()} | settings
    wrong = list(_mistyped(values))
    if not wrong:
        fields = {field: _plain(values[key], default) for key, (field, default) in _SAME.items()}
        record = VAE(**fields)
        wrong = [f"{key} = {value}: expected {allowed}" for key, value, allowed in record.problems()]
        wrong += _unsupported(settings, len(record.channels))
    if wrong:
        raise ConversionError(f"{what}: mmjax does not build this autoencoder:\n" + "\n".join(f"  {w}" for w in wrong))
    return record


def write_config(vae: VAE) -> dict[str, Any]:
    """The inverse of `read_config`: a `config.json` from which diffusers builds the same autoencoder."""
    settings = {key: getattr(vae, field) for key, (field, _) in _SAME.items()} | _FIXED
    settings |= {"block_out_channels": list(vae.channels), "force_upcast": True}
    settings |= {key: [kind] * len(vae.channels) for key, kind in _BLOCKS.items()}
    return {"_class_name": CLASS_NAME} | dict(sorted(settings.items()))


def _axes(name: str, order: tuple[int, ...]) -> Transform:
    """Torch's axes in another order."""
    back = tuple(int(axis) for axis in np.argsort(order))
    return Transform(
        name,
        lambda x: x.transpose(order),
        lambda x: x.transpose(back),
        lambda shape: tuple(shape[axis] for axis in back),
    )


conv_2d = _axes("conv_2d", (2, 3, 1, 0))  # [out, in, h, w] as [h, w, in, out]
conv_3d = _axes("conv_3d", (2, 3, 4, 1, 0))  # [out, in, t, h, w] as [t, h, w, in, out]
conv_point = Transform(  # a 1 x 1 x 1 convolution [out, in, 1, 1, 1] as a Dense kernel [in, out]
    "conv_point",
    lambda x: x.reshape(x.shape[:2]).T,
    lambda x: x.T[..., None, None, None],
    lambda shape: (*shape[::-1], 1, 1, 1),
)


def table(vae: VAE) -> list[Row]:
    """Rows for every tensor of the autoencoder: the encoder's, then the decoder's."""
    widths = vae.channels
    return [
        *_network("encoder", "down", widths, vae.resnets),
        *_network("decoder", "up", widths[::-1], vae.resnets + 1),
    ]


@functools.cache  # tracing takes a second, and every direction asks more than once
def abstract_vae(vae: VAE) -> Tree:
    """The parameter tree, of shapes boxed with logical axes: {"encoder": ..., "decoder": ...}. Nothing is allocated."""
    side = vae.spatial_compression
    inputs = {
        "encoder": (Encoder, jax.ShapeDtypeStruct((1, 1, side, side, 3), jnp.float32)),
        "decoder": (Decoder, jax.ShapeDtypeStruct((1, 1, 1, 1, vae.latent_channels), jnp.float32)),
    }
    return {
        name: jax.eval_shape(network(vae, Policy()).init, abstract_key(), x)["params"]
        for name, (network, x) in inputs.items()
    }


def causes(vae: VAE) -> tuple[Callable[[Misfit], str | None], ...]:
    """Who may have been mistaken for this autoencoder, guessed from what does not fit."""

    def other_size(misfit: Misfit) -> str | None:
        expected, found = misfit.misshapen.get("decoder.conv_in.conv.weight", ((), ()))
        if len(found) == len(expected) and found != expected:
            return (
                f"the weights have {found[1]} latent channels and {found[0]} at the deepest level, config.json says "
                f"{expected[1]} and {expected[0]}: the two come from different models"
            )
        return None

    return _not_this_model, other_size


def _not_this_model(misfit: Misfit) -> str | None:
    known = {
        "patch_embed.": "the transformer: it is another component",
        "encoder.block.": "the T5 text encoder: it is another component",
        "first_stage_model.": "the original SAT checkpoint: take the diffusers folder of the same model",
        "decoder.up.": "the original SAT checkpoint: take the diffusers folder of the same model",
        "quant_conv.": "the autoencoder of an image model, which is not built",
    }
    for start, name in known.items():
        if any(key.startswith(start) for key in misfit.surplus):
            return f"the file is {name}"
    return None


def _network(side: str, levels: str, widths: tuple[int, ...], resnets: int) -> Iterator[Row]:
    """Rows of the encoder or the decoder; `widths` in the order of its levels."""
    norm = _spatial_norm if side == "decoder" else _norm
    resample = {"down": "downsamplers.0", "up": "upsamplers.0"}[levels]
    yield from _conv(f"{side}.conv_in.conv", f"{side}/conv_in", conv_3d)
    for i in range(2):
        yield from _resnet(f"{side}.mid_block.resnets.{i}", f"{side}/mid/resnet_{i}", norm, shortcut=False)
    before = widths[0]
    for level, width in enumerate(widths):
        theirs, ours = f"{side}.{levels}_blocks.{level}", f"{side}/{levels}_{level}"
        for i in range(resnets):
            yield from _resnet(f"{theirs}.resnets.{i}", f"{ours}/resnet_{i}", norm, i == 0 and width != before)
        if level < len(widths) - 1:
            yield from _conv(f"{theirs}.{resample}.conv", f"{ours}/{levels}/conv", conv_2d)
        before = width
    yield from norm(f"{side}.norm_out", f"{side}/norm_out")
    yield from _conv(f"{side}.conv_out.conv", f"{side}/conv_out", conv_3d)


def _resnet(source: str, target: str, norm: Callable[[str, str], Iterator[Row]], shortcut: bool) -> Iterator[Row]:
    for i in "12":
        yield from norm(f"{source}.norm{i}", f"{target}/norm{i}")
        yield from _conv(f"{source}.conv{i}.conv", f"{target}/conv{i}", conv_3d)
    if shortcut:
        yield from _conv(f"{source}.conv_shortcut", f"{target}/shortcut", conv_point)


def _norm(source: str, target: str) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/scale", identity)
    yield Row(f"{source}.bias", f"{target}/bias", identity)


def _spatial_norm(source: str, target: str) -> Iterator[Row]:
    yield from _norm(f"{source}.norm_layer", f"{target}/norm")
    yield from _conv(f"{source}.conv_y.conv", f"{target}/to_scale", conv_point)
    yield from _conv(f"{source}.conv_b.conv", f"{target}/to_shift", conv_point)


def _conv(source: str, target: str, kernel: Transform) -> Iterator[Row]:
    yield Row(f"{source}.weight", f"{target}/kernel", kernel)
    yield Row(f"{source}.bias", f"{target}/bias", identity)


def _mistyped(values: dict[str, Any]) -> Iterator[str]:
    for key, (_, default) in _SAME.items():
        value = values[key]
        if isinstance(default, tuple):
            fits = isinstance(value, list | tuple) and all(type(each) is int for each in value)
        elif isinstance(default, bool):
            fits = isinstance(value, bool)
        else:  # a whole number may be written as a float: the class itself declares its compression as one
            fits = type(value) in (int, float) and (type(default) is float or value == math.floor(value))
        if not fits:
            yield f"{key} = {value!r}: expected something like {default!r}"


def _plain(value: Any, default: Any) -> Any:
    return type(default)(value)


def _unsupported(settings: dict[str, Any], levels: int) -> Iterator[str]:
    for key, value in settings.items():
        if key in _SAME or key in _IGNORED:
            continue
        if key in _BLOCKS:
            if list(value) != [_BLOCKS[key]] * levels:
                yield f"{key} = {value!r}: expected {levels} times {_BLOCKS[key]}, one for each of block_out_channels"
        elif key not in _FIXED and value is not None:
            yield f"{key} = {value!r}: expected it absent"
        elif value != _FIXED.get(key):
            yield f"{key} = {value!r}: expected {_FIXED[key]!r}"


COMPONENT = Component(
    name="vae",
    summary="the CogVideoX video autoencoder of a diffusers folder or hub id (2B, 5B, 1.5)",
    record=VAE,
    open=lambda source: open_diffusers(source, "vae", read_config),
    published_config=write_config,
    abstract=abstract_vae,
    rows=table,
    causes=causes,
)
