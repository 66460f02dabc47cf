"""A run as a model to give away, and back: `python -m mmjax.convert pretrained`.

    RUN            ->  FOLDER   the run's autoencoder, base and adapter as three files, and a model card, README.md
    FOLDER or NAME ->  TREE     `--reverse`: converted folders, to train on: TREE/vae, TREE/transformer, TREE/adapter
    TREE           ->  FOLDER   the same files again, byte for byte

The files are those of `mmjax.weights.shipped`. A shipped model stands alone: its words and patches need no weights of
their own, and its face models come with a package.
"""

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from mmjax import config as c
from mmjax import conversion, files, outputs, trees
from mmjax.conversion import plans, store
from mmjax.conversion.output_folder import new_folder
from mmjax.conversion.plans import Report
from mmjax.conversion.recognise import ADAPTER, MANIFEST, PRETRAINED
from mmjax.conversion.rounding import RoundingLoss
from mmjax.encoders.fingerprints import COGVIDEOX_VAE, agrees, fingerprint, hash_converted
from mmjax.errors import CheckpointError, ConfigError, ConversionError, error_text
from mmjax.models.build import abstract_params
from mmjax.pretrained.card import CARD, model_card
from mmjax.pretrained.names import find
from mmjax.trainable import split_adapter
from mmjax.validation import validated_record
from mmjax.versions import versions
from mmjax.weights import base as bases
from mmjax.weights import export, parameters, quantised, runs, shipped
from mmjax.weights.adapter_record import Base
from mmjax.weights.quantised import FLOAT16, INT8, Stored
from mmjax.weights.shipped import PARTS, About, Part, ShippedRecord

LARGEST = 40 * 10**6  # bytes of all files together: they are part of a package
_HEADERS = 2**18  # of them for what is not weights
_FOLDERS = {"vae": "vae", "base": "transformer", "adapter": ADAPTER}  # part -> folder and component of a tree
Values = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model before it is packed: values by part and path, and what is known of it but for the hashes."""

    record: ShippedRecord
    values: Mapping[str, Values]
    notes: tuple[str, ...] = ()


def pack(
    source: str | Path,
    output: str | Path,
    *,
    step: int | str | None = None,
    dtype: str | None = None,
    about: str | Path | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Writes a run's whole model, or a tree that `unpack` made, into three files and a model card.

    Args:
      source: a workdir whose adapter was trained on a base and an autoencoder of the run's own kind, or a tree.
      dtype: "int8", "float16", or parts with theirs, "vae=float16,base=int8,adapter=int8"; by default int8, and of a
        tree what its files had.
      about: a JSON file with the fields of `mmjax.weights.shipped.About`; of a run it must be given.

    Raises:
      ConversionError: a run that is no whole small model, weights that are more than `LARGEST`, or arguments that do
        not fit. CheckpointError: a source that is damaged or something else. ConfigError: fields of `about`.
      OutputError: files that cannot be written.
    """
    started, source, output = time.monotonic(), Path(source), Path(output)
    is_tree = (source / MANIFEST).is_file()
    if about is None and not is_tree:
        raise ConversionError(
            "--about: expected a JSON file with what only its makers know of a model (summary, data with its terms, "
            "use, figures, limits, commands), found none; see configs/mini_about.json"
        )
    chosen, changes = _dtypes(dtype), {"about": _read_about(about)} if about is not None else {}
    outputs.check(_planned(output), [("--source", source)], overwrite)
    model = _of_tree(source, step) if is_tree else _of_run(source, step)
    record = dataclasses.replace(model.record, dtypes=dict(model.record.dtypes) | chosen, **changes)
    if licence is not None:
        record = dataclasses.replace(record, origin=dataclasses.replace(record.origin, licence=licence))
    record, leaves = _stored(record, model.values)
    _write(output, source, record, leaves, overwrite)
    return _report(output, record, leaves, time.monotonic() - started, model.notes)


def unpack(source: str | Path, output: str | Path, *, overwrite: bool = False) -> Report:
    """Writes a shipped model, a folder or a name, as converted folders to train on: transformer, vae and adapter.

    Raises `CheckpointError` for what is none, `ConversionError` for an output that is taken.
    """
    started, output = time.monotonic(), Path(output)
    source = find(source)
    parts = shipped.open_model(source)
    plans.not_onto_itself(source, output)
    record, nbytes = parts["vae"].record, sum(leaf.nbytes for part in parts.values() for leaf in part.leaves.values())
    with new_folder(output, 4 * nbytes, overwrite, PRETRAINED) as folder:
        for name, part in parts.items():
            _write_component(folder / _FOLDERS[name], name, part, source)
        manifest = {"component": PRETRAINED, "metadata": record.to_strings(), "parts": list(_FOLDERS.values())}
        store.write_manifest(folder, manifest, [folder / part / store.MANIFEST for part in _FOLDERS.values()])
    leaves = {name: part.leaves for name, part in parts.items()}
    return _report(output, record, leaves, time.monotonic() - started, ())


def _of_run(workdir: Path, step: int | str | None) -> _Model:
    config = runs.read_config(workdir)
    _check_alone(config, workdir)
    weights = hash_converted(Path(config.autoencoder.weights), "vae")
    _check_vae(weights, runs.read_encoders(workdir).get("autoencoder", ""), config.autoencoder.weights)
    origin, added, notes = export.of_run(workdir, step)
    _, base = split_adapter(abstract_params(config, bases.one_device()))
    vae, params = conversion.load_component(config.autoencoder.weights)
    values = {
        "vae": _on_host(params),
        "base": _on_host(parameters.load_part(workdir, base, origin.step)),
        "adapter": {path: leaf.read() for path, leaf in added.items()},
    }
    record = ShippedRecord(origin, vae, weights, dict.fromkeys(PARTS, INT8), {}, {}, About())
    return _Model(record, values, tuple(notes))


def _check_vae(weights: str, trained_with: str, folder: str) -> None:
    """Refuses another autoencoder than the one whose latents the run was trained on, where the run says which."""
    if trained_with and not agrees(trained_with, fingerprint(COGVIDEOX_VAE, weights=weights)):
        raise ConversionError(
            f"{folder}: expected the autoencoder that made the run's records ({trained_with}), found "
            f"weights={weights}; name its folder in the run's config.json, autoencoder.weights"
        )


def _check_alone(config: c.Experiment, workdir: Path) -> None:
    """Refuses a run that is no whole model of its own."""
    needed = {
        "autoencoder.name": (config.autoencoder.name, ("cogvideox",)),
        "encoders.text": (config.encoders.text, ("word_table",)),
        "encoders.face": (config.encoders.face, ("arcface_vae", "arcface")),
    }
    for name, (found, allowed) in needed.items():
        if found not in allowed:
            raise ConversionError(
                f"{workdir}: {name} = {found}: expected {' or '.join(allowed)} of a model that is shipped whole, with "
                "no other weights beside it; an adapter alone is exported by python -m mmjax.convert adapter"
            )


def _of_tree(source: Path, step: int | str | None) -> _Model:
    if step is not None:
        raise ConversionError(f"--step {step}: expected a run as the source, found a model that holds one step alone")
    manifest = store.read_manifest(source, PRETRAINED)
    if manifest["component"] != PRETRAINED:
        raise CheckpointError(f"{source}: expected a {PRETRAINED} model, found a converted {manifest['component']}")
    record = ShippedRecord.from_strings(dict(manifest["metadata"]), str(source))
    return _Model(record, {name: _read_component(source / _FOLDERS[name], name) for name in PARTS})


def _read_component(folder: Path, part: str) -> dict[str, np.ndarray]:
    leaves = trees.flatten(store.described_leaves(store.read_manifest(folder, _FOLDERS[part])))
    return {_prefix(part) + path: values for path, values in store.read_leaves(folder, leaves)}


def _write_component(folder: Path, part: str, opened: Part, source: Path) -> None:
    """One part as the folder that training and sampling know."""
    promised = {}
    for path, leaf in opened.leaves.items():
        promised[path.removeprefix(_prefix(part))] = store.PromisedLeaf(leaf.values.shape, leaf.dtype, leaf.restored)
    folder.mkdir()
    store.write_params(folder, promised, lambda nbytes: None)
    file = source / shipped.file_name(part)
    manifest = {"component": _FOLDERS[part], "source": {"name": source.name, "sha256": plans.sha256([file])}}
    if part == "adapter":
        manifest["metadata"] = opened.record.origin.to_strings()
    else:
        sizes = opened.record.vae if part == "vae" else opened.record.origin.config.model.transformer
        manifest |= {"config": dataclasses.asdict(sizes), "versions": versions()}
    store.write_manifest(folder, manifest | {"leaves": store.describe(promised)}, store.all_files(folder))


def _prefix(part: str) -> str:
    """Before the paths of a converted transformer, which is alone in its folder."""
    return "transformer/" if part == "base" else ""


def _stored(record: ShippedRecord, values: Mapping[str, Values]) -> tuple[ShippedRecord, dict[str, dict[str, Stored]]]:
    """The leaves in the record's dtypes, and the record with what follows from them. Raises `ConversionError`."""
    leaves = {
        part: {path: quantised.stored(path, each, record.dtypes[part]) for path, each in sorted(values[part].items())}
        for part in PARTS
    }
    nbytes = sum(leaf.nbytes for part in leaves.values() for leaf in part.values())
    if nbytes > LARGEST - _HEADERS:
        raise ConversionError(
            f"the model's files: expected at most {LARGEST / 1e6:.0f} MB together, found {nbytes / 1e6:.1f} MB of "
            f"weights in {', '.join(f'{part}={kept}' for part, kept in record.dtypes.items())}; take --dtype {INT8}, "
            "or a smaller model"
        )
    contents = {part: shipped.contents_hash(leaves[part]) for part in PARTS}
    if contents == record.contents:
        return record, leaves
    base = bases.of_values((path, leaf.restored()) for path, leaf in leaves["base"].items())
    origin = dataclasses.replace(record.origin, base=Base(base, record.origin.base.name))
    rounding = {part: round(_loss(values[part], leaves[part]).relative_rms, 6) for part in PARTS}
    return dataclasses.replace(record, origin=origin, contents=contents, rounding=rounding), leaves


def _loss(values: Values, leaves: Mapping[str, Stored]) -> RoundingLoss:
    return sum((quantised.loss(values[path], leaf) for path, leaf in leaves.items()), RoundingLoss())


def _write(
    output: Path, source: Path, record: ShippedRecord, leaves: Mapping[str, Mapping[str, Stored]], overwrite: bool
) -> None:
    with outputs.claim(_planned(output), [("--source", source)], overwrite) as claim:
        claim.recheck()
        for part in PARTS:
            shipped.write_part(output / shipped.file_name(part), part, record, leaves[part])
        sizes = {part: (output / shipped.file_name(part)).stat().st_size for part in PARTS}
        counts = {part: shipped.parameters_in(leaves[part]) for part in PARTS}
        files.write_text(output / CARD, model_card(output.name, record, counts, sizes))


def _planned(output: Path) -> list[outputs.Output]:
    named = [outputs.Output("--output", output / shipped.file_name(part), LARGEST // len(PARTS)) for part in PARTS]
    return [*named, outputs.Output("the model card", output / CARD)]


def _dtypes(asked: str | None) -> dict[str, str]:
    """The dtypes of the parts that are named, or of all. Raises `ConversionError` for others than there are."""
    if asked is None:
        return {}
    parted = [each.partition("=") for each in asked.split(",")] if "=" in asked else []
    chosen = {part: kept for part, _, kept in parted} or dict.fromkeys(PARTS, asked)
    if set(chosen) - set(PARTS) or set(chosen.values()) - {INT8, FLOAT16}:
        raise ConversionError(
            f"--dtype {asked}: expected {INT8} or {FLOAT16}, or some of them by part, such as "
            f"vae={FLOAT16},base={INT8},adapter={INT8}"
        )
    return chosen


def _read_about(path: str | Path) -> About:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        found = error_text(error) if isinstance(error, OSError) else error
        raise ConversionError(f"--about {path}: expected a JSON file, found: {found}") from error
    try:
        return validated_record(About, values)
    except ConfigError as error:
        raise ConversionError(f"--about {path}: {error}") from error


def _report(
    output: Path, record: ShippedRecord, leaves: Mapping[str, Mapping[str, Stored]], seconds: float, notes: tuple
) -> Report:
    lines = [f"{record.origin.config.name}, step {record.origin.step}; base {record.origin.base.fingerprint}"]
    for part in PARTS:
        nbytes = sum(leaf.nbytes for leaf in leaves[part].values()) / 1e6
        lines.append(
            f"{part}: {shipped.parameters_in(leaves[part]):,} parameters, {nbytes:.2f} MB of {record.dtypes[part]}, "
            f"off by {record.rounding[part]:.2%} (rms over rms)"
        )
    every = [leaf for part in leaves.values() for leaf in part.values()]
    return Report(
        output=output,
        parameters=sum(leaf.values.size for leaf in every),
        nbytes=sum(leaf.nbytes for leaf in every),
        dtypes=tuple(sorted({str(leaf.values.dtype) for leaf in every})),
        seconds=seconds,
        notes=(*lines, *notes),
    )


def _on_host(params: trees.Tree) -> dict[str, np.ndarray]:
    return {path: np.asarray(jax.device_get(leaf)) for path, leaf in trees.flatten(params).items()}
