"""Damage to files, at random places, and to folders of them."""

import os
import random
import shutil
from pathlib import Path


def damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    """The bytes cut off, with bits flipped, overwritten, doubled, or none at all."""
    kind = draw.choice(("cut", "flip", "zeros", "noise", "empty", "doubled", "text", "inserted"))
    at = draw.randrange(len(data) + 1)
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(min(len(data), draw.choice((1, 3, 30)))):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind in ("zeros", "noise"):
        size = draw.choice((1, 16, 4096))
        filling = bytes(size) if kind == "zeros" else draw.randbytes(size)
        return data[:at] + filling + data[at + size :]
    if kind == "inserted":
        return data[:at] + draw.randbytes(7) + data[at:]
    return {"empty": b"", "doubled": data + data, "text": "nothing of the kind, ä\n".encode("latin-1")}[kind]


def damaged_copy(source: Path, target: Path, draw: random.Random) -> Path:
    """A copy of a file or a folder in which one file is damaged, gone, a folder, or may not be read.

    Whole files are linked, not copied: nobody may write into an input.
    """
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(damaged_bytes(source.read_bytes(), draw))
        return target
    shutil.copytree(source, target, copy_function=os.link, symlinks=True)
    found = sorted(path for path in target.rglob("*") if path.is_file())
    victim = draw.choice(found)
    data = victim.read_bytes()
    victim.unlink()
    kind = draw.choice(("damaged", "damaged", "damaged", "gone", "folder", "dangling"))
    if kind == "damaged":
        victim.write_bytes(damaged_bytes(data, draw))
    elif kind == "folder":
        victim.mkdir()
    elif kind == "dangling":
        victim.symlink_to(victim.with_name("nowhere"))
    return target
