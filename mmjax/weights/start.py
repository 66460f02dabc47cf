"""Weights to start from: a converted base, PhotoMaker's ID perceiver, a trained adapter.

What they give is never drawn at random.
"""

import dataclasses
import operator
from pathlib import Path

import jax

from mmjax import config as c
from mmjax import conversion, trees
from mmjax.conversion import store
from mmjax.conversion.recognise import advice
from mmjax.conversion.soundness import check_params
from mmjax.errors import CheckpointError, ConfigError
from mmjax.models.build import Params
from mmjax.trainable import is_adapter, is_trainable, split_adapter
from mmjax.weights.adapters import open_adapter
from mmjax.weights.base import of_folder
from mmjax.weights.same_model import check_same_model


def load_start(config: c.Experiment, abstract: Params) -> Params:
    """What `train.base`, `train.photomaker` and `train.adapter` give, with the dtypes and shardings of `abstract`.

    Args:
      abstract: the whole tree, from `build.abstract_params`.

    Raises:
      CheckpointError: a folder that is missing, damaged or of another model.
      ConfigError: PhotoMaker's weights for a model without an ID perceiver.
      TreeError: weights that do not fit the model.
    """
    check_frozen(config, abstract)
    loaded: Params = {}
    if config.train.base not in ("", c.RANDOM):
        loaded = trees.merge(loaded, _load_base(config, abstract))
    if config.train.photomaker:
        loaded = trees.merge(loaded, _load_id_perceiver(config, abstract))
    if config.train.adapter:
        loaded = trees.merge(loaded, _load_adapter(config, abstract))
    return loaded


def check_frozen(config: c.Experiment, abstract: Params) -> None:
    """Refuses a run whose frozen parameters would be random, before anything is read (`ConfigError`).

    `train.base = random` asks for that: to measure speed and memory without weights.
    """
    given = {
        c.ADAPTER_PATTERNS: bool(config.train.adapter),
        (r"face_encoder/id_perceiver/.*",): bool(config.train.photomaker),
        (r"transformer/(?!blocks/adapter/).*",): bool(config.train.base),
    }
    known = [pattern for patterns, named in given.items() if named for pattern in patterns]
    if config.train.base == c.RANDOM:
        known = [".*"]
    frozen = [path for path in trees.flatten(abstract) if not is_trainable(config, path)]
    unknown = [path for path in frozen if not trees.matches(known, path)]
    if unknown:
        raise ConfigError(
            f"train.base = {config.train.base!r}: {len(unknown)} frozen parameters, such as {unknown[0]}, come from "
            "nowhere and would stay random; name the folder of a converted transformer (train.base), of an adapter "
            "(train.adapter) or of PhotoMaker (train.photomaker), train them too (train.trainable), or set "
            "train.base = random to measure speed alone"
        )


def check_folders(config: c.Experiment) -> None:
    """Refuses paths of `train.base`, `train.photomaker` and `train.adapter` that are not there; reads nothing.

    Raises `CheckpointError`, naming the setting. `load_start` says what is wrong with a folder that is there.
    """
    made_by = {
        "base": "python -m mmjax.convert transformer",
        "photomaker": "python -m mmjax.convert photomaker",
        "adapter": "python -m mmjax.train",
    }
    for setting, command in made_by.items():
        folder = getattr(config.train, setting)
        there = Path(folder).exists() if setting == "adapter" else Path(folder).is_dir()
        if folder not in ("", c.RANDOM) and not there:
            known = advice(folder, {"base": "transformer"}.get(setting, setting)) if setting != "adapter" else ""
            raise CheckpointError(
                f"train.{setting} = {folder}: expected a folder that {command} has written, found none of this name; "
                f"{known or 'correct the path, or write it first'}"
            )


def _load_base(config: c.Experiment, abstract: Params) -> Params:
    """A folder that `python -m mmjax.convert transformer` wrote, under `transformer`."""
    folder = config.train.base
    found = c.Model(conversion.read_record(folder), config.model.adapter)
    check_same_model(found, config.model, f"train.base = {folder}")
    wanted = {path: leaf for path, leaf in trees.flatten(abstract).items() if path.startswith("transformer/")}
    wanted = {path: leaf for path, leaf in wanted.items() if not is_adapter(path)}
    wanted = trees.unflatten(wanted)["transformer"]
    shardings, dtypes = (jax.tree.map(operator.attrgetter(name), wanted) for name in ("sharding", "dtype"))
    return {"transformer": conversion.load_component(folder, shardings, dtypes)[1]}


def _load_id_perceiver(config: c.Experiment, abstract: Params) -> Params:
    """Of a folder that `python -m mmjax.convert photomaker` wrote, under `face_encoder/id_perceiver`."""
    folder, adapter = Path(config.train.photomaker), config.model.adapter
    if not (adapter.enabled and adapter.identity_branch):
        raise ConfigError(
            f"train.photomaker = {folder}: expected none, since this model has no ID perceiver to start from it; leave "
            "it out, or switch model.adapter.enabled and model.adapter.identity_branch on"
        )
    record = conversion.read_record(folder, "photomaker")
    found = c.Model(config.model.transformer, dataclasses.replace(adapter, **record.adapter_settings))
    check_same_model(found, config.model, f"train.photomaker = {folder}")
    wanted = {"id_perceiver": abstract["face_encoder"]["id_perceiver"]}
    params = store.read_params(folder, wanted)
    check_params(params, f"train.photomaker = {folder}")
    return {"face_encoder": params}


def _load_adapter(config: c.Experiment, abstract: Params) -> Params:
    """The averaged adapter of an earlier run's last checkpoint, or of an exported file or folder."""
    adapter = open_adapter(config.train.adapter, f"train.adapter = {config.train.adapter}")
    check_same_model(adapter.config.model, config.model, adapter.what)
    if config.train.base not in ("", c.RANDOM):
        adapter.check_base(lambda: of_folder(config.train.base), f"train.base = {config.train.base}")
    wanted, _ = split_adapter(abstract)
    params = adapter.read(wanted)
    return jax.tree.map(lambda array, leaf: array.astype(leaf.dtype), params, wanted)
