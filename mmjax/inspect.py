"""Says what a file knows of itself: whether a model made it, and with which settings, seed, weights and versions.

    python -m mmjax.inspect clip.mp4 sheet.png clip.json kept.latents.npy mine.safetensors runs/mine
    python -m mmjax.inspect --json clip.mp4

What is shown was written by whoever made the file. Metadata are easily changed: they tell what was meant, and prove
nothing. A signed C2PA manifest proves that the file is as it was signed. A file that mmjax did not make is told as what
it is, with nothing known of it; it is taken for what its content says, not for its name.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmjax import callable_command, cli, credentials, pictures, provenance, video
from mmjax.errors import DataError, MediaError, MMJaxError, error_text, exits_cleanly
from mmjax.outputs import MARK, is_own

NOTHING = "it does not say that mmjax or a model made it"

_HEAD = 64  # bytes that tell a kind of file
_SHOWN = 300  # letters of a value on the console
_LARGEST = 2**26  # bytes of a JSON file that are read
_DEEPEST = 16  # groups in one another; mmjax writes five
_RECORD = (
    "notice",
    "hash",
    "warnings",
    "versions",
    "device",
    "timings",
    "likeness",
)  # of a record, what are no settings
_OURS = ("c2pa", "hash", "settings", "versions")  # names of what is told, which a foreign text cannot take
_MIMES = {"mp4 video": "video/mp4"}  # of what may hold a manifest
_MIMES |= {f"{name} picture": f"image/{name.lower()}" for name in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF")}
_KINDS = {"mov": "mp4", "matroska": "Matroska or WebM"}  # libav's names of containers begin so


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file says of itself.

    kind: what it is, such as "mp4 video". content: of what, such as its size in pixels.
    notice: that a model or mmjax made it, in the file's own words; None where it says nothing of the kind.
    settings: of a generated video, as far as they are known and can be some (`provenance.checked_settings`).
    hash: of all settings, by which videos are told apart. versions: of the packages that made it.
    more: whatever else it says. c2pa: its signed manifest and whether that holds (`credentials.read_credentials`).
    """

    path: str
    kind: str
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    notice: str | None = None
    settings: dict[str, Any] | None = None
    hash: str | None = None
    versions: dict[str, str] | None = None
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    c2pa: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, without what the file does not say."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, {})}

    def __str__(self) -> str:
        content = ", ".join(f"{name} {value}" for name, value in self.content.items())
        lines = [f"{_shown(self.path)}: {self.kind}" + (f" ({_shown(content)})" if content else "")]
        said = {name: getattr(self, name) for name in (*_OURS, "more")}
        told = [(name, value) for name, value in _flat(said) if value not in (None, "", [], {})]
        if self.notice or not self.c2pa:
            lines.append(f"  {_shown(self.notice or NOTHING)}")
        width = max((len(name) for name, _ in told), default=0)
        return "\n".join([*lines, *(f"  {_shown(name):{width}}  {_shown(value)}" for name, value in told)])


def inspect(path: str | os.PathLike) -> Found:
    """What a file or folder says of itself, by its content.

    Takes mp4 and other videos, PNG and other pictures, records and other JSON, latents, safetensors, the workdir of a
    run, converted weights and shipped models; of another file it says that it is one.

    Raises:
      DataError: a path where nothing is, or that cannot be read; a file that is cut off or damaged.
      CheckpointError: damaged weights.
    """
    where = os.fspath(path)
    try:
        if os.path.isdir(where):
            return _folder(where)
        if os.path.exists(where) and not os.path.isfile(where):  # which may never end
            raise DataError(f"{where}: expected a file or folder, found a device or a pipe")
        with open(where, "rb") as opened:
            head = opened.read(_HEAD)
        found = _reader(where, head)(where)
    except OSError as error:
        raise DataError(f"{where}: expected a file or folder that can be read, found: {error_text(error)}") from error
    except MediaError as error:
        raise DataError(f"{where}: expected a whole file, found {error}") from error
    if mime := _MIMES.get(found.kind):
        found = dataclasses.replace(found, c2pa=credentials.read_credentials(where, mime))
    if not all(_is_shallow(each) for each in (found.settings, found.more)):
        raise DataError(f"{where}: expected what mmjax writes, found values nested {_DEEPEST} deep or deeper")
    return found


def settings_of(path: str | os.PathLike) -> dict[str, Any] | None:
    """The settings of the video in a file that `mmjax.sample` wrote: mp4, sheet, record or latents; None without any.

    They are prompt, negative_prompt, seed, size {frames, height, width}, fps, sampling (as `config.Sampling`), source
    {model, adapter, step, weights} and more, each where the file has it, and with numbers that a video can have. Files
    of a video are passed on without paths: "model" is then the last name of the path, and references are hashes. A film
    has "shots", each with prompt, negative_prompt and seed, in place of its own.

    Raises:
      DataError, CheckpointError: as `inspect` does.
    """
    return inspect(path).settings


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Tells what files know of themselves. Broken ones end in one line and status 2, behind the others."""
    style = argparse.RawDescriptionHelpFormatter
    parser = cli.Parser(prog="python -m mmjax.inspect", description=__doc__, formatter_class=style)
    parser.add_argument("files", nargs="+", type=cli.path, metavar="FILE", help="files or folders")
    parser.add_argument("--json", action="store_true", help="a JSON list with an object for each")
    args = parser.parse_args(argv)
    found, wrong = [], []
    for path in args.files:
        try:
            found.append(inspect(path))
        except MMJaxError as error:
            wrong.append(str(error))
    if args.json:
        print(json.dumps([each.as_json() for each in found], indent=2))
    elif found:
        print("\n\n".join(map(str, found)))
    if wrong:
        raise DataError("; ".join(wrong))


def _reader(path: str, head: bytes) -> Callable[[str], Found]:
    if head.startswith(b"\x93NUMPY"):
        return _latents
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LARGEST:
        return _safetensors
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return _json
    with open(path, "rb") as opened:
        if pictures.format_of(opened):
            return _picture
        opened.seek(0)
        if head[4:8] == b"ftyp" or video.format_of(opened):
            return _video
    return lambda where: Found(where, "a file of another kind", {"bytes": os.path.getsize(where)})


def _video(path: str) -> Found:
    with open(path, "rb") as opened, video.open_video(opened) as clip:
        tags, content, is_cut = clip.tags, clip.summary, clip.is_cut
    if is_cut:
        raise DataError(f"{path}: expected a whole file, found one that is cut off: its index names more")
    container = content.pop("container")
    kind = next((name for begin, name in _KINDS.items() if container.startswith(begin)), container)
    names = ("comment", "settings", "prompt", "seed", "title", provenance.TAG)
    notice, digest, prompt, seed, _, record = (tags.get(name) for name in names)
    if not (notice and MARK in notice):
        return Found(path, f"{kind} video", content, more=tags)
    own, known = provenance.read_record(record), {}
    if prompt:  # what a video had in its tags before it had its settings
        known = (
            {"prompt": prompt, "seed": int(seed)}
            if seed and seed.isdecimal() and len(seed) <= 20
            else {"prompt": prompt}
        )
        known |= {
            "size": {name: content.get(name) for name in ("frames", "height", "width")},
            "fps": content.get("fps"),
        }
    more = {name: text for name, text in tags.items() if name not in names}
    settings = provenance.checked_settings(own.get("settings")) or provenance.checked_settings(known)
    return Found(path, f"{kind} video", content, notice, settings, digest, _texts(own.get("versions")), more)


def _picture(path: str) -> Found:
    with open(path, "rb") as opened:
        picture = pictures.open_picture(opened)  # whole to its last pixel
        kind, says = f"{pictures.format_of(opened)} picture", pictures.texts_of(opened)
    content, notice = {"width": picture.width, "height": picture.height}, says.get("Comment")
    if not (notice and MARK in notice):
        return Found(path, kind, content, more=says)
    own = provenance.read_record(says.get(provenance.TAG))
    digest = own.get("hash") if isinstance(own.get("hash"), str) else None
    more = {name: text for name, text in says.items() if name not in ("Comment", provenance.TAG)}
    settings = provenance.checked_settings(own.get("settings"))
    return Found(path, kind, content, notice, settings, digest, _texts(own.get("versions")), more)


def _json(path: str) -> Found:
    with open(path, "rb") as opened:
        content = opened.read(_LARGEST)
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if not is_own(path):  # other texts begin with a bracket as well
            return Found(path, "a file of another kind", {"bytes": len(content)})
        raise DataError(f"{path}: expected a whole JSON file, found damage ({error_text(error)})") from error
    notice = values.get("notice") if isinstance(values, dict) else None
    if not (isinstance(notice, str) and MARK in notice):
        return Found(path, "JSON file", {"bytes": len(content)})
    settings = {name: value for name, value in values.items() if name not in _RECORD}
    is_record = {"prompt", "shots"} & settings.keys() and "size" in settings
    if not is_record:
        return Found(path, "JSON file", {"bytes": len(content)}, notice, versions=_texts(values.get("versions")))
    kind, digest, more = (
        "record of a video",
        str(values.get("hash", "")),
        {name: values[name] for name in _RECORD[2:] if name in values},
    )
    versions = _texts(more.pop("versions", None))
    if isinstance(shots := settings.get("shots"), list):
        kind, settings["shots"] = "record of a film", [provenance.without_figures(shot) for shot in shots]
    if digest != provenance.hash_of(settings):
        more["note"] = "the settings were changed since: they do not give the hash"
    known = provenance.checked_settings(settings)
    return Found(path, kind, {}, notice, known, digest, versions, more)


def _latents(path: str) -> Found:
    import numpy as np

    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy lets through what its parts raise on damaged files
        raise DataError(f"{path}: expected a whole .npy file, found damage ({error_text(error)})") from error
    content = {"shape": "x".join(map(str, values.shape)), "dtype": str(values.dtype)}
    if not is_own(path):
        return Found(path, "NumPy array", content)
    from mmjax.sampling.products import settings_behind  # which brings JAX

    settings = settings_behind(path)
    if settings is None:
        raise DataError(f"{path}: expected the settings behind the latents, found damage; the latents may still decode")
    known, digest = provenance.checked_settings(settings), provenance.hash_of(settings)
    return Found(path, "latents of a video", content, MARK, known, digest)


def _safetensors(path: str) -> Found:
    from mmjax.conversion.recognise import ADAPTER_FORMAT
    from mmjax.conversion.safetensors_io import read_headers, read_metadata
    from mmjax.weights import adapters, shipped

    tensors, says = read_headers([Path(path)], quantised=True), read_metadata(Path(path))
    content = {"tensors": len(tensors), "bytes": os.path.getsize(path)}
    kind, notice = "safetensors file", says.pop("notice", None)
    if not (notice and MARK in notice):
        return Found(path, kind, content, more=says)
    if says.get("format") == ADAPTER_FORMAT:
        adapters.open_file(Path(path), path)  # its checksum
        kind = "exported adapter"
    elif says.get("format") == shipped.FORMAT:
        shipped.open_part(Path(path), says.get("part", ""))
        kind = f"shipped model's {says.get('part')}"
    more = {name: _parsed(text) for name, text in says.items()}
    return Found(path, kind, content, notice, versions=_texts(more.pop("versions", None)), more=more)


def _folder(path: str) -> Found:
    from mmjax.conversion import store
    from mmjax.weights import parameters, runs, shipped

    folder = Path(path)
    if shipped.is_shipped(folder):
        found = _safetensors(str(folder / shipped.file_name("adapter")))
        return dataclasses.replace(found, path=path, kind="shipped model", content={})
    if runs.is_workdir(folder):
        experiment = runs.read_experiment(folder)
        more = {"experiment": experiment.name, "last checkpoint": parameters.last_step(folder)}
        return Found(path, "workdir of a training run", {}, f"{MARK}.train", more=more)
    if (folder / store.MANIFEST).is_file():
        manifest = store.read_manifest(folder)
        says = {name: value for name, value in manifest.items() if name not in ("leaves", "files")}
        return Found(path, "converted weights", {"files": len(manifest["files"])}, f"{MARK}.convert", more=says)
    return Found(path, "a folder of another kind")


def _parsed(text: str) -> Any:
    """A text of a header, which may be JSON."""
    try:
        return json.loads(text) if text[:1] in ("{", "[") else text
    except (ValueError, RecursionError):
        return text


def _texts(found: Any) -> dict[str, str] | None:
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else None


def _is_shallow(value: Any, left: int = _DEEPEST) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_is_shallow(each, left - 1) for each in inner)


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Values by dotted names, groups opened; settings and what else is said stand without their group's name."""
    flat = []
    for name, value in values.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            value = {str(number): each for number, each in enumerate(value, 1)}
        if isinstance(value, dict):
            inner = _flat(value, f"{before}{name}.")
            if not before and name in ("settings", "more"):
                short = [(each.removeprefix(f"{name}."), found) for each, found in inner]
                inner = [
                    (f"{name}.{each}" if each.partition(".")[0] in _OURS else each, found) for each, found in short
                ]
            flat += inner
        else:
            flat.append((f"{before}{name}", value))
    return flat


def _shown(value: Any) -> str:
    """A foreign text as a console may have it: on one line, without its commands, and no longer than a few lines."""
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


callable_command(__name__)

if __name__ == "__main__":
    main()
