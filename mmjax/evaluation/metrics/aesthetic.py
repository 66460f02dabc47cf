"""Aesthetic score: mean over frames of LAION's head on CLIP ViT-L/14's direction of the frame, about 1 to 10.

VBench and OpenS2V print it, with two different heads: the file's name belongs to the number.
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmjax.errors import CheckpointError, DataError
from mmjax.evaluation.frames import FrameSampling, chosen
from mmjax.evaluation.metrics.interface import PIXELS, MeanOverVideos, Score, VideoToScore, not_computed
from mmjax.evaluation.metrics.text_alignment import loaded_clip
from mmjax.faces.packs import file_fingerprint

if TYPE_CHECKING:
    from mmjax.encoders.clip import CLIPEncoder


@dataclasses.dataclass(frozen=True)
class Aesthetic(MeanOverVideos):
    """`series` is that of each frame.

    clip: a folder with CLIP ViT-L/14. head: LAION's file. sampling: the frames that are looked at; None for all.
    """

    clip: str
    head: str
    sampling: FrameSampling | None = None
    name: str = "aesthetic"
    title: str = "aesthetic score by LAION's head on CLIP, 1 to 10"
    better: str = "higher"
    needs: frozenset[str] = frozenset({PIXELS})
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        try:
            frames = case.video.frames[chosen(case.video, self.sampling)]
        except DataError as error:
            return not_computed(str(error))
        clip, (weights, bias) = self._open()
        series = clip.pictures(frames) @ weights + bias
        return Score(float(np.mean(series)), series.tolist())

    def fingerprint(self) -> str:
        """CLIP's, and the head's file."""
        clip, _ = self._open()
        return f"{clip.fingerprint} head={file_fingerprint(Path(self.head)).replace(' ', ':')}"

    def _open(self) -> "tuple[CLIPEncoder, tuple[np.ndarray, float]]":
        clip, head = loaded_clip(self.clip), _head(self.head)
        if clip.record.projection != len(head[0]):
            raise CheckpointError(
                f"aesthetic head {self.head}: expected a CLIP with directions of {len(head[0])} numbers, found "
                f"{self.clip} with {clip.record.projection}; LAION's heads take CLIP ViT-L/14"
            )
        return clip, head


@functools.lru_cache(maxsize=1)
def _head(file: str) -> tuple[np.ndarray, float]:
    """Read once in a process."""
    from mmjax.conversion.aesthetic import read_aesthetic_head  # its package brings JAX

    return read_aesthetic_head(file)
