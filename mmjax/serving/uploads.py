"""Pictures that people gave, by owner and by the person they show, each looked at before it may be used.

    uploads = Uploads(folder, engine.look, Limits())
    picture = uploads.add(owner, "a", content)
    print(picture.refused or "\\n".join(picture.notes))

What a file is, its content says; its name never comes here. It is kept as it came, under a name of ours, for the
encoders, which see what the command line would; what is shown is drawn anew. Nobody but its owner can name it.
"""

import dataclasses
import io
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mmjax import files, pictures
from mmjax.errors import DataError, MediaError, MMJaxError
from mmjax.outputs import size_text
from mmjax.serving.form import NAMES
from mmjax.serving.limits import Limits
from mmjax.serving.pictures import jpeg

_FRAME = (64, 200, 120)  # colour of the box round a face


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """What the model's reference check says of a picture: sentences, and the face, in the upright picture."""

    notes: Sequence[str] = ()
    upright: UInt8[np.ndarray, "h w 3"] | None = None  # None for models that look for no face
    box: Sequence[float] | None = None  # left, top, right, bottom


@dataclasses.dataclass(frozen=True, eq=False)
class UploadedPicture:
    """A picture that was given. refused: why it cannot serve; "" where it can. shown: a small JPEG.

    size: bytes of the file.
    """

    id: str
    path: Path
    shown: bytes
    notes: Sequence[str]
    refused: str
    given: float
    size: int


class Uploads:
    """The pictures of all owners.

    Args:
      folder: where they are kept.
      look: the reference check, of the pictures of one person. Raises `MMJaxError` for what cannot serve.
    """

    def __init__(
        self,
        folder: Path,
        look: Callable[[Sequence[Path]], list[Look]],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder, self._look, self._limits, self._clock = folder, look, limits, clock
        self._lock = threading.Lock()
        self._pictures: dict[tuple[str, str], list[UploadedPicture]] = {}

    def add(self, owner: str, person: str, content: bytes) -> UploadedPicture:
        """Looks at a picture and keeps it.

        Raises:
          DataError: what is no picture, too large, or one too many; in one line.
        """
        if person not in NAMES:
            raise DataError(f"person: expected one of {', '.join(NAMES)}, found another")
        self._check_room(owner, person, len(content))
        image, there = _opened(content, self._limits), self.of(owner, person)
        others = {number: each.path for number, each in enumerate(there, 1) if not each.refused}
        identifier = secrets.token_urlsafe(16)
        path = self._folder / f"{identifier}.picture"
        files.write_bytes(path, content)
        look, refused, numbers = Look(), "", others | {len(there) + 1: path}
        try:
            look = self._look([path])[0]
            if others:
                self._look(list(numbers.values()))  # whether they show one person
        except MMJaxError as error:
            refused = named(str(error), numbers)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        notes = tuple(named(note, numbers) for note in look.notes)
        picture = UploadedPicture(identifier, path, _shown(image, look), notes, refused, self._clock(), len(content))
        with self._lock:
            there = self._pictures.setdefault((owner, person), [])
            has_room = len(there) < self._limits.pictures  # still: others may have come meanwhile
            if has_room:
                there.append(picture)
        if not has_room:
            path.unlink(missing_ok=True)
            self._check_room(owner, person, 0)
        return picture

    def of(self, owner: str, person: str) -> list[UploadedPicture]:
        """Of one person, in the order in which they were given, refused ones too."""
        with self._lock:
            return list(self._pictures.get((owner, person), ()))

    def usable(self, owner: str, person: str) -> list[UploadedPicture]:
        """Of one person those that may be used."""
        return [each for each in self.of(owner, person) if not each.refused]

    def find(self, owner: str, identifier: str) -> UploadedPicture | None:
        """A picture of this owner; None for others', and for none."""
        found = (each for person in NAMES for each in self.of(owner, person))
        return next((each for each in found if secrets.compare_digest(each.id.encode(), identifier.encode())), None)

    def remove(self, owner: str, identifier: str) -> None:
        """Removes a picture of this owner, if there is such a one."""
        picture = self.find(owner, identifier)
        if picture:
            self._drop(lambda key, each: key[0] == owner and each is picture)

    def expire(self) -> None:
        """Removes what is older than files are kept."""
        oldest = self._clock() - self._limits.keep_seconds
        self._drop(lambda _, each: each.given < oldest)

    def _drop(self, goes: Callable[[tuple[str, str], UploadedPicture], bool]) -> None:
        with self._lock:
            dropped = [each for key, there in self._pictures.items() for each in there if goes(key, each)]
            for key, there in list(self._pictures.items()):
                self._pictures[key] = [each for each in there if each not in dropped]
                if not self._pictures[key]:
                    del self._pictures[key]
        for each in dropped:
            each.path.unlink(missing_ok=True)

    def _check_room(self, owner: str, person: str, size: int) -> None:
        limits, there = self._limits, len(self.of(owner, person))
        if there >= limits.pictures:
            raise DataError(f"pictures: expected at most {limits.pictures} of one person; remove one first")
        with self._lock:
            owners = {each for each, _ in self._pictures}
            kept = sum(each.size for there in self._pictures.values() for each in there)
        if owner not in owners and len(owners) >= limits.owners:
            raise DataError(f"the server keeps pictures of {limits.owners} people already; come back later")
        if kept + size > limits.kept_bytes:
            raise DataError(f"the server has no room for more than {size_text(limits.kept_bytes)}; come back later")


def named(text: str, paths: Mapping[int, Path]) -> str:
    """A message of the reference check with "picture N" in place of our paths, which are nobody's business."""
    for number, path in paths.items():
        text = text.replace(f"reference picture {path}", f"picture {number}")
        text = text.replace(f"reference {path}", f"picture {number}").replace(str(path), f"picture {number}")
    return text


def _opened(content: bytes, limits: Limits) -> Image.Image:
    """The upright picture. Raises `DataError`, in the words of the command line."""
    if len(content) > limits.picture_bytes:
        expected = f"expected at most {size_text(limits.picture_bytes)}"
        raise DataError(f"picture: {expected}, found {size_text(len(content))}; save it smaller")
    try:
        return pictures.open_picture(io.BytesIO(content), limits.picture_pixels)
    except MediaError as error:
        if error.reason == "too_large":
            raise DataError(f"picture: found {error.detail}; save it smaller, 2000 pixels a side are plenty") from None
        if error.reason == "unsupported":
            raise DataError(
                f"picture: expected one that can be read, found {error.detail}; or save it as JPEG"
            ) from None
        raise DataError(
            f"picture: expected a PNG, JPEG, WebP or the like, found {error.detail}; open and save it again with a "
            "picture program"
        ) from None


def _shown(image: Image.Image, look: Look) -> bytes:
    """A small JPEG with the found face drawn."""
    image = image.copy() if look.upright is None else Image.fromarray(look.upright)
    if look.box is not None:
        left, top, right, bottom = map(float, look.box)
        if right > left and bottom > top:
            width = max(2, max(image.size) // 100)
            ImageDraw.Draw(image).rectangle((left, top, right, bottom), outline=_FRAME, width=width)
    return jpeg(np.asarray(image))
