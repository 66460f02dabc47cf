"""What stands in a protocol's table where a metric cannot be computed: it says why, and what to give."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from mmjax.evaluation.metrics.face_sim import ARC, CUR, FaceSim
from mmjax.evaluation.metrics.interface import Metric, Score, VideoToScore, not_computed
from mmjax.evaluation.metrics.text_alignment import TextAlignment


@dataclasses.dataclass(frozen=True)
class Lacking:
    """A metric that is never computed."""

    rate, share = False, False

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


def in_place_of(metric: Metric, why: str) -> Lacking:
    """What stands in the place of a metric that is known here: its name, title and better side."""
    return Lacking(metric.name, metric.title, why, metric.better)


def by_name(lacking: Sequence[Lacking]) -> Mapping[str, Lacking]:
    return {each.name: each for each in lacking}


def face_sims_instead() -> list[Lacking]:
    """What stands in the place of FaceSim's two columns."""
    return [
        in_place_of(FaceSim(ARC, ""), "it takes a detector and a recogniser; give a face pack (--face-models)"),
        in_place_of(
            FaceSim(CUR, ""),
            "it takes a face pack and CurricularFace IR-101, which is not here; give its ONNX file (--curricularface)",
        ),
    ]


def clip_instead(name: str, own_scale: bool = False) -> Lacking:
    """What stands in the place of a column that takes CLIP."""
    why = "it takes CLIP; give a folder that python -m mmjax.convert clip wrote (--clip), and --prompts"
    return in_place_of(TextAlignment("", name, own_scale=own_scale), why)
