"""A trained adapter, wherever it lies: in a run's workdir, in an exported file, or in a folder made of one.

    RUN/                   the workdir of a training run
    FILE.safetensors       `python -m mmjax.convert adapter --source RUN --output FILE.safetensors`
    DIR/                   `python -m mmjax.convert adapter --source FILE.safetensors --output DIR`

`open_adapter` says what it is and fits, and reads weights later. A file is compared with its checksum when it is
opened, in 0.18 s of one core a GB (at that rate 1.1 s for the 6.2 of a 5B adapter).
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from mmjax import config as c
from mmjax import trees
from mmjax.conversion import safetensors_io, store
from mmjax.conversion.recognise import ADAPTER, ADAPTER_FORMAT, MANIFEST, is_lora
from mmjax.conversion.soundness import check_params
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.models.build import Params
from mmjax.weights import checksums, parameters, runs
from mmjax.weights.adapter_record import AdapterRecord, Base, check_version

BEFORE_CHECKSUM = b'"checksum":"'  # in the header of a file; an escaped text of the user's cannot hold it


@dataclasses.dataclass(frozen=True)
class TrainedAdapter:
    """An adapter that was found sound, so far as can be said without reading its weights.

    what: how messages call it, such as "--adapter person.safetensors".
    config: the experiment that it was trained in. encoders: that made its records, by their fingerprints.
    base: that it was trained on; None for a workdir, which would have to be read for it.
    step, weights: which of the run's weights these are, "ema" or "raw".
    read: shapes, dtypes and shardings of all leaves of face branch and adapter -> the parameters.
    """

    what: str
    config: c.Experiment
    encoders: Mapping[str, str]
    base: Base | None
    step: int
    weights: str
    read: Callable[[Params], Params]

    def check_base(self, found: Callable[[], str], named: str) -> None:
        """Refuses another base than the adapter's (`CheckpointError`).

        Args:
          found: computes the fingerprint of the base that is to be used, where one is needed.
          named: how messages call that base, such as "--model weights/5b".
        """
        if self.base is not None and (other := found()) != self.base.fingerprint:
            raise CheckpointError(
                f"{self.what} was trained on another base than {named}: expected {self.base.name} "
                f"({self.base.fingerprint}), found {other}; give the base that it was trained on"
            )


def open_adapter(
    path: str | os.PathLike, what: str = "", step: int | str | None = None, weights: str = "ema"
) -> TrainedAdapter:
    """A trained adapter of any of the three kinds.

    Args:
      path: a workdir, an exported file, or a folder made of one.
      what: how messages call it; by default its path.
      step: of the checkpoint, or "best"; by default the last one's. A file or folder holds one alone.
      weights: "ema", the averaged ones where there are any, or "raw".

    Raises:
      CheckpointError: something else lies there, or it is damaged.
      ConfigError: a step or weights that it does not hold.
    """
    path, what = Path(path), what or os.fspath(path)
    if path.is_file():
        opened = _of_file(path, what)
    elif (path / MANIFEST).is_file():
        opened = _of_folder(path, what)
    else:
        return _of_run(path, what, step, weights)
    return checked(opened, step, weights)


def checked(opened: TrainedAdapter, step: int | str | None, weights: str) -> TrainedAdapter:
    """One that was given away, of one step and one kind of weights. Raises `ConfigError` where others are wanted."""
    if step not in (None, opened.step):
        raise ConfigError(
            f"{opened.what}: expected step {step}, found the weights of step {opened.step} alone; leave it out"
        )
    if weights == "raw" != opened.weights:
        raise ConfigError(
            f"{opened.what}: expected raw weights, found the averaged ones alone; leave it out, or take the run"
        )
    return opened


def open_file(path: Path, what: str) -> tuple[AdapterRecord, dict[str, safetensors_io.Tensor]]:
    """(what an exported file says of itself, its tensors by their paths); it is as it was written.

    Raises `CheckpointError` for any other file.
    """
    try:
        tensors, metadata = safetensors_io.read_headers([path]), safetensors_io.read_metadata(path)
    except ConversionError as error:
        raise CheckpointError(f"{what}: {str(error).removeprefix(f'{path}: ')}") from error
    if metadata.get("format") != ADAPTER_FORMAT:
        other = f"other tensors, such as {next(iter(tensors), 'none')}"
        kind = "a LoRA's tensors, which are none" if is_lora(path) else other
        raise CheckpointError(
            f"{what}: expected an adapter that python -m mmjax.convert adapter exported, found {kind}; "
            "give such a file, or the workdir of the training run"
        )
    check_version(metadata, what)
    if not checksums.is_sealed(path, BEFORE_CHECKSUM):
        raise CheckpointError(f"{what}: expected the file as it was exported, found another checksum; copy it again")
    return AdapterRecord.from_strings(metadata, what), tensors


def open_folder(folder: Path, what: str) -> tuple[AdapterRecord, dict[str, jax.ShapeDtypeStruct]]:
    """(what a folder made of an exported file says of itself, its leaves). Raises `CheckpointError` for any other."""
    manifest = store.read_manifest(folder, ADAPTER)
    if manifest["component"] != ADAPTER:
        raise CheckpointError(f"{what}: expected an adapter, found a converted {manifest['component']}")
    try:
        found, leaves = dict(manifest["metadata"]), trees.flatten(store.described_leaves(manifest))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{what}: damaged ({error}); convert it again") from error
    return AdapterRecord.from_strings(found, what), leaves


def _of_file(path: Path, what: str) -> TrainedAdapter:
    record, tensors = open_file(path, what)

    def read(abstract: Params) -> Params:
        trees.check_same(abstract, trees.unflatten(tensors), what)
        leaves = trees.flatten(abstract)
        params = {path: placed(safetensors_io.read_tensor(tensors[path]), leaf) for path, leaf in leaves.items()}
        return _sound(trees.unflatten(params), what)

    return exported(record, what, read)


def _of_folder(folder: Path, what: str) -> TrainedAdapter:
    record, leaves = open_folder(folder, what)

    def read(abstract: Params) -> Params:
        trees.check_same(abstract, trees.unflatten(leaves), what)
        return _sound(store.read_params(folder, abstract), what)

    return exported(record, what, read)


def _of_run(workdir: Path, what: str, step: int | str | None, weights: str) -> TrainedAdapter:
    config = runs.read_config(workdir)
    averaged = weights == "ema" and config.train.ema_decay > 0
    step = parameters.complete_step(workdir, step)
    read = functools.partial(parameters.load_part, workdir, step=step, ema=averaged)
    encoders = runs.read_encoders(workdir)
    return TrainedAdapter(what, config, encoders, None, step, "ema" if averaged else "raw", read)


def exported(record: AdapterRecord, what: str, read: Callable[[Params], Params]) -> TrainedAdapter:
    """One that its record describes."""
    return TrainedAdapter(what, record.config, record.encoders, record.base, record.step, record.weights, read)


def _sound(params: Params, what: str) -> Params:
    check_params(params, what, fresh=True)
    return params


def placed(values: np.ndarray, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """A leaf on the devices that keep it, in its dtype."""
    values = values.astype(leaf.dtype, copy=False)
    return jax.make_array_from_callback(values.shape, leaf.sharding, lambda index: values[index])
