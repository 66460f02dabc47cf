"""A run's adapter as one file to give away, and such a file as a folder: `python -m mmjax.convert adapter`.

The direction follows from the source: a run, or a folder made of a file, becomes a file; a file becomes a folder.
Both hold the same record (`mmjax.weights.adapter_record`) and the same leaves, bit for bit, stacked as in the tree.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmjax import config as c
from mmjax import files, outputs, trees
from mmjax.conversion import plans, safetensors_io, soundness, store
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.plans import Report
from mmjax.conversion.recognise import ADAPTER, MANIFEST, advice
from mmjax.errors import CheckpointError, ConversionError
from mmjax.models.build import abstract_params
from mmjax.trainable import is_trainable, split_adapter
from mmjax.weights import adapters, checksums, parameters, runs
from mmjax.weights import base as bases
from mmjax.weights.adapter_record import UNKNOWN_LICENCE, AdapterRecord, Base, known_licence, without_paths

SUFFIX = ".safetensors"
_ENCODER = {"text": "text encoder", "face": "face encoder"}
Leaves = Mapping[str, store.PromisedLeaf]


def convert_adapter(
    source: str | Path,
    output: str | Path,
    *,
    step: int | str | None = None,
    dtype: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes the adapter of a run, or of a folder made of a file, into one file; or such a file into a folder.

    Args:
      source: a run's workdir, whose averaged weights are taken where it keeps an average; or what this wrote before.
      output: a name that ends in .safetensors for a file, or a folder.
      step: of the run's checkpoint, or "best"; by default the last one.
      dtype: "float32" or "bfloat16" casts; by default the source's dtype, bit for bit.
      licence: text in place of what is known of the base's licence.
      overwrite: replace what mmjax wrote there before.

    Raises:
      CheckpointError: a source that is damaged or something else. ConversionError: a run that trains no adapter, or
        arguments that do not fit the source. OutputError: a file that cannot be written.
    """
    started, source, output = time.monotonic(), Path(source), Path(output)
    target = plans.dtype_of(dtype)
    is_run = _check_source(source, step)
    _check_output(source, output, overwrite)
    record, leaves, notes = of_run(source, step) if is_run else _of_export(source)
    if licence is not None:
        record = dataclasses.replace(record, licence=licence)
    leaves = {path: _cast(leaf, target) for path, leaf in leaves.items()}
    write = _write_folder if source.is_file() else _write_file
    write(output, source, record, leaves, overwrite)
    return _report(output, record, leaves, time.monotonic() - started, notes)


def _check_source(source: Path, step: int | str | None) -> bool:
    """Whether it is a run. Raises for what cannot be one, nor anything that was exported."""
    if not source.exists():
        raise ConversionError(f"{source}: expected the workdir of a run or an exported adapter, found nothing there")
    is_run = source.is_dir() and not (source / MANIFEST).is_file()
    if is_run and not (source / "config.json").is_file():
        known = advice(source)
        raise CheckpointError(
            f"{source}: expected the workdir of a run, found no config.json in it{known and f'; {known}'}"
        )
    if step is not None and not is_run:
        raise ConversionError(
            f"--step {step}: expected a run as the source, found an adapter that holds one step alone"
        )
    return is_run


def _check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Before anything is read: the weights are many, and the name may be wrong."""
    if source.is_dir():
        if output.suffix != SUFFIX:
            raise ConversionError(f"{output}: expected a name that ends in {SUFFIX}, such as {output}{SUFFIX}")
        outputs.check([outputs.Output("--output", output)], overwrite=overwrite)
    if source.is_file():
        plans.not_onto_itself(source, output)
        if output.suffix == SUFFIX:
            raise ConversionError(f"{output}: expected the name of a folder, since the source is a file: {source}")


def of_run(workdir: Path, step: int | str | None) -> tuple[AdapterRecord, Leaves, list[str]]:
    """(where a run's adapter comes from, its leaves, notes). Raises as `convert_adapter`."""
    config = runs.read_config(workdir)
    added, base = split_adapter(abstract_params(config, bases.one_device()))
    trained = [path for path in trees.flatten(added) if is_trainable(config, path)]
    if not trained:
        raise ConversionError(
            f"{workdir}: expected a run that trains an adapter, found train.trainable = {config.train.trainable} and "
            f"model.adapter.enabled = {config.model.adapter.enabled}: nothing of face branch or adapter is trained"
        )
    step = parameters.complete_step(workdir, step)
    params = trees.flatten(parameters.load_part(workdir, added, step))
    more = sum(math.prod(leaf.shape) for path, leaf in trees.flatten(base).items() if is_trainable(config, path))
    record = AdapterRecord(
        config=without_paths(config),
        step=step,
        weights="ema" if config.train.ema_decay > 0 else "raw",
        base=_base(workdir, config, step, more),
        encoders=runs.read_encoders(workdir),
        licence=known_licence(config),
    )
    leaves = {path: store.PromisedLeaf(leaf.shape, leaf.dtype, _on_host(leaf)) for path, leaf in params.items()}
    return record, leaves, _notes(workdir, len(params) - len(trained), more)


def _notes(workdir: Path, frozen: int, more: int) -> list[str]:
    """What the user should know of the choice of leaves."""
    notes = []
    if more:
        notes.append(
            f"{more:,} parameters of the base were trained as well (train.trainable) and are left out: the adapter "
            f"fits the base that {workdir} holds, and no other (--model {workdir})"
        )
    if frozen:
        notes.append(f"{frozen} leaves of the adapter were frozen in this run, and are there as it found them")
    return notes


def _base(workdir: Path, config: c.Experiment, step: int, trained: int) -> Base:
    """By its values in the run, and by its published name and files where the folder of `train.base` has the same."""
    fingerprint, given = bases.of_run(workdir, step), config.train.base
    if trained:
        return Base(fingerprint, f"one that was trained with it, in {workdir.resolve().name}")
    if given in ("", c.RANDOM):
        return Base(fingerprint, "one drawn at random")
    with contextlib.suppress(CheckpointError, OSError):
        if bases.of_folder(given) == fingerprint:
            published = store.read_manifest(Path(given)).get("source", {})
            return Base(fingerprint, published.get("name", Path(given).name), published.get("sha256", {}))
    return Base(fingerprint, Path(given).name)


def _of_export(source: Path) -> tuple[AdapterRecord, Leaves, list[str]]:
    """Of what `convert_adapter` wrote."""
    if source.is_file():
        record, found = adapters.open_file(source, str(source))
        read = lambda path: safetensors_io.read_tensor(found[path])  # noqa: E731
    else:
        record, found = adapters.open_folder(source, str(source))
        read = lambda path: dict(store.read_leaves(source, {path: found[path]}))[path]  # noqa: E731

    def sound(path: str) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            values = read(path)
            if wrong := soundness.fault(values, zeros=False):
                raise CheckpointError(f"{source}: {path}: {wrong}; it is damaged: copy or make it again")
            return values

        return run

    leaves = {path: store.PromisedLeaf(leaf.shape, leaf.dtype, sound(path)) for path, leaf in found.items()}
    return record, leaves, []


def _write_file(output: Path, source: Path, record: AdapterRecord, leaves: Leaves, overwrite: bool) -> None:
    nbytes = sum(leaf.nbytes for leaf in leaves.values())
    planned = [outputs.Output("--output", output, nbytes)]
    metadata = {"checksum": checksums.NO_CHECKSUM, **record.to_strings()}
    shapes = {path: (leaf.shape, np.dtype(leaf.dtype)) for path, leaf in leaves.items()}
    with (
        outputs.claim(planned, [("--source", source)], overwrite) as claim,
        plans.progress(f"writing {ADAPTER}", nbytes) as bar,
        files.written_whole(output, SUFFIX) as partial,
    ):
        for path, tensor in safetensors_io.write_header(partial, shapes, metadata).items():
            safetensors_io.write_tensor(tensor, leaves[path].read())
            bar.update(leaves[path].nbytes)
        checksums.seal(partial, adapters.BEFORE_CHECKSUM)
        claim.recheck()


def _write_folder(output: Path, source: Path, record: AdapterRecord, leaves: Leaves, overwrite: bool) -> None:
    nbytes = sum(leaf.nbytes for leaf in leaves.values())
    with new_folder(output, nbytes, overwrite, ADAPTER) as folder:
        with plans.progress(f"converting {ADAPTER}", nbytes) as bar:
            store.write_params(folder, dict(leaves), bar.update)
        manifest: dict[str, Any] = {
            "component": ADAPTER,
            "metadata": record.to_strings(),
            "source": {"name": source.name, "sha256": plans.sha256([source])},
            "leaves": store.describe(dict(leaves)),
        }
        store.write_manifest(folder, manifest, store.all_files(folder))


def _report(output: Path, record: AdapterRecord, leaves: Leaves, seconds: float, notes: list[str]) -> Report:
    which = {"ema": "averaged weights", "raw": "raw weights, since the run kept no average"}[record.weights]
    encoders = [f"{_ENCODER.get(what, what)}: {line}" for what, line in record.encoders.items()]
    licence = record.licence if record.licence != UNKNOWN_LICENCE else f"{UNKNOWN_LICENCE}; --licence TEXT says it"
    lines = [
        f"{record.config.name}, step {record.step}: the {which}",
        f"base: {record.base.name} ({record.base.fingerprint})",
        *(encoders or ["encoders: unknown, the run does not say"]),
        f"licence: {licence}",
    ]
    return Report(
        output=output,
        parameters=sum(math.prod(leaf.shape) for leaf in leaves.values()),
        nbytes=sum(leaf.nbytes for leaf in leaves.values()),
        dtypes=tuple(sorted({str(leaf.dtype) for leaf in leaves.values()})),
        seconds=seconds,
        notes=(*lines, *notes),
    )


def _on_host(leaf: Any) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(leaf)


def _cast(leaf: store.PromisedLeaf, target: np.dtype | None) -> store.PromisedLeaf:
    if target is None or leaf.dtype == target:
        return leaf
    return store.PromisedLeaf(leaf.shape, target, lambda: leaf.read().astype(target))
