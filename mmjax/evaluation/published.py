"""What publications say of systems: figures that stand beside ours, never among them (METHOD 6).

A figure stands in the table where a column has its unit and its definition. What else a publication prints is told in a
note, with why it is no figure of ours.
"""

PUBLISHED_NOTE = (
    "Published rows are of another set of people and prompts, by their authors' own tools: not measured here, and no "
    "interval is known."
)

# By protocol and system: by the name of the metric, whose unit and definition are ours.
PUBLISHED = {
    "magicmirror": {  # table 1
        "MagicMirror": {"inception_score": 10.59, "identity/dlib": 0.922},
        "ConsisID": {"identity/dlib": 0.913},
        "ID-Animator": {"identity/dlib": 0.923},
    }
}

OTHERWISE = {  # by protocol: what stands in no column
    "magicmirror": (
        "The paper's other figures have another unit or definition than the columns here, or do not say theirs. "
        "MagicMirror: dynamic degree 0.705 (ours is by Farneback's flow), smoothness 0.484 (VBench's formula and ours "
        "are near 1), text alignment 0.240 (of a CLIP that is not named), decay 0.002 (of which frames is not said), "
        "FM_ref 0.730 and FM_inter 0.610 (no unit); FM_inter of ConsisID 0.601, of ID-Animator 0.181.",
    )
}
