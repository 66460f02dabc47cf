"""Figures on real clips that docstrings of metrics quote: `MMJAX_MEASURE=1 pytest -s` prints them."""

import dataclasses

import numpy as np
import pytest

from mmjax.evaluation.metrics import expression, head_pose, motion, optical_flow, picture
from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.metrics.over_time import robust_range
from mmjax.evaluation.observation import Observation
from tests.helpers import face_pictures as fp
from tests.helpers import heads, real_clips
from tests.helpers.faces_of_clips import predictor, seen

DRIVING = [f"liveportrait/driving/d{number}.mp4" for number in (0, 3, 6, 9, 10, 11, 12, 13, 14, 18, 19, 20)]
OTHERS = [
    *["may/May_5s.mp4", "sadtalker/WDA_KatieHill_000.mp4", "carphone/carphone_pristine.mp4", "akiyo/akiyo_cif.mp4"],
    *["grid/GRID/bbaf2n.mpg", "pyfeat/single_face.mp4", "video_retalking/1.mp4"],
]

pytestmark = [
    pytest.mark.measures,
    pytest.mark.skipif(not (fp.DATA / "videos").is_dir(), reason="no MMJAX_TEST_DATA with videos"),
]


def test_flow_of_reduced_frames_against_full_size():
    """One in three frames of two seconds, as if they were 8 a second."""
    rows = []
    for clip in DRIVING[:8] + OTHERS:
        video = heads.video_of(real_clips.frames_of(clip, 17, step=3), 8.0)
        case = VideoToScore(Observation(video.frames.shape[1:3], video.seconds, video.numbers, 17, None), video=video)
        small, full = (
            [metric.score(case).value for metric in motion.metrics(full_size=size)] for size in (False, True)
        )
        rows.append((small, full))
        print(f"{clip:36} {' '.join(f'{a:8.3f} {b:8.3f}' for a, b in zip(small, full, strict=True))}")
    small, full = np.array(rows).transpose(1, 0, 2)
    for index, metric in enumerate(motion.metrics()):
        ratios = small[:, index] / np.maximum(full[:, index], 1e-9)
        same = np.mean(small[:, index] == full[:, index])
        print(f"{metric.name:28} ratio {ratios.min():.2f} {np.median(ratios):.2f} {ratios.max():.2f} same {same:.2f}")


PACED = [*DRIVING[:1], "liveportrait/driving/d9.mp4", "liveportrait/driving/d13.mp4", "liveportrait/driving/d19.mp4"]
PACED += [OTHERS[0], OTHERS[1], OTHERS[2], OTHERS[4]]


def test_motion_by_the_pace_of_frames():
    """Three seconds as if they had 24 frames a second, thinned: every figure by that of frames 1/8 s apart."""
    apart, found = (2, 3, 4, 5, 6), []
    flicker = picture.Flicker()
    for clip in PACED:
        frames = real_clips.frames_of(clip, 73)
        landmarks, small = seen(frames).landmarks, np.stack([optical_flow._reduced(frame, 192) for frame in frames])
        moved = [np.linalg.norm(landmarks[n:] - landmarks[:-n], axis=-1).mean() for n in apart]
        errors = [optical_flow.measure_motion(heads.video_of(small[::n], 8.0)).errors.mean() for n in apart]
        found.append([np.array(each) / each[1] for each in (moved, moved / np.array(apart), errors)])
        paces = [flicker.score(heads.case_of(None, video=heads.video_of(small[::n], 24 / n))).value for n in (1, 2, 3)]
        print(f"{clip:36} flicker at 24, 12 and 8 frames a second {np.round(paces, 3)}")
    for index, n in enumerate(apart):
        by_figure = np.array(found)[:, :, index].T
        print(f"{24 / n:4.1f} a second: " + ", ".join(
            f"{name} {np.median(each):.2f} ({each.min():.2f} to {each.max():.2f})"
            for name, each in zip(("landmarks", "brought to 1/8 s", "error"), by_figure, strict=True)
        ))  # fmt: skip


@pytest.mark.skipif(predictor() is None, reason="no dlib with face_recognition_models")
def test_five_landmarks_against_68_and_expression():
    """The first 75 frames, as if they were 25 a second."""
    ranges = []
    for clip in DRIVING + OTHERS:
        frames = real_clips.frames_of(clip, 75)
        case = heads.case_of(seen(frames), fps=25.0, size=frames.shape[1:3])
        faces, five = case.observation.faces, seen_without_points(case.observation.faces)
        both = [head_pose.head_poses(each, case.observation.size) for each in (faces, five)]
        ranges.append([[robust_range(poses[:, axis]) for axis in range(3)] for poses in both])
        found = [metric.score(case) for metric in expression.metrics()]
        print(f"{clip:36} {np.round(ranges[-1], 1).tolist()} {[round(score.value, 3) for score in found]}")
    dense, five = np.array(ranges).transpose(1, 0, 2)
    for index, axis in enumerate(head_pose.AXES):
        differs = np.median(np.abs(dense[:, index] - five[:, index]))
        alike = np.corrcoef(dense[:, index], five[:, index])[0, 1]
        print(f"{axis:6} median difference {differs:.1f}, correlation {alike:.2f}")


def seen_without_points(faces):
    return dataclasses.replace(faces, points=faces.points[:, :0])
