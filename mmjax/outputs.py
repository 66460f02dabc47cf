"""What a command writes is decided and tried before anything slow, and nothing that stands there is lost by surprise.

    planned = [Output("--output", "clip.mp4", size=3_000_000), Output("the record beside --output", "clip.json")]
    with outputs.claim(planned, inputs=[("--reference", "face.jpg")], overwrite=args.overwrite) as claim:
        ...  # what is slow
        claim.recheck()  # has anybody else written there meanwhile?
        ...  # write with `mmjax.files`

`check` alone does the same without a lock and without a second look; with `folder=True` an output is a folder, of which
only name, parents and room are looked at: what may stand in it is the caller's to say.

One rule for all commands that write single files: a file that stands there already is replaced where mmjax made it
(`is_own`) and `--overwrite` is given; what mmjax did not make is never replaced. Every file that mmjax writes says so:
`MARK` is part of the notice in a video's tags, in a picture's text and in a JSON file, and ends a latents file.
"""

import contextlib
import dataclasses
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmjax import files, locks
from mmjax.errors import OutputError, error_text

MARK = "made with mmjax"  # somewhere in the first `_HEAD` or the last `_TAIL` bytes of what mmjax writes
OVERWRITE_HELP = (
    "replace files of these names that mmjax made before; others are never replaced"  # of every --overwrite
)
_HEAD, _TAIL = 2**20, 2**12

Inputs = Sequence[tuple[str, str | os.PathLike]]  # (name for messages, such as "--reference"; path)


@dataclasses.dataclass(frozen=True)
class Output:
    """Something that a command is going to write.

    name: what messages call it, such as "--output" or "the contact sheet beside --output".
    size: bytes that it may take, 0 where that is not known.
    folder: a folder; what stands in it is not looked at.
    renews: it may replace what mmjax made without `--overwrite`, for it is the same made again.
    """

    name: str
    path: str | os.PathLike
    size: int = 0
    folder: bool = False
    renews: bool = False

    def __str__(self) -> str:
        return f"{self.name} {os.fspath(self.path)}"


class Claim:
    """Outputs that were found free, or replaceable; see `claim`."""

    def __init__(self, outputs: Sequence[Output]):
        self._outputs = outputs
        self._seen = {os.fspath(each.path): _stamp(each.path) for each in outputs if not each.folder}

    def recheck(self, *paths: str | os.PathLike) -> None:
        """Raises `OutputError` where a file stands at one of these outputs, by default any, that was not there before.

        What is written there from now on is not taken for somebody else's.
        """
        wanted = {os.fspath(path) for path in paths} or self._seen.keys()
        for each in self._outputs:
            path = os.fspath(each.path)
            if path in wanted and _stamp(path) not in (None, self._seen[path]):
                raise OutputError(f"{each}: another program wrote it in the meantime; it stays as it is")


def check(outputs: Sequence[Output], inputs: Inputs = (), overwrite: bool = False) -> None:
    """Tries whether all outputs can be written; missing parent folders are made, or none where something is refused.

    Raises:
      OutputError: an output that is an input or another output; a folder or a device of its name; a name that is too
        long; a path below a file; a folder that cannot be written; a file that stands there and may not be replaced;
        too little room. One line that says which and what to do.
    """
    for each in outputs:
        _check_name(each)
    _check_apart(outputs, inputs)
    _check_standing(outputs, overwrite)
    made: list[Path] = []
    try:
        for folder, first in {_home(each): each for each in reversed(outputs)}.items():
            _try_folder(first, folder, made)
        _check_room(outputs)
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody may have put a file there
                folder.rmdir()
        raise


@contextlib.contextmanager
def claim(
    outputs: Sequence[Output], inputs: Inputs = (), overwrite: bool = False, lock: str | os.PathLike | None = None
) -> Iterator[Claim]:
    """`check`, then a lock on one output while the block runs, so that a second command is refused at its start.

    Other outputs are not locked: `Claim.recheck` before writing finds what a command with another lock, or any other
    program, put there.

    Args:
      lock: the path that is locked, by default that of the first output.

    Raises:
      OutputError: as `check` does, and where another process holds the lock.
    """
    check(outputs, inputs, overwrite)
    if not outputs:
        yield Claim(outputs)
        return
    lock = outputs[0].path if lock is None else lock
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.held(files.beside(os.path.realpath(lock), "lock"), temporary=True))
        except locks.Held as other:
            named = f"{outputs[0].name} {os.fspath(lock)}"
            raise OutputError(f"{named}: {other} is writing it now; wait for it, or give another name") from None
        _check_standing(outputs, overwrite)  # who held the lock before may just have finished
        yield Claim(outputs)


def is_own(path: str | os.PathLike) -> bool:
    """Whether mmjax made the file that stands there; False where it cannot be read."""
    try:
        with open(path, "rb") as opened:
            if MARK.encode() in opened.read(_HEAD):
                return True
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - _TAIL))
            return MARK.encode() in opened.read(_TAIL)
    except OSError:
        return False


def _check_name(output: Output) -> None:
    """Whether something can have this name, and nothing of another kind has it."""
    path = Path(output.path)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        above = next(parent for parent in path.parents if os.path.exists(parent))
        raise OutputError(f"{output}: expected folders above it, found the file {above}; give another path") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"{output}: the name is too long ({len(path.name)} letters); give a shorter one"
            ) from error
        raise OutputError(f"{output}: expected a path that can be written, found: {error_text(error)}") from error
    if stat.S_ISLNK(found.st_mode):
        if not os.path.exists(path):
            raise OutputError(f"{output}: found a link to {os.readlink(path)}, which is not there; remove the link")
        found = os.stat(path)
    if output.folder:
        if not stat.S_ISDIR(found.st_mode):
            raise OutputError(f"{output}: expected a folder or nothing, found a file; give another path")
    elif stat.S_ISDIR(found.st_mode):
        raise OutputError(f"{output}: expected the name of a file, found a folder of that name; give another name")
    elif not stat.S_ISREG(found.st_mode):
        raise OutputError(f"{output}: expected the name of a file, found a device or a pipe; give another name")


def _check_apart(outputs: Sequence[Output], inputs: Inputs) -> None:
    """No output is an input or another output, whatever links and dots their paths hold."""
    seen: dict[str, Output] = {}
    for output in outputs:
        real = os.path.realpath(output.path)
        for name, path in inputs:
            if real == os.path.realpath(path) or _same_file(output.path, path):
                raise OutputError(f"{output}: that is {name} {os.fspath(path)}, which would be lost; give another name")
        if real in seen:
            raise OutputError(f"{output}: {seen[real]} would be written to the same file; give another name")
        seen[real] = output


def _check_standing(outputs: Sequence[Output], overwrite: bool) -> None:
    """The one rule for what stands there already; what no flag helps against is told first."""
    standing = [each for each in outputs if not each.folder and os.path.exists(each.path)]
    for each in standing:
        if not is_own(each.path):
            raise OutputError(
                f"{each}: a file stands there that mmjax did not make, and is never replaced; give another name, or "
                "move it away"
            )
    for each in standing:
        if not (overwrite or each.renews):
            raise OutputError(f"{each} stands there already; add --overwrite to replace it, or give another name")


def _home(output: Output) -> Path:
    return Path(output.path) if output.folder else Path(os.path.realpath(output.path)).parent


def _try_folder(output: Output, folder: Path, made: list[Path]) -> None:
    """Makes a folder with those above it, noted in `made`, and writes a file into it that is gone afterwards."""
    trial = folder / f".mmjax-{secrets.token_hex(8)}.partial"
    try:
        for missing in reversed([each for each in (folder, *folder.parents) if not os.path.exists(each)]):
            missing.mkdir(exist_ok=True)
            made.append(missing)
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"{output}: nothing can be written to {folder} ({error_text(error)}); give another folder, or mend its "
            "permissions or its disk"
        ) from error


def _check_room(outputs: Sequence[Output]) -> None:
    """Room for what goes to each disk, as far as sizes are known."""
    disks: dict[int, list[Output]] = {}
    for output in outputs:
        if output.size:
            disks.setdefault(_home(output).stat().st_dev, []).append(output)
    for there in disks.values():
        needed, free = sum(each.size for each in there), shutil.disk_usage(_home(there[0])).free
        if free < needed:
            raise OutputError(
                f"{there[0]}: expected {size_text(needed)} of room for what is going to be written, found "
                f"{size_text(free)} on its disk; make room, or give another folder"
            )


def size_text(count: int) -> str:
    """Bytes for people, such as 12.5 MiB."""
    value, units = float(count), ["KiB", "MiB", "GiB", "TiB"]
    unit = "bytes"
    while value >= 1024 and units:
        value, unit = value / 1024, units.pop(0)
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"


def _same_file(one: str | os.PathLike | int, other: str | os.PathLike | int) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except (OSError, ValueError):
        return False


def _stamp(path: str | os.PathLike) -> tuple[int, int, int] | None:
    """What changes when a file is written: None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
