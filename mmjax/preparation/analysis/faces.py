"""The faces of a window through its frames, upright: photos and clips that lie on their side are turned first.

A photo is asked as references are (`mmjax.faces.upright`). A clip is decided as a whole: it is tracked as it is, and
where its main face is clearly upright that is all. Elsewhere three frames are looked at in all four turns, the middle
one first; what wins turns all frames, which are tracked anew. Each window decides for itself, since a video may be cut
from several. Of 14 real clips all are right in all four turns, nine frames each, and 9 of the upright ones are tracked
alone, as they were before (`MMJAX_MEASURE=1 pytest -s tests/preparation/test_upright_items.py`).
"""

import dataclasses

import numpy as np

from mmjax.faces.detection import Face
from mmjax.faces.tracking import Detect, Track, track_faces
from mmjax.faces.upright import find_upright, is_clear, remark, turned, upright_turns
from mmjax.media import spread
from mmjax.preparation.analysis.windows import Window

_ASKED = 3  # frames of a clip that are looked at in all turns


def upright_faces(window: Window, kind: str, detect: Detect, every: int) -> tuple[Window, list[Track], str]:
    """(the window upright, its faces, what is to be said of the turn: "" where it surely stood upright).

    Args:
      kind: "photo" or "video".
      every: frames of a video from one detection to the next.

    Returns:
      the tracks of `mmjax.faces.tracking.track_faces`, in the pixels of the window that is returned.
    """
    if kind == "photo":
        found = find_upright(window.frames[0], detect)
        upright = dataclasses.replace(window, frames=found.picture[None], turns=found.turns)
        return upright, [_as_track(face) for face in found.faces], found.remark
    tracks = track_faces(window.frames, detect, every)
    if tracks and _stands(tracks[0]):
        return window, tracks, ""
    turns, sure = upright_turns([window.frames[index] for index in spread(_ASKED, len(window.frames))], detect)
    if turns:
        window = dataclasses.replace(window, frames=turned(window.frames, turns), turns=turns)
        tracks = track_faces(window.frames, detect, every)
    return window, tracks, remark(turns, sure)


def _as_track(face: Face) -> Track:
    return Track(face.box[None], face.landmarks[None], np.array([face.score]), np.ones(1, bool))


def _stands(track: Track) -> bool:
    """Whether a face surely stands upright in its median frame."""
    seen = track.present
    middle = (np.median(each[seen], axis=0) for each in (track.boxes, track.landmarks, track.scores))
    return is_clear(Face(*middle))
