"""Tables that users write: a CSV with a header, or a JSONL with an object a line, in whatever encoding it was saved.

    for where, row in read_table("people.csv", columns=("path", "person")):
        row["path"]  # text, or None where nothing is written

Columns of a CSV are parted by commas, or by semicolons, tabs or bars, as spreadsheets of other countries have it. The
text is UTF-8, UTF-16 or Windows-1252 (`mmjax.texts`). A table that is wrong in one place is wrong in others: nothing is
guessed.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from mmjax.errors import DataError, error_text
from mmjax.texts import decode_text

ENDINGS = (".csv", ".tsv", ".jsonl")
_SEPARATORS = ",;\t|"

Row = dict[str, str | None]  # a value for each column, None where nothing is written


def read_table(path: str | os.PathLike, columns: Sequence[str], what: str = "manifest") -> list[tuple[str, Row]]:
    """(where it stands, values) of each line; the first of `columns` is the one that each line must have.

    Raises:
      DataError: no such file, another kind, no text, other columns, a line without the first column; with the line's
        number and `what` it is.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _jsonl_rows}
    if path.suffix.lower() not in readers or not os.path.isfile(path):
        found = "another kind of file" if os.path.isfile(path) else "none"
        raise DataError(f"{what} {path}: expected a .csv, .tsv or .jsonl file, found {found}; check the path")
    try:
        text, encoding = decode_text(path.read_bytes())
        if encoding == "cp1252":
            logging.warning("%s %s is not UTF-8: read as Windows-1252", what, path)
        lines = io.StringIO(text, newline="")
        rows = readers[path.suffix.lower()](lines, columns[0], f"{what} {path}")
        return [(where, _row(values, columns, where)) for where, values in rows]
    except OSError as error:
        raise DataError(f"{what} {path}: expected a file to read, found {error_text(error)}") from error
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"{what} {path}: expected UTF-8 text, found what does not read ({error}); save it as UTF-8"
        ) from error


def _csv_rows(file, first: str, name: str) -> Iterator[tuple[str, dict]]:
    head = file.readline()
    before = 1 if head.lower().startswith("sep=") else 0  # Excel's own line
    head = file.readline() if before else head
    file.seek(0)
    for _ in range(before):
        file.readline()
    columns = {separator: [name.strip(' "') for name in head.strip().split(separator)] for separator in _SEPARATORS}
    separator = next((each for each, names in columns.items() if first in names and len(names) > 1), ",")
    reader = csv.DictReader(file, delimiter=separator, restkey="more values than columns", restval=None, strict=True)
    for values in reader:
        yield f"{name}, line {reader.line_num + before}", values


def _jsonl_rows(file, first: str, name: str) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: expected a JSON object, found {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"{where}: expected a JSON object, found {line[:40]!r}")
        yield where, values


def _row(values: dict, columns: Sequence[str], where: str) -> Row:
    if unknown := [key for key in values if key not in columns]:
        known = ", ".join(columns)
        raise DataError(f"{where}: expected the columns {known}, found also {unknown[0]!r}; rename or remove it")
    if wrong := [key for key, value in values.items() if not isinstance(value, str | int | None)]:
        raise DataError(f"{where}: expected text as {wrong[0]}, found {type(values[wrong[0]]).__name__}")
    row = {column: filled(values.get(column)) for column in columns}
    if row[columns[0]] is None or "\0" in row[columns[0]]:
        raise DataError(f"{where}: expected a {columns[0]}, found none; the first line of a CSV names the columns")
    return row


def filled(value) -> str | None:
    """Text without the halves of letters that JSON can hold ("\\ud83d") and no file or record can."""
    return str(value).encode("utf-8", "ignore").decode().strip() or None if value is not None else None
