"""Text alignment: mean over frames of the cosine of the frame's embedding and the prompt's, by CLIP.

MagicMirror and VBench print the cosine; CLIPScore is the cosine times the model's own scale, 100 for published weights.
A prompt that is longer than CLIP's 77 tokens is cut off, as everywhere; `details` say so.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from mmjax.errors import DataError
from mmjax.evaluation.frames import FrameSampling, chosen
from mmjax.evaluation.metrics.interface import (
    PIXELS,
    TEXT,
    MeanOverVideos,
    Score,
    VideoToScore,
    not_computed,
)

if TYPE_CHECKING:
    from mmjax.encoders.clip import CLIPEncoder


@dataclasses.dataclass(frozen=True)
class TextAlignment(MeanOverVideos):
    """`series` is that of each frame.

    clip: a folder that `mmjax.convert clip` wrote. sampling: the frames that are looked at; None for all decoded.
    own_scale: multiply by the model's own scale. colours_exchanged: red for blue, as ConsisID's script shows frames.
    """

    clip: str
    name: str = "text_alignment"
    sampling: FrameSampling | None = None
    own_scale: bool = False
    colours_exchanged: bool = False
    better: str = "higher"
    needs: frozenset[str] = frozenset({PIXELS, TEXT})
    version: int = 1

    @property
    def title(self) -> str:
        scaled = " times the model's scale" if self.own_scale else ""
        return f"text alignment: cosine of frames and prompt by CLIP{scaled}"

    def score(self, case: VideoToScore) -> Score:
        if not case.prompt.strip():
            return not_computed("no prompt is known for this video; give --prompts with a line for it")
        try:
            frames = case.video.frames[chosen(case.video, self.sampling)]
        except DataError as error:
            return not_computed(str(error))
        clip = loaded_clip(self.clip)
        pictures = clip.pictures(frames[..., ::-1] if self.colours_exchanged else frames)
        series = pictures @ clip.texts([case.prompt])[0] * (clip.scale if self.own_scale else 1.0)
        return Score(float(np.mean(series)), series.tolist(), details={"prompt_cut": clip.cuts(case.prompt)})

    def fingerprint(self) -> str:
        """CLIP's."""
        return loaded_clip(self.clip).fingerprint


@functools.lru_cache(maxsize=1)
def loaded_clip(folder: str) -> "CLIPEncoder":
    """CLIP, loaded once in a process. JAX is imported here, when the first video is scored, not with this module."""
    from mmjax.encoders.clip import load_clip

    return load_clip(folder)
