"""Members of tars, such as WebDataset's shards, listed without unpacking: where each stands, to be read from there.

Nothing is ever written to disk, so a member's name is only ever a name; one that leads out of the archive is refused
all the same, as whoever made it meant no good.
"""

import dataclasses
import io
import os
import tarfile
from collections.abc import Iterator

MAX_HEADER = 1 << 20  # bytes of a member's extended header: long names and the like
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


@dataclasses.dataclass(frozen=True)
class Member:
    """A file in a tar: the `size` bytes from `offset` on. `problem` says why it is not to be read."""

    name: str
    offset: int = 0
    size: int = 0
    problem: str = ""


def list_members(path: str | os.PathLike) -> Iterator[Member]:
    """Every member but folders, in the archive's order. What is wrong with the whole archive is a member without name.

    An archive that is cut off or damaged gives the members before that place.
    """
    try:
        with _Headers(path) as file:
            head = file.read(6)
            file.seek(0)
            found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
            if found:
                yield Member("", problem=f"expected a tar that is not compressed, found {found}; unpack it to a .tar")
                return
            size = os.fstat(file.fileno()).st_size
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # it remembers them all
                    if not info.isdir():
                        yield _member(info, size)
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes what is no header for the end
                    raise tarfile.ReadError(f"no header at byte {tar.offset}")
    except Exception as error:  # tarfile trusts its input and raises whatever comes to hand
        reason = str(error).partition("\n")[0] or type(error).__name__
        yield Member("", problem=f"the tar is damaged or cut off ({reason}); members before that place are used")


def _member(info: tarfile.TarInfo, archive_size: int) -> Member:
    name, problem = info.name, ""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts:
        problem = "its name leads out of the archive"
    elif info.issym() or info.islnk():
        problem = f"a link (to {info.linkname[:100]!r})"
    elif not info.isreg() or info.issparse():
        problem = "no plain file"
    elif info.size < 0 or info.offset_data + info.size > archive_size:
        problem = f"cut off: {info.size} bytes by its header, more than the archive has left"
    return Member(name, info.offset_data, info.size, problem)


class _Headers(io.FileIO):
    """A file for tarfile, which asks for headers alone, in one piece, however large they say that they are."""

    def read(self, size=-1):
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)
