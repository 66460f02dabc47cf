"""Which weights and which settings a sampler has: a training run's, or converted CogVideoX weights with an adapter."""

import dataclasses
import functools
import operator
import os
from pathlib import Path

import jax
import jax.numpy as jnp

from mmjax import config as c
from mmjax import conversion, sharding, trees
from mmjax.conversion import store
from mmjax.errors import ConfigError
from mmjax.models.build import STREAMED, Params, abstract_params
from mmjax.precision import FLOAT32
from mmjax.sampling.mistaken import check_folder
from mmjax.sampling.text_to_video import PromisedParams, Sampler
from mmjax.trainable import split_adapter
from mmjax.weights import parameters, runs
from mmjax.weights.adapters import TrainedAdapter, open_adapter
from mmjax.weights.base import of_folder, of_run
from mmjax.weights.same_model import check_same_model

_LARGE = (r"(?!.*time_embed).*kernel",)  # weights that are kept in the frozen dtype; norms and the like stay float32
PRECISIONS = {"bfloat16": c.Precision(), "float32": FLOAT32}


def load_sampler(
    folder: str | os.PathLike,
    *,
    adapter: str | os.PathLike | None = None,
    weights: str = "ema",
    step: int | str | None = None,
    mesh: c.Mesh | None = None,
    photomaker: str | os.PathLike | None = None,
    face_models: str | os.PathLike | None = None,
    precision: str | None = None,
    low_memory: bool = False,
    text_cache: str | os.PathLike | None = None,
    strict: bool = True,
    **settings,
) -> Sampler:
    """A model ready to sample. Settings are checked here; weights are read when they are needed.

    Args:
      folder: a workdir of `mmjax.train`, or a folder that `python -m mmjax.convert cogvideox` wrote.
      adapter: a workdir, whose adapter is used, or a file or folder that `python -m mmjax.convert adapter` wrote of
        one; with converted weights and none, plain CogVideoX samples text alone.
      weights: "ema", the averaged ones where the run kept an average, or "raw".
      step: of the checkpoint; "best" is the best one by `train.keep_best`, by default it is the last one.
      mesh: by default all devices along `data`, whatever mesh the model was trained on.
      photomaker: folder of converted PhotoMaker V2 weights; by default FOLDER/photomaker.
      face_models: an insightface model pack, by name or folder; by default FOLDER/face_models.
      precision: "bfloat16" or "float32"; by default the run's, and bfloat16 for converted weights.
      low_memory: block weights stay in host memory and come to the device a pair at a time, and videos are decoded in
        tiles. Slower, for devices with less memory.
      text_cache: folder in which prompts' embeddings are kept.
      strict: refuse reference pictures that are small, blurred or turned away; otherwise warn of them.
      **settings: fields of `config.Sampling` that are to differ from the run's, such as `steps=25`.

    Raises:
      CheckpointError: no run, no checkpoint, or one that cannot be read; an adapter of another model.
      ConfigError: a setting that cannot work.
    """
    if weights not in ("ema", "raw"):
        raise ConfigError(f"weights = {weights!r}: expected ema or raw")
    if precision not in (None, *PRECISIONS):
        why = ": CogVideoX overflows in float16 and gives black videos" if precision == "float16" else ""
        raise ConfigError(f"precision = {precision!r}: expected {' or '.join(PRECISIONS)}{why}")
    check_folder(folder, "--model")
    if adapter is not None:
        check_folder(adapter, "--adapter")
    folder = Path(folder)
    published = (folder / store.MANIFEST).is_file()
    added = adapter and open_adapter(adapter, f"--adapter {os.fspath(adapter)}", step if published else None, weights)
    config = _published_experiment(folder, added) if published else runs.read_config(folder)
    config = _with_settings(config, folder, mesh, photomaker, face_models, precision, low_memory, settings)
    devices = sharding.make_mesh(config.mesh)
    source, abstract = {"model": str(folder)}, _abstract(config, devices, low_memory, cast=published)
    if published:
        source |= {"step": added.step, "weights": added.weights} if added else {}
        base = functools.partial(of_folder, conversion.read_pipeline(folder).folders["transformer"])
        read = functools.partial(_read_published, folder, added, abstract)
    else:
        source |= _run(folder, weights, step)
        base = functools.partial(of_run, folder, source["step"], weights == "ema")
        read = functools.partial(_read_run, folder, added, abstract, source["step"], weights == "ema")
    if added:
        source["adapter"] = os.fspath(adapter)
        check_same_model(added.config.model, config.model, added.what)
        added.check_base(base, f"--model {folder}")
    promised = PromisedParams(abstract, read)
    return Sampler(
        config,
        promised,
        devices,
        source,
        tiling=low_memory,
        text_cache=text_cache,
        strict=strict,
        trained_with=added.encoders if added else runs.read_encoders(folder),
    )


def _published_experiment(folder: Path, adapter: TrainedAdapter | None) -> c.Experiment:
    """The experiment of converted weights: that of the adapter's run, if any, with the published pipeline's parts."""
    pipeline = conversion.read_pipeline(folder)
    model = c.Model(pipeline.transformer, c.Adapter(enabled=False))
    config = c.Experiment(name=folder.name, model=model)
    if adapter is not None:
        config = adapter.config
        check_same_model(c.Model(pipeline.transformer, config.model.adapter), config.model, f"--model {folder}")
    data = dataclasses.replace(
        config.data,
        sources=(str(folder),),
        weights=(1.0,),
        batches=(1,),
        frames=(pipeline.frames,),
        height=pipeline.height,
        width=pipeline.width,
        fps=pipeline.fps,
    )
    return dataclasses.replace(
        config,
        data=data,
        train=dataclasses.replace(config.train, accumulate=1),
        schedule=pipeline.schedule,
        sampling=pipeline.sampling,
        autoencoder=c.Autoencoder("cogvideox", weights=str(pipeline.folders["vae"])),
        encoders=c.Encoders("t5", "photomaker", text_encoder=str(pipeline.folders["text_encoder"])),
        precision=c.Precision(),
    )


def _with_settings(config, folder, mesh, photomaker, face_models, precision, low_memory, settings) -> c.Experiment:
    """The experiment with what the caller asks for. Raises `ConfigError`."""
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(c.Sampling)})
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no setting of a sampler")
    named = {"photomaker": photomaker, "face_models": face_models}
    beside = {name: folder / name for name, given in named.items() if given is None and (folder / name).is_dir()}
    chosen = {name: str(given) for name, given in (named | beside).items() if given is not None}
    config = dataclasses.replace(
        config,
        mesh=mesh or c.Mesh(),
        encoders=dataclasses.replace(config.encoders, **chosen),
        sampling=dataclasses.replace(config.sampling, **settings),
        precision=PRECISIONS[precision] if precision else config.precision,
        runtime=dataclasses.replace(config.runtime, stream=low_memory),
    )
    return config.validated()


def _run(workdir: Path, weights: str, step: int | str | None) -> dict:
    """Which of a run's weights these are."""
    averaged = weights == "ema" and runs.read_config(workdir).train.ema_decay > 0
    return {"step": parameters.complete_step(workdir, step), "weights": "ema" if averaged else "raw"}


def _abstract(config: c.Experiment, devices: jax.sharding.Mesh, low_memory: bool, cast: bool) -> Params:
    """The parameters' shapes, dtypes and shardings, with `cast` large ones in the dtype of frozen weights."""
    leaves = trees.flatten(abstract_params(config, devices))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, trees.unflatten(leaves))
    if low_memory:
        shardings = sharding.in_host_memory(shardings, STREAMED)
    kept = jnp.dtype(config.precision.frozen)
    return trees.unflatten(
        {
            path: jax.ShapeDtypeStruct(
                leaves[path].shape,
                kept if cast and trees.matches(_LARGE, path) else leaves[path].dtype,
                sharding=place,
            )
            for path, place in trees.flatten(shardings).items()
        }
    )


def _read_published(folder: Path, adapter: TrainedAdapter | None, abstract: Params) -> Params:
    """The converted transformer, and an adapter."""
    added, base = split_adapter(abstract)
    wanted = base["transformer"]
    part = conversion.read_pipeline(folder).folders["transformer"]
    shardings, dtypes = (jax.tree.map(operator.attrgetter(name), wanted) for name in ("sharding", "dtype"))
    params = {"transformer": conversion.load_component(part, shardings, dtypes)[1]}
    if adapter is None:
        return params
    return trees.merge(params, _like(adapter.read(added), added))


def _read_run(folder: Path, adapter: TrainedAdapter | None, abstract: Params, step: int, ema: bool) -> Params:
    """A run's parameters, with another adapter where one is named."""
    params = parameters.load_params(folder, step, ema, abstract=abstract)
    if adapter is None:
        return params
    old, rest = split_adapter(params)
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), old)
    return trees.merge(adapter.read(wanted), rest)


def _like(params: Params, abstract: Params) -> Params:
    """Leaves in the dtypes of `abstract`, where they differ."""
    return jax.tree.map(lambda leaf, like: leaf if leaf.dtype == like.dtype else _cast(leaf, like), params, abstract)


def _cast(leaf: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    if leaf.is_fully_addressable and like.sharding.memory_kind == "pinned_host":
        return jax.device_put(jnp.asarray(jax.device_get(leaf)).astype(like.dtype), like.sharding)
    return leaf.astype(like.dtype)
