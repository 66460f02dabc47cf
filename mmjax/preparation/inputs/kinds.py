"""Which files are photos, videos and archives, by their names, and why the others are none."""

import dataclasses
from collections.abc import Mapping

from mmjax import pictures, video
from mmjax.preparation.inputs import tars

KINDS = {
    **dict.fromkeys(pictures.ENDINGS, "photo"),
    **dict.fromkeys(video.ENDINGS, "video"),
    ".tar": "tar",
    **dict.fromkeys(tars.COMPRESSED, "tar"),
}
HEIC = (".heic", ".heif", ".hif", ".heics")
HIDDEN, OTHER = "a hidden file or folder", "neither a photo nor a video that is read"

_RAW = "a camera's raw picture; develop it to JPEG or PNG"
_TABLE = "a table; if it lists captions, give it as --manifest with the columns path, caption, person, role"
_WHY = {
    **dict.fromkeys((".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".raf", ".orf", ".rw2"), _RAW),
    **dict.fromkeys((".pef", ".srw", ".x3f", ".3fr", ".iiq", ".raw"), _RAW),
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"), _TABLE),
    **dict.fromkeys((".zip", ".7z", ".rar", ".gz"), "an archive; unpack it, or make it a .tar"),
    **dict.fromkeys((".svg", ".eps", ".pdf", ".ai", ".wmf", ".emf", ".ps"), "a drawing or document"),
    **dict.fromkeys(
        (".jxl", ".exr", ".hdr", ".tga", ".pcx", ".ico", ".dds"), "a picture that is not read; save it as PNG"
    ),
    **dict.fromkeys((".m3u8", ".m3u", ".mpd"), "a playlist; give the videos themselves"),
    **dict.fromkeys((".rm", ".rmvb", ".h264", ".264", ".hevc", ".ivf", ".mp2t"), "a video that is not read; remux it"),
    **dict.fromkeys((".mp3", ".wav", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma"), "sound"),
}


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Files that are no items, by their ending and the reason."""

    ending: str
    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} {self.ending}: {self.reason}"


def counted(ignored: Mapping[tuple[str, str], int]) -> list[Ignored]:
    """Rows of counts by ending and reason, the most first."""
    rows = [Ignored(ending, count, reason) for (ending, reason), count in ignored.items()]
    return sorted(rows, key=lambda each: (-each.count, each.ending, each.reason))


def kind_of(name: str) -> str:
    """ "photo", "video" or "tar" by the name's ending, "" for what is not taken."""
    name = name.lower()
    if name.endswith(HEIC):
        return "photo" if pictures.reads_heic() else ""
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), "")


def why_not(ending: str) -> str:
    """Why files of this ending (lower case, with its dot) are not taken, and what to do."""
    if ending in HEIC:
        return pictures.NEEDS_HEIF
    return _WHY.get(ending, OTHER)
