"""All metrics by name. A new one is a file and a line here."""

from collections.abc import Sequence

from mmjax.evaluation.metrics import expression, face_motion, head_pose, motion, picture
from mmjax.evaluation.metrics.copy_paste import CopyPaste
from mmjax.evaluation.metrics.identity import FramesWithoutFace, Identity, SimilarityDecay
from mmjax.evaluation.metrics.impostors import ImpostorSimilarity, Rank1, VerificationAUC
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.optical_flow import Flow
from mmjax.evaluation.metrics.unembedded import FramesNotEmbedded


def known_metrics(embedders: Sequence[str], flow: Flow | None = None) -> dict[str, Metric]:
    """Every metric that mmjax has, by name, in the order of a table's columns.

    Args:
      embedders: their names; each has its own columns of likeness.
      flow: optical flow of two frames in Farneback's place.
    """
    found: list[Metric] = []
    for name in embedders:
        found += [Identity(name), ImpostorSimilarity(name), Rank1(name), VerificationAUC(name)]
        found += [SimilarityDecay(name), CopyPaste(name), FramesNotEmbedded(name)]
    found += [FramesWithoutFace(), *face_motion.metrics(), *head_pose.metrics(), *expression.metrics()]
    found += [*motion.metrics(flow), *picture.metrics()]
    return {metric.name: metric for metric in found}
