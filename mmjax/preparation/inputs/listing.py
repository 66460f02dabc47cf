"""What a preparation starts from: every photo and video of folders, tars, data sets and manifests, in one order.

    photos/anna/1.jpg        a subfolder that holds several items is a person, "photos/anna"
    photos/anna/1.txt        the caption of 1.jpg; or 1.json with "caption" and "person"
    photos/shard-0003.tar    the same inside: folders in it are people, .txt, .json and .cls lie beside the photos
    list.csv, list.jsonl     path, caption, person, role; then only what is listed is taken

A person named by a folder is a proposal, which the pairs check by embeddings. The name of the input is part of
it, so that "0001" of one input is not "0001" of another.
"""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import logging

from mmjax.errors import DataError
from mmjax.preparation.inputs import tars, tfds_examples
from mmjax.preparation.inputs.generated import join_generated
from mmjax.preparation.inputs.manifests import SIDECARS, read_manifest, read_sidecars
from mmjax.preparation.items import Dropped, Item
from mmjax.preparation.reasons import Rejected

KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp"), "photo"),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".mpg", ".mpeg", ".avi", ".webm", ".gif"), "video"),
    ".tar": "tar",
    **dict.fromkeys(tars.COMPRESSED, "tar"),
}


_Found = tuple[Item, str]  # a file, and what keeps it from being read


def list_items(
    inputs: Sequence[str], manifest: str = "", dataset: str = "", references: Sequence[str] = ()
) -> tuple[list[Item], list[Dropped]]:
    """Items of all inputs, and what is none but should be; both sorted by key, keys unique and the same in every run.

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
    items, dropped = listing.items, listing.dropped
    if references:
        generated = _Listing()
        for path in references:
            _list_root(_existing(path), names, generated)
        generated.check(references)
        theirs = {_place(item) for item in generated.items}  # their folder may lie in an input
        originals = [item for item in items if _place(item) not in theirs]
        items, alone = join_generated(originals, generated.items)
        dropped = dropped + generated.dropped + alone
    return _with_unique_keys(items, dropped, several=names.several)


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

    def check(self, places: Sequence[str]):
        """Says what was no item; raises `DataError` where nothing was one."""
        if ignored := +self.ignored:
            kinds = ", ".join(f"{count} {kind}" for kind, count in ignored.most_common(8))
            logging.info("%d files are neither photos nor videos: %s", ignored.total(), kinds)
        if not self.items and not self.dropped:
            where, kinds = ", ".join(filter(None, places)) or "no input", " ".join(sorted(KINDS))
            raise DataError(
                f"{where}: expected photos or videos ({kinds}), found none; check the path and the files' endings"
            )

    def add_folder(self, collection: str, folder: str, files: dict[str, _Found]):
        """Takes the files of one folder, or of one folder of a tar.

        Args:
          folder: relative to the input; "" is the input itself, which is no person.
          files: by name, each with what keeps it from being read.
        """
        found = []
        for name, (file, problem) in files.items():
            stem, ending = os.path.splitext(name)
            kind = _kind(name)
            if kind not in ("photo", "video"):
                self.ignored[ending.lower() or "without ending"] += ending.lower() not in SIDECARS
            elif problem:
                self.drop(collection, file.key, problem)
            else:
                beside = {end: files[stem + end][0] for end in SIDECARS if stem + end in files}
                try:
                    caption, person = read_sidecars(beside)
                except Rejected as error:
                    self.drop(collection, file.key, error.detail, error.reason)
                    continue
                person = f"{collection}/{person}" if person else None
                found.append(dataclasses.replace(file, kind=kind, caption=caption, person=person))
        if folder and len(found) > 1:
            who = f"{collection}/{_legible(folder)}"
            found = [item if item.person else dataclasses.replace(item, person=who) for item in found]
        self.items += found


def _list_root(root: Path, names: _Names, listing: _Listing):
    if root.is_dir():
        _list_folders(root, names.of(root), listing)
        return
    collection = names.of(root.parent)
    if _kind(root.name) == "tar":
        _list_tar(str(root), root.name, collection, listing)
    elif _kind(root.name):
        listing.add_folder(collection, "", {root.name: (_file(str(root), root.name, collection), ""), **_beside(root)})
    else:
        raise DataError(
            f"{root}: expected a folder, tar, photo or video ({' '.join(sorted(KINDS))}), found another file"
        )


def _beside(root: Path) -> dict[str, _Found]:
    paths = [root.with_suffix(end) for end in SIDECARS]
    return {path.name: (_file(str(path), path.name, ""), "") for path in paths if path.is_file()}


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
            listing.ignored["hidden"] += 1
        elif _is(entry, "is_dir"):
            folders.append(key)
        elif not _is(entry, "is_file"):
            problem = "expected a file, found a pipe, a device, or a link that leads nowhere"
            files[name] = _file(entry.path, key, collection), problem
        elif _kind(name) == "tar":
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
        if _kind(base) == "tar":
            listing.drop(collection, _join(key, name), "a tar in a tar; unpack the outer one")
        elif not base.startswith("."):
            item = dataclasses.replace(
                _file(path, _join(key, name), collection), offset=member.offset, size=member.size
            )
            folders.setdefault(folder, {})[base] = item, member.problem
    for folder, files in folders.items():
        listing.add_folder(collection, folder, files)


def _list_manifest(manifest: str, roots: Sequence[Path], collection: str, listing: _Listing):
    places = [os.path.abspath(os.path.dirname(manifest)), *map(str, roots)]
    for line in read_manifest(manifest):
        options = [(os.path.normpath(os.path.join(place, line.path)), place) for place in places]
        inside = [(path, place) for path, place in options if path.startswith(place.rstrip(os.sep) + os.sep)]
        if not inside:
            listing.drop(collection, line.path, "its path leads out of the manifest's folder and of the inputs")
            continue
        there = [(path, place) for path, place in inside if os.path.isfile(path)]
        kind = _kind(line.path)
        if not there or kind not in ("photo", "video"):
            listing.drop(collection, line.path, "there is no such file" if not there else "neither a photo nor a video")
            continue
        path, place = there[0]
        item = _file(path, os.path.relpath(path, place), collection)
        person = f"{collection}/{line.person}" if line.person else None
        listing.items.append(dataclasses.replace(item, kind=kind, caption=line.caption, person=person, role=line.role))


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


def _kind(name: str) -> str:
    name = name.lower()
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), "")


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
