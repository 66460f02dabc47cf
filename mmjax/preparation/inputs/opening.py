"""The bytes of an item as a file: a whole one, a member of a tar, or an example of a data set; nothing is decoded.

Everything wrong with one comes out as `Rejected`. This runs in worker processes and imports no JAX.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator

from mmjax.errors import MediaError, error_text
from mmjax.preparation.inputs import tfds_examples
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected


def read_bytes(item: Item, limit: int) -> bytes:
    """The item's bytes as they are stored. Raises `Rejected` where they cannot be read, or are more than `limit`."""
    with open_item(item) as file, rejecting_errors():
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Rejected("too_large", f"expected at most {limit} bytes, found more")
    return data


@contextlib.contextmanager
def open_item(item: Item) -> Iterator[io.BufferedReader | io.BytesIO]:
    """A seekable file of the item's bytes alone, also where they are a member of a tar or an example of a data set.

    Raises:
      Rejected: "unreadable": no such file, no permission, or not a file at all (a pipe would be waited for).
    """
    if item.dataset:
        yield io.BytesIO(tfds_examples.read_example(item.path, item.dataset, item.offset))
        return
    with rejecting_errors():
        descriptor = os.open(item.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as raw:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Rejected("unreadable", "expected a file, found a pipe, device or folder of that name")
        size = found.st_size if item.size is None else item.size
        if item.offset + size > found.st_size:
            raise Rejected("unreadable", "its archive is shorter than when it was listed")
        yield io.BufferedReader(_Part(raw, item.offset, size), 1 << 16)


@contextlib.contextmanager
def rejecting_errors():
    """What the libraries raise of a damaged file, as `Rejected`."""
    try:
        yield
    except Rejected:
        raise
    except MediaError as error:
        raise Rejected(error.reason, error.detail, error.value) from error
    except MemoryError:
        raise Rejected("too_large", "it does not fit into the memory that a worker may use") from None
    except Exception as error:  # whatever comes to hand: a damaged file may lead anywhere in a library
        raise Rejected("unreadable", f"it does not decode ({error_text(error)})") from error


class _Part(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, raw: io.FileIO, offset: int, size: int):
        self._raw, self._offset, self._size, self._at = raw, offset, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a place before the start of the file")
        self._at = base + offset
        return self._at

    def tell(self):
        return self._at

    def readinto(self, buffer):
        self._raw.seek(self._offset + self._at)
        count = max(0, min(len(buffer), self._size - self._at))
        read = self._raw.readinto(memoryview(buffer)[:count]) if count else 0
        self._at += read
        return read
