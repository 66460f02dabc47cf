"""Known distortions of real clips move the metrics that they should, and not the others.

Faces that are swapped or pasted are in test_face_distortions.py. `pytest -s` prints all metrics by all distortions.
Five landmarks are scrfd_500m's; with dlib installed its 68 points are there too, and expression is measured.
"""

import functools

import cv2
import numpy as np
import pytest

from mmjax.evaluation.metrics import expression, face_motion, head_pose, motion, picture
from mmjax.evaluation.metrics.identity import Identity
from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.observation import Observation, Subject
from mmjax.video import open_video
from tests.helpers import face_pictures as fp
from tests.helpers import heads
from tests.helpers.faces_of_clips import predictor, seen

CLIPS = {  # below videos/; each a person who moves and talks, of 512x512, 512x512 and 176x144 pixels
    "hill": "sadtalker/WDA_KatieHill_000.mp4",
    "may": "may/May_5s.mp4",
    "carphone": "carphone/carphone_pristine.mp4",
}
FRAMES, STEP, RATE = 16, 3, 8.0  # one in three frames of about 25 a second
LATER = (60, 75, 90)  # frames that stand for the person's pictures
METRICS = [
    *[Identity("mbf"), *face_motion.metrics(), *head_pose.metrics(), *expression.metrics()],
    *[*motion.metrics(), *picture.metrics()],
]
HEAD = ("head_yaw", "head_pitch", "head_roll")
FLOW = ("fastest_motion", "mean_speed")
SHARPNESS = ("face_sharpness", "frame_sharpness")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (fp.DATA / "videos").is_dir(), reason="no MMJAX_TEST_DATA with videos"),
]


def flickering(frames, faces):
    signs = np.resize([8, -8], len(frames))[:, None, None, None]
    return np.clip(frames.astype(np.int16) + signs, 0, 255).astype(np.uint8)


def with_blurred_faces(frames, faces):
    """Out of focus within the face's box and a little beyond, with a soft border."""
    out = []
    for frame, (left, top, right, bottom) in zip(frames, faces.boxes, strict=True):
        side = right - left
        mask = np.zeros(frame.shape[:2], np.float32)
        middle = int((left + right) / 2), int((top + bottom) / 2)
        cv2.ellipse(mask, middle, (int(0.6 * side), int(0.6 * (bottom - top))), 0, 0, 360, 1, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 0.05 * side)[..., None]
        out.append(frame * (1 - mask) + cv2.GaussianBlur(frame, (0, 0), 0.03 * side) * mask)
    return np.stack(out).round().astype(np.uint8)


def halved(frames, faces):
    return np.stack([cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames])


DISTORTIONS = {
    "as it is": lambda frames, faces: frames,
    "frozen": lambda frames, faces: frames[[0] * len(frames)],
    "mirrored": lambda frames, faces: np.ascontiguousarray(frames[:, :, ::-1]),
    "shuffled": lambda frames, faces: frames[np.random.default_rng(0).permutation(len(frames))],
    "face blurred": with_blurred_faces,
    "flicker": flickering,
    "half size": halved,
    "JPEG 8": lambda frames, faces: np.stack([fp.compressed(frame, 8) for frame in frames]),
    "overexposed": lambda frames, faces: np.stack([fp.overexposed(frame, 1.7) for frame in frames]),
}


@functools.cache
def tables():
    """{clip: {distortion: {metric: value}}}, printed."""
    found = {clip: scored(file) for clip, file in CLIPS.items()}
    for clip, table in found.items():
        print(f"\n{clip:28}" + "".join(f"{name:>13}" for name in table))
        for name in table["as it is"]:
            values = [row[name] for row in table.values()]
            print(f"{name:28}" + "".join(f"{'-' if value is None else format(value, '.4f'):>13}" for value in values))
    return found


def scored(file):
    frames, later = read(file)
    original = seen(frames)
    subject = Subject("who", [str(index) for index in LATER], [later.shape[1:3]] * len(later), seen(later))
    table = {}
    for distortion, distort in DISTORTIONS.items():
        video = heads.video_of(distort(frames, original), RATE)
        faces = seen(video.frames)
        observation = Observation(video.frames.shape[1:3], video.seconds, video.numbers, video.total, faces)
        case = VideoToScore(observation, subject, video=video)
        table[distortion] = {metric.name.removesuffix("/farneback"): metric.score(case).value for metric in METRICS}
    return table


def read(file) -> tuple[np.ndarray, np.ndarray]:
    """The frames of the clip, and later ones of the same person."""
    wanted = [*range(0, FRAMES * STEP, STEP), *LATER]
    with open(fp.DATA / "videos" / file, "rb") as stream, open_video(stream) as video:
        frames = [pixels for index, (_, pixels) in zip(range(wanted[-1] + 1), video.frames(), strict=False)]
    return np.stack([frames[index] for index in wanted[:FRAMES]]), np.stack([frames[index] for index in LATER])


@pytest.fixture(params=CLIPS)
def clip(request):
    return request.param


def held(clip, distortion, names, rel=None, abs=None):
    """These metrics have the value that they have of the clip as it is, within bounds."""
    table = tables()[clip]
    for name in names:
        assert table[distortion][name] == pytest.approx(table["as it is"][name], rel=rel, abs=abs), name


def test_a_frozen_video_moves_nothing_and_is_the_same_person(clip):
    frozen, original = tables()[clip]["frozen"], tables()[clip]["as it is"]
    for name in ("fm_inter", *HEAD, "dynamic_degree", *FLOW, "signed_amplitude", "flicker"):
        assert frozen[name] == 0, name
        assert original[name] > 0, name
    assert frozen["smoothness"] == 1
    held(clip, "frozen", ["identity/mbf"], abs=0.05)
    held(clip, "frozen", SHARPNESS, rel=0.08)


def test_a_mirrored_video_is_turned_the_other_way_from_the_reference_alone(clip):
    mirrored, original = tables()[clip]["mirrored"], tables()[clip]["as it is"]
    assert mirrored["fm_ref"] > 1.5 * original["fm_ref"]
    held(clip, "mirrored", ["identity/mbf"], abs=0.02)
    held(clip, "mirrored", ["fm_inter"], rel=0.1)
    held(clip, "mirrored", HEAD, abs=3 if predictor() else 7)  # a detector's landmarks are not mirrored with the face
    held(clip, "mirrored", ["dynamic_degree", "smoothness", "blockiness", "flicker", "clipping"], abs=1e-3)
    held(clip, "mirrored", [*FLOW, *SHARPNESS], rel=0.03)


def test_shuffled_frames_are_no_smooth_motion_and_otherwise_the_same(clip):
    shuffled, original = tables()[clip]["shuffled"], tables()[clip]["as it is"]
    assert 1 - shuffled["smoothness"] > 1.8 * (1 - original["smoothness"])
    for name in ("fm_inter", *FLOW):
        assert shuffled[name] > 2 * original[name], name
    held(clip, "shuffled", ["identity/mbf", "fm_ref", *HEAD, *SHARPNESS, "blockiness", "clipping"], rel=1e-6)


def test_a_blurred_face_is_soft_and_the_rest_holds(clip):
    blurred, original = tables()[clip]["face blurred"], tables()[clip]["as it is"]
    assert blurred["face_sharpness"] < 0.65 * original["face_sharpness"]
    held(clip, "face blurred", ["frame_sharpness", "fm_inter", *FLOW], rel=0.15)
    held(clip, "face blurred", ["fm_ref", "smoothness"], abs=0.015)
    held(clip, "face blurred", ["dynamic_degree", "blockiness", "flicker", "clipping"], abs=0.05)


def test_flicker_is_seen_in_flicker_and_in_smoothness_alone(clip):
    flicker, original = tables()[clip]["flicker"], tables()[clip]["as it is"]
    assert flicker["flicker"] > 10 + original["flicker"]
    assert flicker["smoothness"] < original["smoothness"] - 0.03
    held(clip, "flicker", ["identity/mbf", "fm_ref", "blockiness"], abs=0.01)
    held(clip, "flicker", ["fm_inter", *FLOW, "signed_amplitude", *SHARPNESS], rel=0.03)
    held(clip, "flicker", HEAD, abs=2)
    held(clip, "flicker", ["dynamic_degree", "clipping"], abs=0.02)


@pytest.mark.parametrize("clip", ["hill", "may"])  # the third has a face of 60 pixels, and then of 30
def test_half_the_size_changes_opens2vs_amplitude_alone(clip):
    half, original = tables()[clip]["half size"], tables()[clip]["as it is"]
    assert half["signed_amplitude"] == pytest.approx(original["signed_amplitude"] / 2, rel=0.05)
    held(clip, "half size", ["identity/mbf", "fm_ref", "smoothness", "clipping"], abs=0.01)
    held(clip, "half size", ["dynamic_degree", "flicker"], abs=0.05)
    held(clip, "half size", ["fm_inter", *FLOW, *SHARPNESS], rel=0.05)
    held(clip, "half size", HEAD, abs=3)


def test_compression_makes_blocks_and_light_clips(clip):
    table = tables()[clip]
    original = table["as it is"]
    assert table["JPEG 8"]["blockiness"] > 1 + original["blockiness"]
    assert table["overexposed"]["clipping"] > 0.1 + original["clipping"]
    held(clip, "JPEG 8", ["clipping"], abs=0.03)
    held(clip, "JPEG 8", SHARPNESS, rel=0.1)
    held(clip, "overexposed", ["blockiness"], abs=0.05)


@pytest.mark.skipif(predictor() is None, reason="no dlib with face_recognition_models")
def test_expression_is_measured_where_there_are_points_for_it(clip):
    for name in ("mouth_opening", "expression"):  # blinks want two seconds of a face
        assert tables()[clip]["frozen"][name] == pytest.approx(0, abs=1e-9)
    held(clip, "mirrored", ["mouth_opening"], abs=0.07)
    held(clip, "mirrored", ["expression"], rel=0.2)
    held(clip, "shuffled", ["mouth_opening", "expression"], rel=1e-6)
