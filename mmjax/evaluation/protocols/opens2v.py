"""OpenS2V-Eval's human domain (Yuan et al., 2025; PKU-YuanGroup/OpenS2V-Nexus, eval/), versions 1.1 and 1.0.

Numbers of the public scripts: `get_facesim.py` (32 frames, FaceSim), `get_motion_amplitude.py` (all frames, Farneback),
`get_motion_smoothness.py` (Q-Align), `get_aesscore.py`, `get_gmescore.py` (32 frames), `get_naturalscore.py` (GPT-4o on
16 frames), `merge_result.py` (ranges and weights of the total).
"""

from collections.abc import Sequence

from mmjax.evaluation.frames import FrameSampling
from mmjax.evaluation.metrics import motion
from mmjax.evaluation.metrics.aesthetic import Aesthetic
from mmjax.evaluation.metrics.face_sim import ARC, CUR, FaceSim
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.total import Part, WeightedTotal
from mmjax.evaluation.protocols.lacking import Lacking, by_name, face_sims_instead, in_place_of
from mmjax.evaluation.protocols.protocol import EvaluationProtocol, Given

NAME, VERSIONS = "opens2v-human", ("1.1", "1.0")
FRAMES, ALL = FrameSampling(32, "linspace"), FrameSampling(None)

AESTHETIC, GME, NATURAL, SMOOTHNESS = "aesthetic", "gme", "natural", "motion_smoothness_opens2v"
AMPLITUDE, SPEED = "signed_amplitude/farneback", "mean_speed/farneback"  # the second is shown beside it, mended
_FACE = f"face_sim/{CUR}"
_WEIGHTS = {  # aesthetic, smoothness, amplitude, face, GME, natural; 1.0 knows no smoothness
    "1.1": (0.18, 0.09, 0.03, 0.25, 0.15, 0.30),
    "1.0": (0.15, 0.0, 0.15, 0.25, 0.15, 0.30),
}
_INSTEAD = (
    in_place_of(Aesthetic("", ""), "it takes LAION's head and CLIP ViT-L/14; give both (--aesthetic FILE --clip DIR)"),
    Lacking(
        SMOOTHNESS,
        "motion smoothness of OpenS2V 1.1: share of frames between which Q-Align's score of quality does not jump",
        "it takes Q-Align, a language model of 7 B parameters; give --plugin FILE.py with a metric of this name",
        better="higher",
    ),
    Lacking(
        GME,
        "GmeScore: cosine of prompt and frames by GME-Qwen2-VL-7B",
        "it takes GME-Qwen2-VL-7B; give --plugin FILE.py with a metric of this name (and --prompts)",
        better="higher",
    ),
    Lacking(
        NATURAL,
        "NaturalScore: GPT-4o's mark for 16 frames, 1 to 5",
        "it asks a service, three times for each video; give --plugin FILE.py with a metric of this name",
        better="higher",
    ),
)
_NOTES = (
    "FaceSim looks at 32 frames by insightface's detector at 320 pixels and compares with the one given reference; "
    "FaceSim-Cur, by CurricularFace, is the column and the part of the total, FaceSim-Arc stands beside it.",
    "The publication's pack is insightface's default, buffalo_l; the pack of --face-models stands in the settings.",
    "GME, natural and, in 1.1, smoothness take models that are not here: they are plug-ins, and the total is computed "
    "where all of its parts are.",
    "The total is of each video, then the mean over videos; the publication averages each part over the videos that "
    "have it, which is the same where all have all.",
)
_PUBLISHED = (
    "As published: a cosine below zero counts as zero in FaceSim-Arc and leaves the frame out in FaceSim-Cur; frames "
    "without a face are skipped; the motion amplitude averages signed flow, so that opposite motions cancel.",
)
_MENDED = (
    "Mended: cosines count as they are and frames without a face as 0, so that the total is no longer the "
    "leaderboard's; the mean speed, in which no motions cancel, stands beside the amplitude. The total keeps the "
    "published amplitude, for which its range of 0 to 1 pixels a frame was chosen.",
)


def opens2v_human(fixed: bool, version: str = VERSIONS[0]) -> EvaluationProtocol:
    """The protocol, `version` one of `VERSIONS`."""
    smoothness = (SMOOTHNESS,) if version == "1.1" else ()
    return EvaluationProtocol(
        name=NAME,
        version=version,
        fixed=fixed,
        columns=(
            AESTHETIC,
            *smoothness,
            AMPLITUDE,
            *((SPEED,) if fixed else ()),
            _FACE,
            f"face_sim/{ARC}",
            GME,
            NATURAL,
            total(fixed, version).name,
        ),
        samplings=(FRAMES, ALL),
        own=lambda given: _own(given, fixed, version),
        instead=by_name([*face_sims_instead(), *_INSTEAD]),
        notes=(*(_MENDED if fixed else _PUBLISHED), *_NOTES),
    )


def total(fixed: bool, version: str = VERSIONS[0]) -> WeightedTotal:
    """The human domain's total score, 0 to 1."""
    aesthetic, smoothness, amplitude, face, gme, natural = _WEIGHTS[version]
    parts = (
        Part(AESTHETIC, aesthetic, 4, 7),
        Part(SMOOTHNESS, smoothness),
        Part(AMPLITUDE, amplitude),
        Part(_FACE, face),
        Part(GME, gme),
        Part(NATURAL, natural, 1, 5),
    )
    title = f"total of OpenS2V's human domain, version {version}{', mended' * fixed}"
    return WeightedTotal(f"total_opens2v/{version}", title, tuple(part for part in parts if part.weight))


def _own(given: Given, fixed: bool, version: str) -> Sequence[Metric]:
    at_full_size = [metric for metric in motion.metrics(full_size=True) if metric.name in (AMPLITUDE, SPEED)]
    found: list[Metric] = [total(fixed, version), *at_full_size]
    if given.face_models:
        found.append(FaceSim(ARC, given.face_models, given.curricularface, FRAMES, fixed=fixed))
    if given.face_models and given.curricularface:
        cur = FaceSim(CUR, given.face_models, given.curricularface, FRAMES, zeros_dropped=True, fixed=fixed)
        found.append(cur)
    if given.clip and given.aesthetic:
        found.append(Aesthetic(given.clip, given.aesthetic, FRAMES))
    return found
