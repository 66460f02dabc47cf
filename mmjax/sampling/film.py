"""What a story leaves on disk beside its clips: the film, its contact sheet and its record.

    OUT.mp4    the clips one behind the other, without a second encoding: its frames are theirs, bit for bit
    OUT.png    the references, then a row of frames for each shot
    OUT.json   shots with their seconds, prompts, seeds, hashes and likeness; written last

All of it comes from the clips' files alone, so that a story that was stopped and goes on ends in the same bytes.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mmjax import files, media, provenance
from mmjax.errors import DataError, error_text
from mmjax.evaluation.decoding import decode_video
from mmjax.evaluation.identity import SimilarityToPeople
from mmjax.outputs import Output
from mmjax.sampling.products import PlannedVideo
from mmjax.sampling.size import frame_cells
from mmjax.versions import versions

PERSON = "the person"  # of a film, for `SimilarityToPeople`
_FIGURES = ("own", "no_face")  # of a shot, which has nobody to be confused with
_OF_SHOT = ("prompt", "negative_prompt", "seed")
_OF_ALL = ("references", "reference_hashes", "fps", "source", "experiment", "sampling", "precision", "encoders")
_ROW = 2**12  # bytes that a shot may take in the record
_AGAIN = "remove it, and the same command makes it anew"


@dataclasses.dataclass(frozen=True)
class Likeness:
    """Who says how alike the person of a shot and of the references are.

    similarity: None where nobody says, and `note` says why. embedder: by the words that it was given with.
    note: what the embedder has to do with the model, empty for nothing.
    """

    similarity: SimilarityToPeople | None
    embedder: str = ""
    note: str = ""

    def of_clip(self, frames: UInt8[np.ndarray, "n h w 3"]) -> dict[str, float | None]:
        """Figures of a clip, by tags that say whether the embedder is independent; None for one that has none."""
        if self.similarity is None:
            return {}
        figures = self.similarity.figures(self.similarity([PERSON], frames[None]))
        found = {tag: value for tag, value in figures.items() if tag.rpartition("/")[2] in _FIGURES}
        return {tag: None if math.isnan(value) else round(value, 4) for tag, value in found.items()}


@dataclasses.dataclass(frozen=True)
class PlannedFilm(PlannedVideo):
    """The film of some clips; `settings` are what it depends on, theirs included."""

    clips: Sequence[PlannedVideo] = ()

    def outputs(self) -> list[Output]:
        """What is going to be written, with the bytes that it may take at most; made of the same, it is made again."""
        video, sheet, record = super().outputs()
        count, again = len(self.clips), self._is_made() or self._is_recorded()
        sizes = (video.size, sheet.size * count, record.size + _ROW * count)
        return [
            dataclasses.replace(each, size=size, renews=again)
            for each, size in zip((video, sheet, record), sizes, strict=True)
        ]

    def is_whole(self, embedder: str) -> bool:
        """Whether the film of these very clips stands there, looked at by this embedder."""
        if not (self.is_finished() and all(clip.is_finished() for clip in self.clips)):
            return False
        found = self.read_record()
        hashes = [_sha256(clip.path) for clip in self.clips]
        return found["likeness"]["embedder"] == embedder and [each["sha256"] for each in found["shots"]] == hashes

    def read_record(self) -> dict:
        """What the record that stands there says."""
        return json.loads(self.record.read_text())


def planned_film(path: str | os.PathLike, clips: Sequence[PlannedVideo]) -> PlannedFilm:
    """The film of clips of one picture size, pace and person, in their order; signed where they are."""
    first, shots, begin = clips[0].settings, [], 0
    for clip in clips:
        end, asked = begin + clip.size[0], clip.settings
        shot = {"clip": clip.path.name, "start": begin / asked["fps"], "end": end / asked["fps"], "frames": end - begin}
        shots.append(shot | {key: asked[key] for key in _OF_SHOT} | {"hash": clip.hash})
        begin = end
    settings = {"shots": shots, "size": first["size"] | {"frames": begin}} | {key: first[key] for key in _OF_ALL}
    return PlannedFilm(Path(path), settings, clips[0].signer, tuple(clips))


def write_film(film: PlannedFilm, references: Sequence[UInt8[np.ndarray, "h w 3"]], likeness: Likeness) -> dict:
    """Writes the film of finished clips, its sheet and its record, each whole or not at all; returns the record.

    Raises `DataError` for a clip that is damaged, or not encoded as the others are.
    """
    shots, rows = [], []
    if references:
        cells = [(f"reference {number}", picture) for number, picture in enumerate(references, 1)]
        rows.append(media.SheetRow(cells))
    for number, (clip, shot) in enumerate(zip(film.clips, film.settings["shots"], strict=True), 1):
        frames = _frames(clip)
        figures = likeness.of_clip(frames)
        shots.append(shot | {"sha256": _sha256(clip.path)} | figures)
        cells = [(label, picture.copy()) for label, picture in frame_cells(frames, 6)]  # or all frames stay in memory
        rows.append(media.SheetRow(cells, f"{shot_line(number, shot | figures)}: {shot['prompt']}"))
    sign, own = film.signer and film.signer.sign, {provenance.TAG: provenance.record_text(film.settings)}
    tags = {"title": film.path.stem, "settings": film.hash} | own
    join_clips(film.path, [clip.path for clip in film.clips], tags, sign)
    media.write_png(film.sheet, media.contact_sheet(rows, title=film.path.stem), metadata=own, sign=sign)
    record = {"notice": media.AI_NOTICE, "hash": film.hash} | film.settings | {"shots": shots}
    record |= {"likeness": {"embedder": likeness.embedder, "note": likeness.note}, "versions": versions()}
    files.write_json(film.record, record)
    return record


def shot_line(number: int, shot: Mapping) -> str:
    """A shot's number, seconds, seed and figures in a line."""
    figures = [
        f"{tag} {'none' if shot[tag] is None else format(shot[tag], 'g')}"
        for tag in shot
        if tag.rpartition("/")[2] in _FIGURES
    ]
    times = f"{shot['start']:g} to {shot['end']:g} s"
    return ", ".join([f"shot {number}", times, f"seed {shot['seed']}", *figures])


def join_clips(
    path: str | os.PathLike,
    clips: Sequence[str | os.PathLike],
    metadata: Mapping[str, str] | None = None,
    sign: Callable[[Path], None] | None = None,
) -> Path:
    """Writes one mp4 of clips that `media.write_video` wrote with one size and one pace, as they are encoded.

    Each begins with a key frame, so that a cut is where it should be. The same clips and tags give the same bytes. Of
    four real clips of 49 frames, 480 x 720, it takes 0.06 s; to encode their frames again would take 12 s on a busy
    machine, and leave 39.5 dB PSNR to what was first encoded in place of 43.8.

    Args:
      metadata: more tags, beside those that say that a model made it.
      sign: as of `media.write_video`.

    Returns:
      the path written. The file appears whole or not at all.

    Raises:
      DataError: a clip that does not open, or is not encoded as the first is.
    """
    import av

    tags = {"comment": media.AI_NOTICE, "digital_source_type": media.DIGITAL_SOURCE_TYPE, **(metadata or {})}
    packets = []  # of each clip; encoded they are small
    with contextlib.ExitStack() as stack:
        streams = [_opened(clip, stack) for clip in clips]
        for clip, stream in zip(clips, streams, strict=True):
            packets.append([each for each in stream.container.demux(stream) if each.dts is not None])
            if _encoding(stream) != _encoding(streams[0]) or not packets[-1]:
                raise DataError(f"clip {clip}: expected the encoding of {clips[0]}, found another; {_AGAIN}")
        length = packets[0][0].duration
        ahead = max(each[0].pts - each[0].dts for each in packets)  # pictures are decoded before they are shown
        options = {"movflags": "+faststart+use_metadata_tags"}
        with files.written_whole(path, ".mp4") as partial:
            with av.open(str(partial), "w", format="mp4", options=options) as container:
                container.metadata.update(tags)
                joined, count = container.add_stream_from_template(streams[0]), 0
                for each in packets:
                    begin = count * length
                    for packet in each:
                        packet.pts, packet.dts, packet.stream = packet.pts + begin, count * length - ahead, joined
                        container.mux(packet)
                        count += 1
            if sign:
                sign(partial)
    return Path(path)


def _opened(clip: str | os.PathLike, stack: contextlib.ExitStack):
    import av

    try:
        return stack.enter_context(av.open(os.fspath(clip))).streams.video[0]
    except (OSError, ValueError, IndexError) as error:  # libav's own errors are of the first two
        raise DataError(f"clip {clip}: expected a clip of mmjax, found: {error_text(error)}; {_AGAIN}") from error


def _encoding(stream) -> tuple:
    """What must be the same of clips that are put together: picture, pace, and the encoder's own settings."""
    context = stream.codec_context
    return context.name, context.width, context.height, stream.time_base, stream.average_rate, context.extradata


def _frames(clip: PlannedVideo) -> UInt8[np.ndarray, "n h w 3"]:
    """All frames of a clip. Raises `DataError` for a damaged one."""
    try:
        frames = decode_video(clip.path, range).frames
    except DataError as error:
        raise DataError(f"clip {clip.path}: {error}; {_AGAIN}") from error
    if frames.shape[:3] != clip.size:
        raise DataError(f"clip {clip.path}: expected {clip.size}, found {frames.shape[:3]}; {_AGAIN}")
    return frames


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
