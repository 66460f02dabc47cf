"""Captions and people of items: manifests that list them, and the sidecar files that lie beside them."""

import dataclasses
import io
import json
import os
from collections.abc import Container

from mmjax.errors import DataError
from mmjax.preparation.inputs.opening import read_bytes
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.texts import decode_text
from mmjax.user_tables import Row, filled, read_table

COLUMNS = ("path", "caption", "person", "role")
ROLES = ("sample", "reference", "both")
TEXTS = (".txt", ".caption", ".json", ".cls")  # endings of files that may say something of the one beside them
_NAMES = {  # what they are called beside a.jpg, whose stem is "a"; the first that is there is read
    "caption": ("{stem}.txt", "{name}.txt", "{stem}.caption", "{name}.caption"),
    "json": ("{stem}.json", "{name}.json"),
    "person": ("{stem}.cls",),
}
MAX_SIDECAR = 1 << 20  # bytes; img2dataset's largest have a tenth of it


@dataclasses.dataclass(frozen=True)
class ManifestLine:
    """One line of a manifest; `path` is as written."""

    path: str
    caption: str | None
    person: str | None
    role: str


def read_manifest(path: str | os.PathLike) -> list[ManifestLine]:
    """The lines of a CSV or JSONL (`mmjax.user_tables`) with the columns `COLUMNS`, of which only `path` is a must.

    Raises `DataError` as `read_table` does, and for an unknown role.
    """
    return [_line(row, where) for where, row in read_table(path, COLUMNS)]


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
    return filled(caption), filled(person)


def _line(row: Row, where: str) -> ManifestLine:
    role = row["role"] or "both"
    if role not in ROLES:
        raise DataError(f"{where}: expected a role of {', '.join(ROLES)}, found {role!r}")
    return ManifestLine(row["path"], row["caption"], row["person"], role)


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
