"""What publications say of systems: figures that stand beside ours, never among them (METHOD 6)."""

from collections.abc import Mapping

PUBLISHED_NOTE = (
    "Published rows are of another set of people and prompts, by their authors' own tools: not measured here, and no "
    "interval is known."
)

# By protocol and system: by the name of the metric, with the embedder that it was measured by.
PUBLISHED = {
    "magicmirror": {  # table 1
        "MagicMirror": {
            "dynamic_degree": 0.705,
            "text_alignment": 0.240,
            "inception_score": 10.59,
            "smoothness": 0.484,
            "identity/dlib": 0.922,
            "decay/dlib": 0.002,
            "fm_ref": 0.730,
            "fm_inter": 0.610,
        },
        "ConsisID": {"identity/dlib": 0.913, "fm_inter": 0.601},
        "ID-Animator": {"identity/dlib": 0.923, "fm_inter": 0.181},
    }
}


def published_value(values: Mapping[str, float], metric: str) -> float | None:
    """The published figure for a column; one that no embedder is named for counts whichever tool ours is of."""
    return values.get(metric, values.get(metric.partition("/")[0]))
