"""Identity figures of hand-made clips: a frame's colour says whom it shows, black shows nobody."""

import math

import numpy as np
import pytest

from mmjax.errors import DataError
from mmjax.evaluation.identity import FRAMES, SimilarityToPeople

ANNA, BEN, CARA = (200, 0, 0), (0, 200, 0), (0, 0, 200)
NOBODY = (0, 0, 0)


class ByColour:
    """The mean colour is the embedding; `seen` counts the frames it was shown."""

    seen = 0

    def embed(self, frames):
        self.seen += len(frames)
        return [frame.mean((0, 1)) if frame.any() else None for frame in frames]


def pictures(*colours):
    return np.stack([np.full((2, 2, 3), colour, np.uint8) for colour in colours])


def clips(*videos):
    return np.stack([pictures(*video) for video in videos])


def similarity(**references):
    return SimilarityToPeople(ByColour(), references)


@pytest.fixture
def three():
    return similarity(anna=pictures(ANNA, ANNA), ben=pictures(BEN), cara=pictures(CARA))


def test_each_clip_counts_once_and_each_frame_of_it(three):
    """Anna's clip turns into Ben half-way: cosines 1 and 0, and no nearest person, since a tie is none."""
    found = three(["anna", "ben"], clips([ANNA, BEN], [BEN, BEN]))
    assert (found.own, found.retrieval, found.no_face) == (pytest.approx(0.75), 0.5, 0)
    assert found.other == pytest.approx((0.25 + 0) / 2)
    assert "cosine 0.750 to their own person, 0.125 to others; own person nearest in 50% of clips" in str(found)


def test_frames_without_a_face_are_counted_and_say_nothing_of_likeness(three):
    found = three(["anna", "cara"], clips([ANNA, NOBODY], [NOBODY, NOBODY]))
    assert (found.own, found.retrieval, found.no_face) == (pytest.approx(1), 0.5, 0.75)
    found = three(["anna"], clips([NOBODY, NOBODY]))
    assert math.isnan(found.own) and math.isnan(found.other) and (found.retrieval, found.no_face) == (0, 1)


def test_somebody_else_is_told(three):
    found = three(["anna"], clips([BEN, BEN]))
    assert (found.own, found.other, found.retrieval) == (0, pytest.approx(0.5), 0)


def test_a_person_is_the_mean_of_the_references():
    """Two pictures of different colour: neither of them copied is as near as what both have in common."""
    both = similarity(anna=pictures((200, 0, 0), (0, 200, 0)), cara=pictures(CARA))
    middle, copied = both(["anna"], clips([(100, 100, 0)])), both(["anna"], clips([(200, 0, 0)]))
    assert middle.own == pytest.approx(1) and copied.own == pytest.approx(0.5**0.5)


def test_people_without_a_face_on_their_references_are_left_out():
    some = similarity(anna=pictures(ANNA, NOBODY), ben=pictures(BEN), dora=pictures(NOBODY))
    assert some.unseen == ("dora",)
    found = some(["anna", "dora"], clips([ANNA, ANNA], [BEN, NOBODY]))
    assert (found.own, found.retrieval, found.no_face) == (pytest.approx(1), 1, 0.25)
    with pytest.raises(DataError, match="expected a face on a reference picture, found none on those of 2 people"):
        similarity(anna=pictures(NOBODY), ben=pictures(NOBODY))


def test_one_person_alone_has_nobody_to_be_confused_with():
    found = similarity(anna=pictures(ANNA))(["anna", "anna"], clips([ANNA], [ANNA]))
    assert found.own == pytest.approx(1) and math.isnan(found.other) and math.isnan(found.retrieval)


def test_long_clips_are_looked_at_here_and_there(three):
    three._embedder.seen = 0
    video = [ANNA] + [BEN] * (3 * FRAMES) + [ANNA]
    three(["anna"], clips(video))
    assert three._embedder.seen == FRAMES


def test_tags_say_whether_the_embedder_is_independent(three):
    found = three(["anna"], clips([ANNA]))
    assert three.figures(found).keys() == three.higher_is_better.keys()
    assert three.higher_is_better["identity/own"] and not three.higher_is_better["identity/other"]
    assert three.figures(found)["identity/own"] == pytest.approx(1)
    partial = SimilarityToPeople(ByColour(), {"anna": pictures(ANNA)}, independent=False)
    assert set(partial.higher_is_better) == {
        f"identity_not_independent/{each}" for each in ("own", "other", "retrieval", "no_face")
    }
