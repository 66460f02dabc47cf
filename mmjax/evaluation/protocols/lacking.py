"""What stands in a protocol's table where a metric cannot be computed: it says why, and what to give."""

import dataclasses
import math
from collections.abc import Sequence

from mmjax.evaluation.metrics.face_sim import ARC, CUR
from mmjax.evaluation.metrics.interface import Score, VideoToScore, not_computed


@dataclasses.dataclass(frozen=True)
class Lacking:
    """A metric that is never computed."""

    rate = False

    name: str
    title: str
    why: str
    better: str = ""
    needs: frozenset[str] = frozenset()
    version: int = 1

    def score(self, case: VideoToScore) -> Score:
        return not_computed(self.why)

    def statistic(self, scores: Sequence[Score]) -> float:
        return math.nan


def face_sims_instead() -> dict[str, tuple[str, str]]:
    """What stands in the place of FaceSim's two columns: (title, why) by name."""
    return {
        f"face_sim/{ARC}": (
            "FaceSim-Arc: cosine to the reference, by ArcFace",
            "it takes a detector and a recogniser; give a face pack (--face-models)",
        ),
        f"face_sim/{CUR}": (
            "FaceSim-Cur: cosine to the reference, by CurricularFace",
            "it takes a face pack and CurricularFace IR-101, which is not here; give its ONNX file (--curricularface)",
        ),
    }


def clip_instead(name: str) -> dict[str, tuple[str, str]]:
    """What stands in the place of a column that takes CLIP."""
    why = "it takes CLIP; give a folder that python -m mmjax.convert clip wrote (--clip), and --prompts"
    return {name: ("text alignment: cosine of frames and prompt, by CLIP", why)}
