"""Captions and people of items: manifests that list them, and the sidecar files that lie beside them."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Container, Iterator
from pathlib import Path

from absl import logging

from mmjax.errors import DataError, error_text
from mmjax.preparation.inputs.opening import read_bytes
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.texts import decode_text

COLUMNS = ("path", "caption", "person", "role")
ROLES = ("sample", "reference", "both")
TEXTS = (".txt", ".caption", ".json", ".cls")  # endings of files that may say something of the one beside them
_NAMES = {  # what they are called beside a.jpg, whose stem is "a"; the first that is there is read
    "caption": ("{stem}.txt", "{name}.txt", "{stem}.caption", "{name}.caption"),
    "json": ("{stem}.json", "{name}.json"),
    "person": ("{stem}.cls",),
}
_SEPARATORS = ",;\t|"
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

    A CSV's columns are parted by commas, or by semicolons, tabs or bars, as spreadsheets of other countries have it.
    The text is UTF-8, UTF-16 or Windows-1252 (`mmjax.texts`).

    Raises:
      DataError: no such file, another kind, no text, other columns, a line without path or with an unknown role; with
        the line's number. A list that is wrong in one place is wrong in others: nothing is guessed.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers or not os.path.isfile(path):
        found = "another kind of file" if os.path.isfile(path) else "none"
        raise DataError(f"manifest {path}: expected a .csv, .tsv or .jsonl file, found {found}; check the path")
    try:
        text, encoding = decode_text(path.read_bytes())
        if encoding == "cp1252":
            logging.warning("manifest %s is not UTF-8: read as Windows-1252", path)
        lines = io.StringIO(text, newline="")
        rows = readers[path.suffix.lower()](lines, path)
        return [_line(values, f"manifest {path}, line {number}") for number, values in rows]
    except OSError as error:
        raise DataError(f"manifest {path}: expected a file to read, found {error_text(error)}") from error
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"manifest {path}: expected UTF-8 text, found what does not read ({error}); save it as UTF-8"
        ) from error


def sidecars_of(name: str, names: Container[str]) -> tuple[dict[str, str], list[str]]:
    """Which of the files `names` beside a photo or video belong to it.

    Returns:
      those that are read, by what they hold ("caption", "json", "person"), and those that are not, as another one is.
    """
    stem, used, spare = os.path.splitext(name)[0], {}, []
    for role, patterns in _NAMES.items():
        wanted = [pattern.format(name=name, stem=stem) for pattern in patterns]
        there = [each for each in _either_case(wanted) if each in names]
        if there:
            used[role] = there[0]
            spare += there[1:]
    return used, spare


def _either_case(names):
    for name in names:
        stem, ending = os.path.splitext(name)
        yield name
        yield stem + ending.upper()


def read_sidecars(files: dict[str, Item]) -> tuple[str | None, str | None]:
    """Caption and person that an item's sidecar files hold.

    Args:
      files: by what `sidecars_of` says that they hold, each as an item to read. A JSON file may hold "caption" and
        "person"; WebDataset's class (.cls) is taken for the person.

    Raises:
      Rejected: "no_caption": a file that cannot be what it should be. To go on without it would be to guess.
    """
    values = _object(files["json"]) if "json" in files else {}
    caption = _sidecar_text(files["caption"]) if "caption" in files else values.get("caption")
    person = values.get("person")
    if person is None and "person" in files:
        person = _sidecar_text(files["person"])
    for key, value, kinds in (("caption", caption, str), ("person", person, str | int)):
        if value is not None and not isinstance(value, kinds):
            raise Rejected("no_caption", f'its JSON file: expected text as "{key}", found {type(value).__name__}')
    return _filled(caption), _filled(person)


def _csv_rows(file, path) -> Iterator[tuple[int, dict]]:
    head = file.readline()
    before = 1 if head.lower().startswith("sep=") else 0  # Excel's own line
    head = file.readline() if before else head
    file.seek(0)
    for _ in range(before):
        file.readline()
    columns = {separator: [name.strip(' "') for name in head.strip().split(separator)] for separator in _SEPARATORS}
    separator = next((each for each, names in columns.items() if "path" in names and len(names) > 1), ",")
    reader = csv.DictReader(file, delimiter=separator, restkey="more values than columns", restval=None, strict=True)
    for values in reader:
        yield reader.line_num + before, values


def _jsonl_rows(file, path) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"manifest {path}, line {number}: expected a JSON object, found {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"manifest {path}, line {number}: expected a JSON object, found {line[:40]!r}")
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
        text, _ = decode_text(data)
    except ValueError as error:
        raise Rejected(
            "no_caption", f"its {kind} file is no text that can be read: {error}; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise Rejected("no_caption", f"its {kind} file is binary")
    return text
