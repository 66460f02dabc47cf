"""A whole model to give away: autoencoder, base and adapter, each one safetensors file that knows the other two.

    FOLDER/vae.safetensors       encoder/..., decoder/...
    FOLDER/base.safetensors      transformer/...
    FOLDER/adapter.safetensors   face_encoder/..., transformer/blocks/adapter/...

Leaves have the paths of the tree (METHOD 7) and are kept as `mmjax.weights.quantised` says; the scales of `PATH` are
`PATH.scale`. All three say the same of the model in their `__metadata__` (`ShippedRecord`), among it a hash of what
each of them holds, so that another model's file is told from the model's own; a checksum tells damage. Written by
`python -m mmjax.convert pretrained` (`mmjax.pretrained.packing`), read by samplers and, of the autoencoder, by
encoders.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax import files, trees
from mmjax.conversion import safetensors_io
from mmjax.conversion.soundness import check_params
from mmjax.conversion.vae import COMPONENT as VAE
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.models.build import Params
from mmjax.validation import validated_record
from mmjax.weights import adapters, checksums
from mmjax.weights.adapter_record import AdapterRecord, check_version
from mmjax.weights.quantised import Stored

FORMAT = "mmjax pretrained"
PARTS = ("vae", "base", "adapter")
_SCALE = ".scale"
_KIND = "a part of a shipped model"


@dataclasses.dataclass(frozen=True)
class About:
    """What only its makers can say of a model; each entry is a sentence or a line.

    data: what it was trained on, with its terms. figures: what was measured, with the commands. limits: what it cannot
    do. commands: that made it.
    """

    summary: str = ""
    data: tuple[str, ...] = ()
    use: str = ""
    figures: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ShippedRecord:
    """What each file says of the whole model.

    origin: the run of the adapter and the base; its `base` is that of the shipped values.
    vae: the autoencoder's sizes. vae_weights: hash of the weights that the training's records were made with
      (`mmjax.encoders.fingerprints.hash_converted`).
    dtypes: of each part, "int8" or "float16". rounding: what that lost, the error's root mean square over the weights'.
    contents: SHA-256 of what each part holds.
    """

    origin: AdapterRecord
    vae: Any
    vae_weights: str
    dtypes: Mapping[str, str]
    rounding: Mapping[str, float]
    contents: Mapping[str, str]
    about: About

    def to_strings(self) -> dict[str, str]:
        """The metadata, but for what belongs to a file; `from_strings` is the inverse."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[1:]}
        values |= {name: dataclasses.asdict(values[name]) for name in ("vae", "about")}
        return self.origin.to_strings() | {"format": FORMAT, "shipped": json.dumps(values)}

    @classmethod
    def from_strings(cls, found: Mapping[str, str], where: str) -> "ShippedRecord":
        """Raises `CheckpointError` that names `where` they stood, for what is none, damaged or of a newer version."""
        check_version(found, where, _KIND)
        origin = AdapterRecord.from_strings(found, where)
        try:
            values = json.loads(found["shipped"])
            values |= {"vae": validated_record(VAE.record, values["vae"])}
            values |= {"about": validated_record(About, values["about"])}
            return cls(origin, **values)
        except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{where}: expected the metadata of {_KIND}, found others ({error})") from error


@dataclasses.dataclass(frozen=True)
class Part:
    """A file that was found whole: its leaves by their paths, and what it says of its model."""

    what: str
    record: ShippedRecord
    leaves: Mapping[str, Stored]

    def read(self, abstract: Params) -> Params:
        """The parameters, with the dtypes and shardings of `abstract`, which names all of them.

        Raises `TreeError` for a tree of another model, `CheckpointError` for what cannot be weights.
        """
        trees.check_same(
            abstract, trees.unflatten({path: leaf.values for path, leaf in self.leaves.items()}), self.what
        )
        wanted = trees.flatten(abstract)
        params = {path: adapters.placed(self.leaves[path].restored(), leaf) for path, leaf in wanted.items()}
        params = trees.unflatten(params)
        check_params(params, self.what, fresh=True)
        return params

    def restored(self, sharding: jax.sharding.Sharding) -> Params:
        """The same in the dtypes in which leaves are restored, all on one device."""
        return self.read(
            trees.unflatten(
                {
                    path: jax.ShapeDtypeStruct(leaf.values.shape, leaf.dtype, sharding=sharding)
                    for path, leaf in self.leaves.items()
                }
            )
        )


def is_shipped(folder: Path) -> bool:
    """Whether a folder holds a shipped model, or what is left of one."""
    return sum((folder / file_name(part)).is_file() for part in PARTS) >= 2


def file_name(part: str) -> str:
    return f"{part}.safetensors"


def open_model(folder: Path) -> dict[str, Part]:
    """The parts of a model, by name. Raises `CheckpointError` where one is missing, damaged or of another model."""
    parts = {part: open_part(folder / file_name(part), part) for part in PARTS}
    contents = {part: tuple(sorted(opened.record.contents.items())) for part, opened in parts.items()}
    if len(set(contents.values())) > 1:
        odd = min(PARTS, key=lambda part: list(contents.values()).count(contents[part]))
        others = ", ".join(file_name(part) for part in PARTS if part != odd)
        raise CheckpointError(
            f"{folder / file_name(odd)}: expected a file of the same model as {others}, found another model's; copy "
            "all three from one place"
        )
    return parts


def open_part(path: Path, part: str) -> Part:
    """One file, `part` of a model; it is as it was written. Raises `CheckpointError` for any other file."""
    try:
        tensors, metadata = safetensors_io.read_headers([path], quantised=True), safetensors_io.read_metadata(path)
    except ConversionError as error:
        raise CheckpointError(str(error)) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected the {part} of a model that python -m mmjax.convert pretrained wrote, found other tensors"
        )
    check_version(metadata, str(path), _KIND)
    if not checksums.is_sealed(path, adapters.BEFORE_CHECKSUM):
        raise CheckpointError(f"{path}: expected the file as it was written, found another checksum; copy it again")
    if metadata.get("part") != part:
        raise CheckpointError(
            f"{path}: expected the {part} of a shipped model, found its {metadata.get('part')}; give each file its name"
        )
    values = {key: safetensors_io.read_tensor(tensor) for key, tensor in tensors.items()}
    paths = [key for key in values if not key.endswith(_SCALE)]
    leaves = {key: Stored(values[key], values.get(key + _SCALE)) for key in paths}
    return Part(str(path), ShippedRecord.from_strings(metadata, str(path)), leaves)


def contents_hash(leaves: Mapping[str, Stored]) -> str:
    """SHA-256 of a part's tensors: key, dtype, shape and bytes of each, in the order of the keys."""
    digest = hashlib.sha256()
    for key, values in sorted(_tensors(leaves).items()):
        digest.update(f"{key} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_part(path: Path, part: str, record: ShippedRecord, leaves: Mapping[str, Stored]) -> None:
    """Writes one file, whole or not at all."""
    values = _tensors(leaves)
    metadata = {"checksum": checksums.NO_CHECKSUM, "part": part, **record.to_strings()}
    shapes = {key: (each.shape, each.dtype) for key, each in values.items()}
    with files.written_whole(path, ".safetensors") as partial:
        for key, tensor in safetensors_io.write_header(partial, shapes, metadata).items():
            safetensors_io.write_tensor(tensor, values[key])
        checksums.seal(partial, adapters.BEFORE_CHECKSUM)


def parameters_in(leaves: Mapping[str, Stored]) -> int:
    return sum(math.prod(leaf.values.shape) for leaf in leaves.values())


def _tensors(leaves: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """What the file holds, by its keys."""
    scales = {path + _SCALE: leaf.scales for path, leaf in leaves.items() if leaf.scales is not None}
    return {path: leaf.values for path, leaf in leaves.items()} | scales
