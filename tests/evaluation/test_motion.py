"""Motion where the answer is known, and OpenS2V's amplitude by its published steps on a real clip."""

import dataclasses
import gc

import cv2
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.evaluation.metrics import motion, optical_flow
from tests.helpers import face_pictures as fp
from tests.helpers import heads, real_clips

TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (400, 400), np.uint8), (0, 0), 2)
TEXTURE = cv2.cvtColor(cv2.normalize(TEXTURE, None, 40, 215, cv2.NORM_MINMAX), cv2.COLOR_GRAY2RGB)
DYNAMIC, FASTEST, SIGNED, SPEED, SMOOTH = (f"{name}/farneback" for name in (
    "dynamic_degree", "fastest_motion", "signed_amplitude", "mean_speed", "smoothness"
))  # fmt: skip


def squares(*velocities, count=9, side=60, size=(192, 288)):
    """Textured squares before a still wall; each begins at its place (x, y) and moves by (right, down) every frame."""
    frames = np.stack([TEXTURE[-size[0] :, -size[1] :]] * count)
    for (x, y), (right, down) in velocities:
        for index in range(count):
            left, top = x + index * right, y + index * down
            frames[index, top : top + side, left : left + side] = TEXTURE[:side, :side]
    return frames


def scores(frames, fps=8.0, **settings):
    case = heads.case_of(heads.faces_of(np.zeros((len(frames), 68, 2))), video=heads.video_of(frames, fps))
    return {metric.name: metric.score(case) for metric in motion.metrics(**settings)}


def values(frames, fps=8.0, **settings):
    return {name: score.value for name, score in scores(frames, fps, **settings).items()}


def test_a_square_that_moves_three_pixels_a_frame():
    found = values(squares(((40, 60), (3, 0))))
    share = 60 * 60 / (192 * 288)
    assert found[FASTEST] == pytest.approx(3 * 256 / 192, rel=0.15)
    assert found[SPEED] == pytest.approx(100 * 3 * share / 192 * 8, rel=0.5)
    assert found[SIGNED] == pytest.approx(3 * share / 2, rel=0.5)  # of both directions one is 0
    assert found[DYNAMIC] == 0 and found[SMOOTH] > 0.98


def test_the_dynamic_degree_changes_at_six_pixels_of_256():
    assert values(squares(((10, 60), (4, 0)), count=17))[DYNAMIC] == 0
    found = scores(squares(((10, 60), (6, 0)), count=17))
    assert found[DYNAMIC].value == 1 and found[DYNAMIC].details["needed"] == 4
    few = np.concatenate([squares(((10, 60), (0, 0)), count=14), squares(((10, 60), (6, 0)), count=3)])
    assert values(few)[DYNAMIC] == 0  # two pairs of 17 frames


def test_two_squares_that_move_opposite_ways_cancel_in_the_signed_amplitude_alone():
    one = values(squares(((40, 60), (3, 0))))
    two = values(squares(((20, 20), (3, 0)), ((200, 110), (-3, 0))))
    assert two[SIGNED] < 0.15 * one[SIGNED]
    assert two[SPEED] == pytest.approx(2 * one[SPEED], rel=0.25)


def test_a_frozen_video_has_no_motion():
    found = values(np.stack([TEXTURE] * 9))
    assert [found[name] for name in (DYNAMIC, FASTEST, SIGNED, SPEED, SMOOTH)] == [0, 0, 0, 0, 1]


def test_a_larger_picture_and_more_frames_a_second_show_the_same_motion():
    frames = squares(((40, 60), (4, 0)), count=13)
    large = np.stack([cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for frame in frames])
    slow, twice = values(frames), values(large)
    fast = values(squares(((40, 60), (2, 0)), count=25), fps=16)
    assert fast[SMOOTH] == pytest.approx(slow[SMOOTH], abs=1e-3)
    for other in (twice, fast):
        assert other[FASTEST] == pytest.approx(slow[FASTEST], rel=0.1)
        assert other[SPEED] == pytest.approx(slow[SPEED], rel=0.2)
    assert twice[SIGNED] == pytest.approx(2 * slow[SIGNED], rel=0.1)  # as published


def test_smoothness_is_that_of_every_third_frame_at_three_times_the_pace():
    frames = squares(((10, 60), (6, 0)), count=25)[np.r_[0:10, 12:25]]  # with a jump
    assert values(frames, fps=24)[SMOOTH] == values(frames[::3])[SMOOTH]
    assert values(frames, fps=24)[SMOOTH] < values(squares(((10, 60), (6, 0)), count=25), fps=24)[SMOOTH]


def test_prediction_by_flow_is_better_than_the_mean_of_the_neighbours():
    frames = squares(((40, 60), (4, 0)))
    flow = optical_flow.farneback(frames[2], frames[4])
    errors = [
        np.abs(guess.astype(float) - frames[3]).mean()
        for guess in (
            optical_flow.middle_frame(frames[2], frames[4], flow),
            cv2.addWeighted(frames[2], 0.5, frames[4], 0.5, 0),
        )
    ]
    print(f"error of the middle frame {errors[0]:.2f}, of the neighbours' mean {errors[1]:.2f}")
    assert errors[0] < 0.5 * errors[1]


def test_shuffled_frames_are_less_smooth():
    frames = squares(((10, 60), (6, 0)), count=17)
    order = np.random.default_rng(0).permutation(17)
    assert 1 - values(frames[order])[SMOOTH] > 3 * (1 - values(frames)[SMOOTH])


@pytest.mark.skipif(not (fp.DATA / "videos").is_dir(), reason="no MMJAX_TEST_DATA with videos")
def test_the_amplitude_is_opens2vs_by_its_published_steps():
    frames = real_clips.frames_of("carphone/carphone_pristine.mp4", 20)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    maps = []
    for before, after in zip(greys[:-1], greys[1:], strict=True):
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        maps.append(cv2.resize(flow, (16, int(flow.shape[0] * 16 / flow.shape[1])), interpolation=cv2.INTER_AREA))
    published = abs(float(np.mean(np.mean(maps, axis=0))))
    found = values(frames, 30.0, full_size=True)[SIGNED]
    print(f"published steps {published:.5f}, ours {found:.5f}, reduced {values(frames, 30.0)[SIGNED]:.5f}")
    assert found == pytest.approx(published, rel=1e-4)


def test_all_metrics_share_one_measurement_which_goes_with_its_video():
    calls = []

    def still(before, after):
        calls.append(before.shape)
        return np.zeros((*before.shape[:2], 2), np.float32)

    found = values(np.stack([np.roll(TEXTURE, index, 0) for index in range(9)]), flow=still)
    assert len(calls) == 8 + 4 and set(calls) == {(400, 400, 3)}  # neighbours, and those around every second frame
    assert found["dynamic_degree/still"] == 0 and len(found) == 5
    assert {name.partition("/")[2] for name in values(np.stack([TEXTURE] * 3), flow=still, flow_name="raft")} == {
        "raft"
    }
    gc.collect()
    assert not len(optical_flow._MEASURED)


@pytest.mark.parametrize("made", [lambda a, b: a, lambda a, b: np.full((*a.shape[:2], 2), np.nan)])
def test_a_flow_that_is_none_is_refused(made):
    with pytest.raises(ConfigError, match="optical flow raft: expected finite values of shape"):
        made.__name__ = "raft"
        values(squares(((40, 60), (3, 0))), flow=made)


def test_what_is_too_short_or_too_sparse_is_not_computed():
    one = scores(TEXTURE[None])
    assert all(score.value is None and "1 frames" in score.why for score in one.values())
    assert scores(np.stack([TEXTURE] * 2))[SMOOTH].value is None
    video = heads.video_of(np.stack([TEXTURE] * 4), fps=1)
    sparse = dataclasses.replace(video, total=100, numbers=np.arange(4) * 33)
    case = heads.case_of(heads.faces_of(np.zeros((4, 68, 2))), video=sparse)
    found = {metric.name: metric.score(case) for metric in motion.metrics()}
    assert "1.0 were looked at" in found[DYNAMIC].why and "1.0 were looked at" in found[FASTEST].why
    assert found[SPEED].value == 0 and found[SIGNED].value == 0
    assert "1.0 were looked at" in found[SMOOTH].why
    assert "1/4 s or more" in scores(np.stack([TEXTURE] * 6), fps=24)[SMOOTH].why
    assert values(np.stack([TEXTURE] * 7), fps=24)[SMOOTH] == 1
    assert values(np.stack([TEXTURE] * 4), fps=1)[DYNAMIC] == 0  # its own rate, as VBench


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (400, 5), (16, 16)])
def test_odd_sizes(size):
    found = values(np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8))
    assert all(np.isfinite(value) for value in found.values())
