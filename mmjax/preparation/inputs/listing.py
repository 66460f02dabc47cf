"""What a preparation starts from: every photo and video of folders, tars, data sets and manifests, in one order.

    photos/anna/1.jpg        a subfolder that holds several items is a person, "photos/anna"
    photos/anna/1.txt        the caption of 1.jpg; or 1.caption, 1.jpg.txt, 1.json with "caption" and "person"
    photos/shard-0003.tar    the same inside: folders in it are people, .txt, .json and .cls lie beside the photos
    list.csv, list.jsonl     path, caption, person, role; then only what is listed is taken

A person named by a folder is a proposal, which the pairs check by embeddings. The name of the input is part of
it, so that "0001" of one input is not "0001" of another.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from mmjax.errors import DataError
from mmjax.preparation.inputs import tars, tfds_examples
from mmjax.preparation.inputs.generated import join_generated
from mmjax.preparation.inputs.kinds import HEIC, HIDDEN, KINDS, OTHER, Ignored, counted, kind_of, why_not
from mmjax.preparation.inputs.manifests import TEXTS, read_manifest, read_sidecars, sidecars_of
from mmjax.preparation.items import Dropped, Item
from mmjax.preparation.reasons import Rejected

UNUSED = "text that belongs to no photo or video of its name"
SPARE = "a second text beside a photo or video, of which the first is read"
WORDLESS = 'JSON without "caption" or "person"'

_Found = tuple[Item, str]  # a file, and what keeps it from being read
_MANY = 6  # kinds of files that a message names


class Listed(NamedTuple):
    """All that was found: items, what is none but should be, and what was passed over."""

    items: list[Item]
    dropped: list[Dropped]
    ignored: list[Ignored]


def list_items(inputs: Sequence[str], manifest: str = "", dataset: str = "", references: Sequence[str] = ()) -> Listed:
    """Items of all inputs and what is none, sorted by key; keys are unique and the same in every run.

    Keys are paths relative to the input, with its name in front where there are several inputs.

    Args:
      inputs: folders, tars, photos or videos. With a manifest they are only where its paths may lead.
      manifest: see `manifests.read_manifest`; its paths are relative to its own folder or to an input.
      dataset: see `tfds_examples.list_examples`.
      references: folders of generated pictures of people, see `generated.join_generated`.

    Raises:
      DataError: an input is missing, the manifest or data set cannot be read, or there is nothing at all.
    """
    names, listing = _Names(), _Listing()
    roots = [_existing(path) for path in inputs]
    if manifest:
        _list_manifest(manifest, roots, names.of(os.path.splitext(manifest)[0]), listing)
    else:
        for root in roots:
            _list_root(root, names, listing)
    if dataset:
        listing.items += tfds_examples.list_examples(dataset, names.of(dataset, tfds_examples.short_name(dataset)))
    listing.check([*inputs, manifest, dataset])
    items, dropped, ignored = listing.items, listing.dropped, listing.ignored
    if references:
        generated = _Listing()
        for path in references:
            _list_root(_existing(path), names, generated)
        generated.check(references)
        theirs = {_place(item) for item in generated.items}  # their folder may lie in an input
        originals = [item for item in items if _place(item) not in theirs]
        items, alone = join_generated(originals, generated.items)
        dropped, ignored = dropped + generated.dropped + alone, ignored + generated.ignored
    return Listed(*_with_unique_keys(items, dropped, several=names.several), counted(ignored))


def _with_unique_keys(items, dropped, several):
    """Keys of all inputs together; what is listed twice is dropped."""
    kept, lost, places, keys = [], [], set(), set()
    for item in items:
        place = _place(item)
        key = _unique(f"{item.collection}/{item.key}" if several else item.key, keys)
        if place in places:
            lost.append(Dropped(key, "duplicate", "the same file is listed twice"))
        else:
            kept.append(dataclasses.replace(item, key=key))
        places.add(place)
    for collection, drop in dropped:
        key = _unique(f"{collection}/{drop.key}" if several else drop.key, keys)
        lost.append(dataclasses.replace(drop, key=key))
    return sorted(kept, key=lambda item: item.key), sorted(lost, key=lambda drop: drop.key)


class _Names:
    """A name for each input: its folder's, with a number behind it where two are alike."""

    def __init__(self):
        self._names: dict[str, str] = {}

    def of(self, path: str | os.PathLike, name: str = "") -> str:
        place = os.path.abspath(path)
        if place not in self._names:
            self._names[place] = _unique(
                _legible(name or os.path.basename(place) or "input"), set(self._names.values())
            )
        return self._names[place]

    @property
    def several(self) -> bool:
        return len(self._names) > 1


class _Listing:
    """What was found so far. Keys are relative to the input, whose name stands beside what was dropped."""

    def __init__(self):
        self.items: list[Item] = []
        self.dropped: list[tuple[str, Dropped]] = []
        self.ignored: Counter = Counter()

    def drop(self, collection: str, key: str, detail: str, reason: str = "unreadable"):
        self.dropped.append((collection, Dropped(_legible(key), reason, detail)))

    def ignore(self, ending: str, reason: str):
        self.ignored[ending, reason] += 1

    def check(self, places: Sequence[str]):
        """Says what was no item; raises `DataError` where nothing was one."""
        ignored = counted(self.ignored)
        for each in ignored[:_MANY]:
            logging.info("not taken: %s", each)
        if not self.items and not self.dropped:
            where, kinds = ", ".join(filter(None, places)) or "no input", " ".join(sorted({*KINDS, *HEIC}))
            instead = f" but {'; '.join(map(str, ignored[:_MANY]))}" if ignored else ""
            raise DataError(
                f"{where}: expected photos or videos ({kinds}), found none{instead}; check the path and the files' "
                "endings"
            )

    def add_folder(self, collection: str, folder: str, files: dict[str, _Found]):
        """Takes the files of one folder, or of one folder of a tar.

        Args:
          folder: relative to the input; "" is the input itself, which is no person.
          files: by name, each with what keeps it from being read.
        """
        found, read, unread = [], set(), {name: UNUSED for name in files if _ending(name) in TEXTS}
        for name, (file, problem) in files.items():
            kind = kind_of(name)
            if kind not in ("photo", "video"):
                if name not in unread:
                    self.ignore(_ending(name) or "without ending", why_not(_ending(name)))
                continue
            used, spare = sidecars_of(name, files)
            read |= set(used.values())
            unread |= dict.fromkeys(spare, SPARE)
            if problem:
                self.drop(collection, file.key, problem)
            elif said := self._said(file, {role: files[each][0] for role, each in used.items()}):
                caption, person = said
                if said == (None, None) and used.keys() == {"json"}:
                    read.remove(used["json"])
                    unread[used["json"]] = WORDLESS
                person = f"{collection}/{person}" if person else None
                found.append(dataclasses.replace(file, kind=kind, caption=caption, person=person))
        for name in unread.keys() - read:
            self.ignore(_ending(name), unread[name])
        if folder and len(found) > 1:
            who = f"{collection}/{_legible(folder)}"
            found = [item if item.person else dataclasses.replace(item, person=who) for item in found]
        self.items += found

    def _said(self, file: Item, beside: dict[str, Item]) -> tuple[str | None, str | None] | None:
        """Caption and person by the files beside it; None where these cannot be read, for which it is dropped."""
        try:
            return read_sidecars(beside)
        except Rejected as error:
            self.drop(file.collection, file.key, error.detail, error.reason)
            return None


def _ending(name: str) -> str:
    return _legible(os.path.splitext(name)[1].lower())


def _list_root(root: Path, names: _Names, listing: _Listing):
    if root.is_dir():
        _list_folders(root, names.of(root), listing)
        return
    collection = names.of(root.parent)
    if kind_of(root.name) == "tar":
        _list_tar(str(root), root.name, collection, listing)
    elif kind_of(root.name):
        listing.add_folder(collection, "", {root.name: (_file(str(root), root.name, collection), ""), **_beside(root)})
    else:
        why = why_not(_ending(root.name))
        found = "another file" if why == OTHER else f"another file ({why})"
        raise DataError(f"{root}: expected a folder, tar, photo or video ({' '.join(sorted(KINDS))}), found {found}")


def _beside(root: Path) -> dict[str, _Found]:
    """The texts that belong to a file which is given by itself."""
    used, _ = sidecars_of(root.name, _Folder(root.parent))
    return {name: (_file(str(root.parent / name), name, ""), "") for name in used.values()}


class _Folder:
    """The names of the files in a folder, which may be many."""

    def __init__(self, path: Path):
        self._path = path

    def __contains__(self, name: str) -> bool:
        return os.path.isfile(self._path / name)


def _list_folders(root: Path, collection: str, listing: _Listing):
    """A folder and all below it. Links are followed, but no folder is read twice: links may go in circles."""
    open_, seen = [""], set()
    while open_:
        folder = open_.pop()
        path = os.path.join(root, folder)
        try:
            found = os.stat(path)
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            listing.drop(collection, folder or ".", f"the folder cannot be read ({error.strerror})")
            continue
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        files, folders = _sort_entries(entries, folder, collection, listing)
        listing.add_folder(collection, folder, files)
        open_ += reversed(folders)


def _sort_entries(entries: Iterable[os.DirEntry], folder: str, collection: str, listing: _Listing):
    """Files and folders of one folder; the tars in it are listed at once."""
    files, folders = {}, []
    for entry in entries:
        name, key = entry.name, _join(folder, entry.name)
        if name.startswith(".") or name == "__MACOSX":
            listing.ignore(_ending(name) or "without ending", HIDDEN)
        elif _is(entry, "is_dir"):
            folders.append(key)
        elif not _is(entry, "is_file"):
            problem = "expected a file, found a pipe, a device, or a link that leads nowhere"
            files[name] = _file(entry.path, key, collection), problem
        elif kind_of(name) == "tar":
            _list_tar(entry.path, key, collection, listing)
        else:
            files[name] = _file(entry.path, key, collection), ""
    return files, folders


def _list_tar(path: str, key: str, collection: str, listing: _Listing):
    """Members of a tar; folders inside are people of the whole input, as shards divide them."""
    folders: dict[str, dict[str, _Found]] = {}
    for member in tars.list_members(path):
        if not member.name:
            listing.drop(collection, key, member.problem)
            continue
        name = member.name.removeprefix("./")
        folder, base = os.path.split(name)
        if kind_of(base) == "tar":
            listing.drop(collection, _join(key, name), "a tar in a tar; unpack the outer one")
        elif base.startswith("."):
            listing.ignore(_ending(base) or "without ending", HIDDEN)
        else:
            item = dataclasses.replace(
                _file(path, _join(key, name), collection), offset=member.offset, size=member.size
            )
            folders.setdefault(folder, {})[base] = item, member.problem
    for folder, files in folders.items():
        listing.add_folder(collection, folder, files)


def _list_manifest(manifest: str, roots: Sequence[Path], collection: str, listing: _Listing):
    places = [os.path.abspath(os.path.dirname(manifest)), *map(str, roots)]
    for line in read_manifest(manifest):
        options = [(path, place) for place in places for path in _paths(line.path, place)]
        there = [(path, place) for path, place in options if _is_inside(path, place) and os.path.isfile(path)]
        kind = kind_of(line.path)
        if not there or kind not in ("photo", "video"):
            listing.drop(collection, line.path, _why_not_listed(line.path, places, bool(there)))
            continue
        path, place = there[0]
        item = _file(path, os.path.relpath(path, place), collection)
        person = f"{collection}/{line.person}" if line.person else None
        listing.items.append(dataclasses.replace(item, kind=kind, caption=line.caption, person=person, role=line.role))


def _paths(written: str, place: str) -> list[str]:
    """Where a path of a manifest may lead: as it is written, and with backslashes as Windows has them."""
    return [
        os.path.normpath(os.path.join(place, each)) for each in dict.fromkeys((written, written.replace("\\", "/")))
    ]


def _is_inside(path: str, place: str) -> bool:
    return path.startswith(place.rstrip(os.sep) + os.sep)


def _why_not_listed(written: str, places: Sequence[str], there: bool) -> str:
    if re.match(r"[A-Za-z]:[\\/]|\\\\", written):
        return "a path of a Windows machine; write it relative to the manifest, such as anna/1.jpg"
    if not any(_is_inside(_paths(written, place)[-1], place) for place in places):
        return "its path leads out of the manifest's folder and of the inputs"
    if not there:
        return "there is no such file"
    why = why_not(_ending(written))
    return "neither a photo nor a video" if why == OTHER else f"neither a photo nor a video that is read: {why}"


def listing_digest(items: Sequence[Item]) -> str:
    """A short hash of what was listed: names, sizes, captions and people."""
    digest = hashlib.sha256()
    for item in items:
        row = [item.key, item.kind, item.collection, _size(item), item.dataset, item.caption, item.person, item.role]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


def _size(item: Item) -> int | None:
    if item.size is not None or item.dataset:
        return item.size
    try:
        return os.stat(item.path).st_size
    except OSError:
        return None


def _place(item: Item) -> tuple[str, int, str]:
    return item.path, item.offset, item.dataset


def _existing(path: str) -> Path:
    if not os.path.exists(path):
        raise DataError(f"{path}: expected a folder, tar, photo or video, found nothing; check the path")
    return Path(os.path.abspath(path))


def _file(path: str, key: str, collection: str) -> Item:
    return Item(_legible(key), "photo", path, collection)


def _is(entry: os.DirEntry, what: str) -> bool:
    try:
        return getattr(entry, what)()
    except OSError:  # a link to itself
        return False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _legible(name: str) -> str:
    """A name for logs and records: what is no text, or would move the cursor, is written as an escape."""
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def _unique(name: str, taken: set[str]) -> str:
    """The name, or "name~2" and so on where it is taken; taken from now on."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}~{number}"
    taken.add(found)
    return found
