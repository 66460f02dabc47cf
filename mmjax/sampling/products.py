"""What sampling leaves on disk: a video, its contact sheet and its record, side by side, and latents in between.

    OUT.mp4           has its settings in its tags, without their paths (`mmjax.provenance`), and their hash
    OUT.png           the references beside frames; the same settings in its text
    OUT.json          settings, versions, seconds; written last
    OUT.latents.npy   while the video is decoded and written, and afterwards where that failed

A latents file holds the settings too, behind the array, where numpy does not look: what is decoded from it later is
what the run would have written. By the hash a batch that is started again knows which of its videos are finished.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

from mmjax import credentials, files, media, outputs, provenance
from mmjax.credentials import Signer
from mmjax.errors import error_text
from mmjax.outputs import Output
from mmjax.sampling.size import Size, frame_cells
from mmjax.sampling.text_to_video import Clip, Request, Sampler
from mmjax.versions import versions

RAW = 1.5  # bytes a pixel of yuv420 video; H.264 at our quality took 1.37 of them for noise
_CELL = 168  # pixels that a picture on the sheet is high, its label included
_TRAILER = b"\nrecord "
_NAME_BYTES = 200  # of a latents file's name before its ending


@dataclasses.dataclass(frozen=True)
class PlannedVideo:
    """One video to be made: where it goes and the settings that it depends on, as plain JSON values.

    signer: puts a manifest into video and sheet; None for none.
    """

    path: Path
    settings: dict
    signer: Signer | None = None

    @property
    def size(self) -> Size:
        return tuple(self.settings["size"][name] for name in ("frames", "height", "width"))

    @property
    def sheet(self) -> Path:
        return self.path.with_suffix(".png")

    @property
    def record(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def hash(self) -> str:
        """Of the settings: the same for the same video."""
        return provenance.hash_of(self.settings)

    def is_finished(self) -> bool:
        """Whether the whole video stands there with its sheet and its record, made with these settings.

        And signed, where it is to be: a batch that goes on with a signer leaves no video unsigned.
        """
        there = self._is_recorded() and self.sheet.is_file() and self._is_made()
        return there and (self.signer is None or all(map(credentials.is_signed, (self.path, self.sheet))))

    def outputs(self) -> list[Output]:
        """What is going to be written, with the bytes that it may take at most."""
        again = (self._is_made() or self._is_recorded()) and not self.is_finished()
        size = self.settings["size"]
        pixels = size["height"] * size["width"]
        cell = 3 * _CELL * (_CELL * size["width"] // size["height"] + 8)
        cells, more = len(self.settings["references"]) + 6, 2**15 + (credentials.SIZE if self.signer else 0)
        return [
            Output("--output", self.path, int(RAW * size["frames"] * pixels) + more, renews=again),
            Output("the contact sheet beside --output", self.sheet, cells * cell + more, renews=again),
            Output("the record beside --output", self.record, 2**13, renews=again),
        ]

    def _is_recorded(self) -> bool:
        """Whether the record that stands there is of these settings."""
        try:
            found = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("hash") == self.hash

    def _is_made(self) -> bool:
        """Whether the video file that stands there has these settings, be the rest written or not."""
        try:
            with open(self.path, "rb") as opened:
                return self.hash.encode() in opened.read(2**20)
        except OSError:
            return False


def video(
    sampler: Sampler,
    request: Request,
    path: str | os.PathLike,
    size: Size,
    fps: float,
    noise: Float[np.ndarray, "T h w C"] | None = None,
    signer: Signer | None = None,
) -> PlannedVideo:
    """The video that a request gives with a sampler's weights and settings."""
    config = sampler.config
    settings = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "references": [str(reference) for reference in request.references],
        "reference_hashes": [_picture_hash(reference) for reference in request.references],
        "seed": request.seed,
        "size": dict(zip(("frames", "height", "width"), size, strict=True)),
        "fps": float(fps),
        "sampling": dataclasses.asdict(config.sampling),
        "precision": dataclasses.asdict(config.precision),
        "encoders": dataclasses.asdict(config.encoders),
        "source": sampler.source,
        "experiment": config.name,
        "noise": None if noise is None else _hash(np.ascontiguousarray(noise).tobytes()),
    }
    return PlannedVideo(Path(path), json.loads(json.dumps(settings)), signer)


def decoded_video(
    sampler: Sampler,
    shape: Sequence[int],
    settings: dict | None,
    path: str | os.PathLike,
    fps: float | None,
    signer: Signer | None = None,
) -> PlannedVideo:
    """The video of latents [T, h, w, C] that were saved; of `settings`, where they are known."""
    if settings is None:
        autoencoder, (frames, height, width) = sampler.config.autoencoder, shape[:3]
        pixels = (frames - 1) * autoencoder.temporal + 1, height * autoencoder.spatial, width * autoencoder.spatial
        settings = {
            "prompt": "",
            "references": [],
            "size": dict(zip(("frames", "height", "width"), pixels, strict=True)),
        }
        settings |= {"fps": float(sampler.config.data.fps), "source": sampler.source}
    return PlannedVideo(Path(path), settings | ({} if fps is None else {"fps": float(fps)}), signer)


def write(made: PlannedVideo, clip: Clip, sampler: Sampler) -> None:
    """Writes the video, its contact sheet and its record, each whole or not at all."""
    began, prompt, own = (
        time.monotonic(),
        made.settings["prompt"],
        {provenance.TAG: provenance.record_text(made.settings)},
    )
    tags = {"prompt": prompt, "seed": str(made.settings.get("seed", "")), "title": prompt, "settings": made.hash} | own
    sign = made.signer and made.signer.sign
    media.write_video(made.path, clip.frames, made.settings["fps"], metadata=tags, sign=sign)
    references = [(f"reference {number + 1}", picture) for number, picture in enumerate(clip.references)]
    row = media.SheetRow([*references, *frame_cells(clip.frames, 6)], prompt)
    media.write_png(made.sheet, media.contact_sheet([row]), metadata=own, sign=sign)
    seconds = {f"{part}_seconds": round(spent, 3) for part, spent in sampler.seconds.items()}
    record = {"notice": media.AI_NOTICE, "hash": made.hash} | made.settings
    record["warnings"] = list(clip.warnings)
    record |= {"versions": versions(), "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}"}
    record["timings"] = seconds | {"writing_seconds": round(time.monotonic() - began, 3)}
    files.write_json(made.record, record)


def latents_output(made: PlannedVideo, shape: Sequence[int], path: str | os.PathLike | None) -> Output:
    """The latents file of a video, at `path` or beside it."""
    size = 4 * int(np.prod(shape)) + 2**13
    if path is None:
        return Output("the latents beside --output", unused_latents(made.path), size)
    return Output("--save-latents", path, size)


def unused_latents(path: Path) -> Path:
    """`NAME.latents.npy` beside a file, with a number where there is one already; a long name is cut."""
    stem, number = path.stem.encode(errors="surrogateescape")[:_NAME_BYTES].decode(errors="ignore"), 0
    while os.path.lexists(found := path.with_name(f"{stem}{f'-{number}' if number else ''}.latents.npy")):
        number += 1
    return found


def write_latents(path: str | os.PathLike, latents: Float[np.ndarray, "T h w C"], made: PlannedVideo) -> Path:
    """Writes latents as `np.load` reads them, the settings behind them; whole or not at all."""
    with files.written_whole(path, ".npy") as partial, open(partial, "wb") as opened:
        np.save(opened, latents)
        opened.write(
            _TRAILER + json.dumps({"hash": made.hash} | made.settings).encode() + f"\n{outputs.MARK}\n".encode()
        )
    return Path(path)


def keep_latents(latents: Float[np.ndarray, "T h w C"], made: PlannedVideo, path: Path | None) -> Path | None:
    """Writes latents to `path` or beside the video, and where there is no room, among the system's temporary files.

    Returns the file, None where nothing could be written; what failed is printed.
    """
    for choose in (lambda: path or unused_latents(made.path), lambda: _temporary(made.path)):
        try:
            return write_latents(choose(), latents, made)
        except OSError as error:
            print(f"note: the latents cannot be kept at {error.filename or made.path.parent}: {error_text(error)}")
    return None


def settings_behind(path: str | os.PathLike) -> dict | None:
    """The settings behind the latents in a file of `write_latents`; None where there are none, or damaged ones."""
    content = Path(path).read_bytes()
    _, found, rest = content.rpartition(_TRAILER)
    try:
        settings = json.loads(rest.removesuffix(f"\n{outputs.MARK}\n".encode())) if found else None
    except ValueError:
        return None
    if not isinstance(settings, dict) or not settings.keys() >= {"prompt", "references", "size", "fps"}:
        return None
    written = settings.pop("hash", None)
    return settings if written == PlannedVideo(Path(), settings).hash else None


def _temporary(path: Path) -> Path:
    return unused_latents(Path(tempfile.mkdtemp(prefix="mmjax-")) / path.name)


def _picture_hash(picture: media.Picture) -> str:
    """Of a file's bytes or an opened picture's pixels; empty for a file that cannot be read, which is told later."""
    if isinstance(picture, Image.Image):
        return _hash(repr((picture.mode, picture.size)).encode() + picture.tobytes())
    try:
        return _hash(Path(picture).read_bytes())
    except OSError:
        return ""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
