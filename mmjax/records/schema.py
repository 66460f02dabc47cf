"""What a record holds, how it is stored, and what must be true of it.

A record is one training sample with everything that frozen encoders can say beforehand: latents, text and face
features, masks, boxes, landmarks. Shapes follow from the configuration and the source's frame count. A
prepared folder carries, beside its records, a description (`describe`) with the schema version, the shapes and the
encoders' fingerprints; a folder made for something else is refused before a step is taken. NumPy only.
"""

import math
from collections.abc import Collection, Mapping

import numpy as np

from mmjax.config import Experiment
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.interface import reference_side
from mmjax.errors import DataError
from mmjax.models.magicmirror.inputs import BFLOAT16, Field, condition_fields

SCHEMA_VERSION = 3  # raise it when fields, their meaning or the files beside the records change
SPLITS = ("train", "validation")
STRINGS = ("person", "caption", "source")  # fields that stay on the host
LARGEST = 1e4  # of any number in a record; neither features, nor latents, nor coordinates in pixels come near

Record = dict[str, np.ndarray | str]


def record_fields(config: Experiment, frames: int) -> dict[str, Field]:
    """The arrays of a record whose clip has `frames` pixel frames; the strings are `STRINGS`.

    T, H, W, C are the latent frames, height, width and channels; R the reference pictures.
    """
    data, latent = config.data, config.autoencoder.latent_shape(frames, config.data.height, config.data.width)
    side = reference_side(config)
    shapes = {
        "latents": (latent, BFLOAT16),
        "face_mask": (latent[:3], np.float32),
        "boxes": ((frames, 4), np.float32),
        "landmarks": ((frames, 5, 2), np.float32),
        "face_visible": ((frames,), np.bool_),  # frames whose landmarks are valid
        "reference": ((data.references, side, side, 3), np.uint8),
    }
    fields = {name: Field(tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}
    return fields | condition_fields(config.model, data.references)


def record_bytes(fields: dict[str, Field]) -> int:
    """Bytes of the arrays of one record, before they are compressed; the strings come on top."""
    return sum(math.prod(field.shape) * field.dtype.itemsize for field in fields.values())


def stored_dtype(field: Field) -> np.dtype:
    """bfloat16 is stored as the uint16 with the same bits, since ArrayRecord features know no bfloat16."""
    return np.dtype(np.uint16) if field.dtype == BFLOAT16 else field.dtype


def encode_record(record: Record, fields: dict[str, Field], where: str) -> Record:
    """The record as it is stored: bfloat16 as uint16 bits, all else as it is.

    Raises:
      DataError: a field is missing, unknown, of another shape or dtype, or holds NaN or numbers beyond `LARGEST`;
        `where` names the record.
    """
    _check(record, {*fields, *STRINGS}, fields, where)
    return {name: value.view(np.uint16) if _is_bfloat16(value) else value for name, value in record.items()}


def decode_record(stored: Record, fields: dict[str, Field], where: str, strings: Collection[str] = STRINGS) -> Record:
    """A record, or some of its fields, from the stored form, bit for bit. Raises `DataError` as `encode_record` does.

    Args:
      fields, strings: what is wanted, and has to be there; nothing else may.
    """
    record: Record = {}
    for name, value in stored.items():
        field = fields.get(name)
        if name in STRINGS:
            record[name] = value.decode() if isinstance(value, bytes) else str(value)
        elif field is not None and field.dtype == BFLOAT16 and np.asarray(value).dtype == np.uint16:
            record[name] = np.asarray(value).view(BFLOAT16)
        else:
            record[name] = np.asarray(value)
    _check(record, {*fields, *strings}, fields, where)
    return record


def describe(config: Experiment, frames: int, fingerprints: dict[str, str]) -> dict:
    """What a prepared folder says of itself; plain JSON values.

    Args:
      fingerprints: of the encoders, by what they encode ("text", "face", "autoencoder"); see
        `mmjax.encoders.fingerprints`.
    """
    fields = {name: [str(field.dtype), *field.shape] for name, field in record_fields(config, frames).items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "frames": frames,
        "autoencoder": config.autoencoder.name,
        "fields": fields,
        "encoders": dict(fingerprints),
    }


def described_fields(description: Mapping) -> dict[str, Field]:
    """The arrays of the records of a folder, from what it says of itself; the inverse of `describe`."""
    named = {"bfloat16": BFLOAT16}
    return {
        name: Field(tuple(shape), np.dtype(named.get(dtype, dtype)))
        for name, (dtype, *shape) in description["fields"].items()
    }


def check_description(found: dict | None, expected: dict, where: str) -> None:
    """Refuses a prepared folder that does not fit the experiment.

    A fingerprint fits when it has all that is expected of it; all else must be equal.

    Raises:
      DataError: names each thing that differs, expected and found, and what to do.
    """
    if not found or "schema_version" not in found:
        raise DataError(f"{where}: expected records prepared by mmjax, found no schema version in its metadata.json")
    differences = list(_differences(found, expected))
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise DataError(
            f"{where}: the prepared records do not fit this experiment:\n{lines}\n"
            "  prepare them again with these settings, or use the settings they were made with"
        )


def _differences(found: dict, expected: dict, path: str = ""):
    for key, value in expected.items():
        other = found.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from _differences(other, value, f"{path}{key}.")
        elif other != value and not (path == "encoders." and other and agrees(other, value)):
            yield f"{path}{key}: expected {value}, found {'nothing' if other is None else other}"
    for key in found.keys() - expected.keys():
        if path:
            yield f"{path}{key}: expected nothing, found {found[key]}"


def _check(record: Record, known: set[str], fields: dict[str, Field], where: str) -> None:
    if missing := sorted(known - record.keys()):
        raise DataError(f"{where}: expected the fields {', '.join(sorted(known))}, found no {', '.join(missing)}")
    if unknown := sorted(record.keys() - known):
        raise DataError(f"{where}: found the unknown fields {', '.join(unknown)}; prepare the records again")
    for name, field in fields.items():
        value = record[name]
        if value.shape != field.shape or value.dtype != field.dtype:
            raise DataError(
                f"{where}: {name}: expected {field.dtype}{list(field.shape)}, found {value.dtype}{list(value.shape)}; "
                "the record is damaged or was made with other settings; prepare the records again"
            )
        if field.dtype.kind not in "bu" and not (largest := _largest(value)) <= LARGEST:
            found = f"{largest:.3g}" if np.isfinite(largest) else "inf or NaN"
            raise DataError(
                f"{where}: {name}: expected finite numbers, at most {LARGEST:g}, found {found}; the record is damaged "
                "or what encoded it went wrong; prepare the records again"
            )


def _largest(value: np.ndarray) -> float:
    """Of the absolute values; NaN where there is one."""
    if value.dtype == BFLOAT16:  # without the sign, bits are ordered as the numbers are, and NaN is beyond infinity
        return float((value.view(np.uint16) & 0x7FFF).max(initial=0).view(BFLOAT16))
    return float(np.abs(value).max(initial=0))


def _is_bfloat16(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == BFLOAT16
