"""MagicMirror's own evaluation (METHOD 6) and ours, which it is without columns of its own.

The paper's authors published no script: what it does not say is ours, and marked so.
"""

from collections.abc import Sequence

from mmjax.evaluation.frames import FrameSampling
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.text_alignment import TextAlignment
from mmjax.evaluation.protocols.lacking import Lacking, by_name, clip_instead
from mmjax.evaluation.protocols.protocol import EACH_EMBEDDER, EvaluationProtocol, Given
from mmjax.evaluation.success_rates import Threshold
from mmjax.faces.dlib_faces import DLIB

NAME, OURS = "magicmirror", "mmjax"
FRAMES = FrameSampling(49)  # [ours] a clip of the paper's length is seen whole
TEXT_ALIGNMENT, INCEPTION, MOTION = "text_alignment", "inception_score", "dynamic_degree/farneback"
COLUMNS = (  # of table 1 in its order, and behind them what makes likeness mean something
    MOTION,
    TEXT_ALIGNMENT,
    INCEPTION,
    "smoothness/farneback",
    f"identity/{EACH_EMBEDDER}",
    f"decay/{EACH_EMBEDDER}",
    "fm_ref",
    "fm_inter",
    f"impostors/{EACH_EMBEDDER}",
    "no_face",
    f"no_face/{DLIB}",
)
_INCEPTION_INSTEAD = Lacking(
    INCEPTION,
    "inception score",
    "it takes Inception-v3's weights; give --plugin FILE.py with a metric of this name",
    better="higher",
)
_NOTES = (
    "Identity is the mean over frames of the cosine to the mean embedding of the person's references, by dlib's "
    "recogniser (face_recognition), as the paper has it.",
    "dlib's cosines are high between strangers too: read identity beside the impostors' column, never alone.",
    "[ours] 49 frames spread over the video; the paper says that frames are sampled uniformly, and not how many.",
    "[ours] Landmarks are the pack's five, where the paper has RetinaFace's; dynamic degree is by Farneback's optical "
    "flow, where VBench has RAFT; the smoothness is ours too. Compare them between systems here, not with the paper.",
    "Text alignment is the mean cosine by the CLIP of --clip; the paper names no model.",
    "Inception score takes Inception-v3, which is not here: a plug-in.",
)


# [ours] Of table 5, whose values the paper does not give: a face in half of the frames or more, where dlib tells people
# apart, a yes of the dynamic degree, and a cosine of CLIP's ViT-B/32 or ViT-L/14. Identity: of 197 pairs of LFW's
# photos that show one person dlib has 98.5 % at 0.9 or above, of 198 pairs of strangers 2.5 % (means 0.952 and 0.833);
# it errs least, 1.5 %, at 0.902.
SUCCESS = (
    Threshold("face recognised", "no_face", 0.5, at_most=True),
    Threshold("identity", f"identity/{DLIB}", 0.9),
    Threshold("motion", MOTION, 0.5),
    Threshold("text", TEXT_ALIGNMENT, 0.2),
)


def magicmirror(fixed: bool) -> EvaluationProtocol:
    """The paper's; nothing of it is known to want mending, so that `fixed` changes nothing."""
    return EvaluationProtocol(
        name=NAME,
        version="",
        fixed=False,
        columns=COLUMNS,
        samplings=(FRAMES,),
        embedders=(DLIB,),
        own=_own,
        instead=by_name([clip_instead(TEXT_ALIGNMENT), _INCEPTION_INSTEAD]),
        notes=_NOTES,
    )


def mmjax(fixed: bool) -> EvaluationProtocol:
    """Ours: every metric that is known, on the frames of `magicmirror`."""
    return EvaluationProtocol(
        name=OURS,
        version="",
        fixed=False,
        columns=(),
        samplings=(FRAMES,),
        notes=("49 frames spread over the video; every metric for which what it needs was given.",),
        published=False,
    )


def _own(given: Given) -> Sequence[Metric]:
    return [TextAlignment(given.clip, TEXT_ALIGNMENT, FRAMES)] if given.clip else []
