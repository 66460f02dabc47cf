"""The encoders and the autoencoder that an experiment names: small experiments' stand-ins or the published networks."""

import jax

from mmjax import config as c
from mmjax.encoders import interface, pixel, placeholders
from mmjax.encoders.vae import load_autoencoder
from mmjax.errors import ConfigError


def make_text_encoder(
    config: c.Experiment, mesh: jax.sharding.Mesh | None = None, cache: str | None = None
) -> interface.TextEncoder:
    """The text encoder that `config.encoders.text` names; its weights are read when they are needed.

    `cache` is a folder in which embeddings are kept. Raises `ConfigError` where no folder of weights is named.
    """
    if config.encoders.text != "t5":
        return placeholders.make_text_encoder(config)
    from mmjax.encoders.t5 import load_text_encoder  # transformers takes seconds to import, and says so

    folder = _named(config.encoders.text_encoder, "encoders.text_encoder", "text-encoder")
    transformer, id_tokens = config.model.transformer, config.model.adapter.id_tokens
    dtype = config.precision.compute
    return load_text_encoder(folder, transformer.text_length, id_tokens, mesh=mesh, dtype=dtype, cache=cache)


def make_face_encoder(
    config: c.Experiment, mesh: jax.sharding.Mesh | None = None, strict: bool = True
) -> interface.FaceEncoder:
    """The face encoder that `config.encoders.face` names; with `strict` it refuses faces of poor quality.

    Those of photographs (`mmjax.encoders.photographs`) have `check`, `encode_crops` and `embed` as well.

    Raises `ConfigError` where no folder of weights is named, or weights do not fit the experiment.
    """
    if config.encoders.face not in ("arcface", "photomaker"):
        return placeholders.make_face_encoder(config)
    from mmjax.encoders.photographs import load_arcface_encoder
    from mmjax.encoders.photomaker import (
        load_face_encoder,
    )  # insightface's libraries, which a drawn experiment can spare

    if config.encoders.face == "photomaker":
        photomaker = _named(config.encoders.photomaker, "encoders.photomaker", "photomaker")
    if not config.encoders.face_models:
        raise ConfigError(
            "encoders.face_models: expected an insightface model pack with a detector and a recogniser (*.onnx), such "
            "as antelopev2, by name or folder; for mmjax.sample and mmjax.prepare: --face-models PACK"
        )
    if config.encoders.face == "arcface":
        return load_arcface_encoder(config, strict)
    dtype = config.precision.compute
    return load_face_encoder(photomaker, config.encoders.face_models, dtype=dtype, mesh=mesh, strict=strict)


def make_autoencoder(
    config: c.Experiment, mesh: jax.sharding.Mesh | None = None, tiling: bool = False
) -> interface.Autoencoder:
    """The autoencoder that `config.autoencoder` names. Raises `ConfigError` where no folder of weights is named."""
    if config.autoencoder.name != "cogvideox":
        return pixel.make_autoencoder(config.autoencoder)
    folder = _named(config.autoencoder.weights, "autoencoder.weights", "vae")
    return load_autoencoder(folder, mesh, config.precision, tiling)


def _named(folder: str, setting: str, component: str) -> str:
    if not folder:
        raise ConfigError(
            f"{setting}: expected the folder of converted weights; make one with python -m mmjax.convert {component} "
            "--source DIR --output DIR"
        )
    return folder
