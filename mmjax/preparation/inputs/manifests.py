"""Captions and people of items: manifests that list them, and the sidecar files that lie beside them."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmjax.errors import DataError
from mmjax.preparation.inputs.opening import read_bytes
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected

COLUMNS = ("path", "caption", "person", "role")
ROLES = ("sample", "reference", "both")
SIDECARS = (".txt", ".json", ".cls")
MAX_SIDECAR = 1 << 20  # bytes; img2dataset's largest have a tenth of it


@dataclasses.dataclass(frozen=True)
class ManifestLine:
    """One line of a manifest; `path` is as written."""

    path: str
    caption: str | None
    person: str | None
    role: str


def read_manifest(path: str | os.PathLike) -> list[ManifestLine]:
    """The lines of a CSV with a header, or of a JSONL with an object a line; columns `COLUMNS`, only `path` is a must.

    Raises:
      DataError: no such file, another kind, not UTF-8, other columns, a line without path or with an unknown role; with
        the line's number. A list that is wrong in one place is wrong in others: nothing is guessed.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers or not path.is_file():
        found = "another kind of file" if path.is_file() else "none"
        raise DataError(f"manifest {path}: expected a .csv or .jsonl file, found {found}; check the path")
    lines = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, values in readers[path.suffix.lower()](file):
                lines.append(_line(values, f"manifest {path}, line {number}"))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"manifest {path}: expected UTF-8 text, found one that does not read ({error})") from error
    return lines


def read_sidecars(files: dict[str, Item]) -> tuple[str | None, str | None]:
    """Caption and person that an item's sidecar files hold.

    Args:
      files: by ending, ".txt", ".json" or ".cls" (WebDataset's class, taken for the person); each as an item to read.

    Raises:
      Rejected: "no_caption": a file that cannot be what it should be. To go on without it would be to guess.
    """
    values = _object(files[".json"]) if ".json" in files else {}
    caption = _sidecar_text(files[".txt"]) if ".txt" in files else values.get("caption")
    person = values.get("person")
    if person is None and ".cls" in files:
        person = _sidecar_text(files[".cls"])
    for key, value, kinds in (("caption", caption, str), ("person", person, str | int)):
        if value is not None and not isinstance(value, kinds):
            raise Rejected("no_caption", f'its JSON file: expected text as "{key}", found {type(value).__name__}')
    return _filled(caption), _filled(person)


def _csv_rows(file) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(file, restkey="more values than columns", restval=None, strict=True)
    for values in reader:
        yield reader.line_num, values


def _jsonl_rows(file) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"manifest {file.name}, line {number}: expected a JSON object, found {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"manifest {file.name}, line {number}: expected a JSON object, found {line[:40]!r}")
        yield number, values


def _line(values: dict, where: str) -> ManifestLine:
    if unknown := [key for key in values if key not in COLUMNS]:
        known = ", ".join(COLUMNS)
        raise DataError(f"{where}: expected the columns {known}, found also {unknown[0]!r}; rename or remove it")
    if wrong := [key for key, value in values.items() if not isinstance(value, str | int | None)]:
        raise DataError(f"{where}: expected text as {wrong[0]}, found {type(values[wrong[0]]).__name__}")
    path, role = _filled(values.get("path")), _filled(values.get("role")) or "both"
    if path is None or "\0" in path:
        raise DataError(f"{where}: expected a path, found none; the first line of a CSV names the columns")
    if role not in ROLES:
        raise DataError(f"{where}: expected a role of {', '.join(ROLES)}, found {role!r}")
    return ManifestLine(path, _filled(values.get("caption")), _filled(values.get("person")), role)


def _filled(value) -> str | None:
    """Text without the halves of letters that JSON can hold ("\\ud83d") and no file or record can."""
    return str(value).encode("utf-8", "ignore").decode().strip() or None if value is not None else None


def _object(item: Item) -> dict:
    try:
        found = json.load(io.StringIO(_sidecar_text(item)))
    except (ValueError, RecursionError) as error:
        raise Rejected("no_caption", f"its JSON file does not read ({str(error)[:100]})") from error
    if not isinstance(found, dict):
        raise Rejected("no_caption", f"its JSON file: expected an object, found {type(found).__name__}")
    return found


def _sidecar_text(item: Item) -> str:
    kind = os.path.splitext(item.key)[1]
    try:
        data = read_bytes(item, MAX_SIDECAR)
    except Rejected as error:
        raise Rejected("no_caption", f"its {kind} file does not read: {error.detail}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected("no_caption", f"its {kind} file is not UTF-8 text") from error
    if "\0" in text:
        raise Rejected("no_caption", f"its {kind} file is binary")
    return text
