"""Generated pictures of people, such as PhotoMaker makes, joined to the photos that they were made of."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from mmjax.preparation.items import Dropped, Item

_SEPARATORS = re.compile(r"[^0-9A-Za-z]")


def join_generated(items: Sequence[Item], generated: Sequence[Item]) -> tuple[list[Item], list[tuple[str, Dropped]]]:
    """All items, the generated ones with the role "reference" and the person of their original.

    A picture belongs to the original in whose place it lies and with whose name its own begins: to `anna/1.jpg` belong
    `anna/1.png`, `anna/1_0.png`, `anna/1-gen.webp` and `anna/1/0.png`, but not `anna/10.png`. Where several names fit
    it is the longest, where several originals bear it the first by key. An original without a person becomes one.

    Args:
      items: originals; keys relative to their input.
      generated: keys relative to the folder of references.

    Returns:
      the items, and (collection, Dropped "no_reference") for each generated picture that has no original.
    """
    places: dict[str, int] = {}
    items = list(items)
    for index in sorted(range(len(items)), key=lambda index: (items[index].key, items[index].collection), reverse=True):
        places[_stem(items[index].key)] = index
    joined, lost = [], []
    for picture in generated:
        index = next((places[name] for name in _beginnings(_stem(picture.key)) if name in places), None)
        if index is None:
            detail = "no original has a name that its own begins with; see --references"
            lost.append((picture.collection, Dropped(picture.key, "no_reference", detail)))
            continue
        original = items[index]
        if original.person is None:
            original = dataclasses.replace(original, person=f"{original.collection}/{original.key}")
            items[index] = original
        joined.append(dataclasses.replace(picture, role="reference", person=original.person))
    return items + joined, lost


def _stem(key: str) -> str:
    folder, slash, name = key.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _beginnings(stem: str) -> Iterator[str]:
    """Names that an original may have, longest first: the whole, then cut at each sign that is no letter or digit."""
    yield stem
    start = stem.rpartition("/")[0].rfind("/") + 1  # its own name, or that of the folder that it is in
    for match in reversed(list(_SEPARATORS.finditer(stem, start))):
        yield stem[: match.start()]
