"""ConsisID's evaluation (Yuan et al., 2025; PKU-YuanGroup/ConsisID, eval/).

Numbers of the public scripts: `get_facesim_fid.py` (16 frames by cut-off linspace, sought; FaceSim and what is called
FID), `get_clipscore.py` (16 equal steps, CLIP ViT-B/32's logits).
"""

from collections.abc import Sequence

from mmjax.evaluation.frames import FrameSampling
from mmjax.evaluation.metrics.face_sim import ARC, CUR, FaceSim
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.text_alignment import TextAlignment
from mmjax.evaluation.protocols.lacking import Lacking, by_name, clip_instead, face_sims_instead
from mmjax.evaluation.protocols.protocol import EvaluationProtocol, Given

NAME = "consisid"
FACE_FRAMES, CLIP_FRAMES = FrameSampling(16, "linspace"), FrameSampling(16, "steps")
CLIP_SCORE, FID = "clip_score", "face_fid"
_FID_INSTEAD = Lacking(
    FID,
    "ConsisID's FID of faces: squared distance of Inception-v3's features to the reference's",
    "it takes Inception-v3's weights; give --plugin FILE.py with a metric of this name",
    better="lower",
)
_NOTES = (
    "FaceSim looks at 16 frames by insightface's detector at 320 pixels and compares with the one given reference; the "
    "publication's pack is insightface's default, buffalo_l, and the pack of --face-models stands in the settings.",
    "Frames are those of the same numbers as sought by OpenCV; here they are decoded in order, which always lands on "
    "the frame that is meant.",
    "CLIPScore takes another 16 frames, and multiplies the cosine by the model's own scale, which is 100 for published "
    "weights. The publication's model is ViT-B/32; the model of --clip stands in the settings.",
    "FID takes Inception-v3, which is not here. As published it is no Fréchet distance: one activation is doubled, its "
    "covariance is zero, and what is left is the squared distance of features.",
)
_PUBLISHED = (
    "As published: a cosine below zero counts as zero, frames without a face are skipped, and CLIP is shown frames "
    "whose red and blue are exchanged.",
)
_MENDED = (
    "Mended: cosines count as they are and frames without a face as 0; CLIP is shown the frames in their own colours.",
)


def consisid(fixed: bool) -> EvaluationProtocol:
    """The protocol, in the order of the publication's table."""
    return EvaluationProtocol(
        name=NAME,
        version="",
        fixed=fixed,
        columns=(f"face_sim/{ARC}", f"face_sim/{CUR}", CLIP_SCORE, FID),
        samplings=(FACE_FRAMES, CLIP_FRAMES),
        own=lambda given: _own(given, fixed),
        instead=by_name([*face_sims_instead(), clip_instead(CLIP_SCORE, own_scale=True), _FID_INSTEAD]),
        notes=(*(_MENDED if fixed else _PUBLISHED), *_NOTES),
    )


def _own(given: Given, fixed: bool) -> Sequence[Metric]:
    found: list[Metric] = []
    for recogniser, there in ((ARC, True), (CUR, bool(given.curricularface))):
        if given.face_models and there:
            found.append(FaceSim(recogniser, given.face_models, given.curricularface, FACE_FRAMES, fixed=fixed))
    if given.clip:
        found.append(TextAlignment(given.clip, CLIP_SCORE, CLIP_FRAMES, own_scale=True, colours_exchanged=not fixed))
    return found
