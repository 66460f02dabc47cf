"""Which weights and which settings a sampler has: a run's, converted CogVideoX's with an adapter, a shipped model's."""

import dataclasses
import functools
import operator
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from mmjax import config as c
from mmjax import conversion, sharding, trees
from mmjax.conversion import store
from mmjax.encoders.build import with_face_models
from mmjax.errors import ConfigError
from mmjax.models.build import STREAMED, Params, abstract_params
from mmjax.precision import FLOAT32
from mmjax.pretrained.names import find
from mmjax.sampling.devices import spread
from mmjax.sampling.mistaken import check_folder
from mmjax.sampling.text_to_video import PromisedParams, Sampler
from mmjax.trainable import split_adapter
from mmjax.weights import adapters, parameters, runs, shipped
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
    videos: int = 1,
    photomaker: str | os.PathLike | None = None,
    face_models: str | os.PathLike | None = None,
    precision: str | None = None,
    low_memory: bool = False,
    text_cache: str | os.PathLike | None = None,
    strict: bool = True,
    resident: bool = False,
    **settings,
) -> Sampler:
    """A model ready to sample. Settings are checked here; weights are read when they are needed.

    Args:
      folder: a workdir of `mmjax.train`, a folder that `python -m mmjax.convert cogvideox` wrote, or a model to give
        away: the folder that `python -m mmjax.convert pretrained` wrote, or the name of one that comes with mmjax, such
        as "mini". A folder of that name goes before.
      adapter: a workdir, whose adapter is used, or a file or folder that `python -m mmjax.convert adapter` wrote of
        one; with converted weights and none, plain CogVideoX samples text alone.
      weights: "ema", the averaged ones where the run kept an average, or "raw".
      step: of the checkpoint; "best" is the best one by `train.keep_best`, by default it is the last one.
      mesh: by default all devices, as `mmjax.sampling.devices` spreads `videos` over them.
      videos: how many there are to make.
      photomaker: folder of converted PhotoMaker V2 weights; by default FOLDER/photomaker.
      face_models: an insightface model pack, by name or folder; by default FOLDER/face_models, or else the one that a
        package carries (`mmjax.faces.packs.default_pack`).
      precision: "bfloat16" or "float32"; by default the run's, bfloat16 for converted weights, and float32 for a model
        that was given away, which is small.
      low_memory: block weights stay in host memory and come to the device a pair at a time, and videos are decoded in
        tiles. Slower, for devices with less memory.
      text_cache: folder in which prompts' embeddings are kept.
      strict: refuse reference pictures that are small, blurred or turned away; otherwise warn of them.
      resident: text and face encoders stay on the device between requests.
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
    named, folder = os.fspath(folder), find(folder)
    make = _of_shipped if shipped.is_shipped(folder) else _of_published if _is_converted(folder) else _of_run
    found = make(folder, named, adapter, step, weights)
    config = _with_settings(
        found.config, folder, mesh, videos, photomaker, face_models, precision, low_memory, settings
    )
    devices = sharding.make_mesh(config.mesh)
    abstract, added = _abstract(config, devices, low_memory, found.cast), found.adapter
    if added:
        check_same_model(added.config.model, config.model, added.what)
        added.check_base(found.base, f"--model {named}")
    source = found.source | ({} if adapter is None else {"adapter": os.fspath(adapter)})
    return Sampler(
        config,
        PromisedParams(abstract, functools.partial(found.read, abstract)),
        devices,
        source,
        tiling=low_memory,
        text_cache=text_cache,
        strict=strict,
        trained_with=added.encoders if added else runs.read_encoders(folder),
        resident=resident,
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """A model of one of the three kinds.

    adapter: in place of a run's own. base: computes the fingerprint of the transformer, where an adapter has to fit it.
    read: shapes, dtypes and shardings of all leaves -> the parameters. cast: large ones are kept as frozen ones are.
    """

    config: c.Experiment
    adapter: TrainedAdapter | None
    base: Callable[[], str]
    read: Callable[[Params], Params]
    source: dict
    cast: bool = False


def _is_converted(folder: Path) -> bool:
    """Whether `mmjax.convert` wrote the folder."""
    return (folder / store.MANIFEST).is_file()


def _of_shipped(folder: Path, named: str, adapter, step, weights: str) -> _Found:
    parts = shipped.open_model(folder)
    own, vae = parts["adapter"].record.origin, str(folder / shipped.file_name("vae"))
    if adapter is None:
        added = adapters.checked(adapters.exported(own, f"--model {named}", parts["adapter"].read), step, weights)
    else:
        added = open_adapter(adapter, f"--adapter {os.fspath(adapter)}", step, weights)
    config = dataclasses.replace(
        own.config,
        autoencoder=dataclasses.replace(own.config.autoencoder, weights=vae),
        encoders=dataclasses.replace(own.config.encoders, face_models=""),  # a path of another machine's
        precision=FLOAT32,
    )
    read = functools.partial(_read_shipped, parts["base"], added)
    source = {"model": named, "step": added.step, "weights": added.weights}
    return _Found(config, added, lambda: own.base.fingerprint, read, source)


def _of_published(folder: Path, named: str, adapter, step, weights: str) -> _Found:
    added = adapter and open_adapter(adapter, f"--adapter {os.fspath(adapter)}", step, weights)
    config = _published_experiment(folder, added)
    base = functools.partial(of_folder, conversion.read_pipeline(folder).folders["transformer"])
    source = {"model": named} | ({"step": added.step, "weights": added.weights} if added else {})
    return _Found(config, added, base, functools.partial(_read_published, folder, added), source, cast=True)


def _of_run(folder: Path, named: str, adapter, step, weights: str) -> _Found:
    added = adapter and open_adapter(adapter, f"--adapter {os.fspath(adapter)}", None, weights)
    config, step, averaged = runs.read_config(folder), parameters.complete_step(folder, step), weights == "ema"
    base = functools.partial(of_run, folder, step, averaged)
    read = functools.partial(_read_run, folder, added, step, averaged)
    kept = "ema" if averaged and config.train.ema_decay > 0 else "raw"
    return _Found(config, added, base, read, {"model": named, "step": step, "weights": kept})


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


def _with_settings(
    config, folder, mesh, videos, photomaker, face_models, precision, low_memory, settings
) -> c.Experiment:
    """The experiment with what the caller asks for. Raises `ConfigError`."""
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(c.Sampling)})
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: no setting of a sampler")
    named = {"photomaker": photomaker, "face_models": face_models}
    beside = {name: folder / name for name, given in named.items() if given is None and (folder / name).is_dir()}
    chosen = {name: str(given) for name, given in (named | beside).items() if given is not None}
    sampling = dataclasses.replace(config.sampling, **settings)
    config = dataclasses.replace(
        config,
        mesh=mesh or spread(jax.device_count(), sampling.guidance, videos),
        encoders=dataclasses.replace(config.encoders, **chosen),
        sampling=sampling,
        precision=PRECISIONS[precision] if precision else config.precision,
        runtime=dataclasses.replace(config.runtime, stream=low_memory),
    )
    return with_face_models(config.validated())


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


def _read_shipped(base: shipped.Part, adapter: TrainedAdapter, abstract: Params) -> Params:
    """A shipped base, and its own adapter or another."""
    added, rest = split_adapter(abstract)
    return trees.merge(base.read(rest), adapter.read(added))


def _read_run(folder: Path, adapter: TrainedAdapter | None, step: int, ema: bool, abstract: Params) -> Params:
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
