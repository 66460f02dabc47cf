"""A face that is swapped half-way, and one that is pasted: on real clips, likeness tells it and the rest holds.

`pytest -s` prints all metrics. A face is laid over another one by their five landmarks, with a soft border.
"""

import functools

import cv2
import numpy as np
import pytest

from mmjax import media
from mmjax.evaluation.metrics.copy_paste import CopyPaste
from mmjax.evaluation.metrics.identity import FramesWithoutFace, Identity, SimilarityDecay
from mmjax.evaluation.metrics.impostors import area_under_roc
from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.observation import Observation, Subject
from mmjax.faces.detection import alignment
from tests.evaluation import test_distortions as distortions
from tests.helpers import face_pictures as fp
from tests.helpers import heads
from tests.helpers.faces_of_clips import seen

CLIPS, HALF, GIVEN = list(distortions.CLIPS), distortions.FRAMES // 2, 2
METRICS = [Identity("mbf"), SimilarityDecay("mbf"), CopyPaste("mbf"), FramesWithoutFace(), *distortions.METRICS[1:]]
PEOPLE = 20  # of LFW

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (fp.DATA / "videos").is_dir(), reason="no MMJAX_TEST_DATA with videos"),
]


def wearing(frame, landmarks, picture, of):
    """The frame with the face of a picture, whose landmarks are `of`, over its own one."""
    to_frame = np.vstack([cv2.invertAffineTransform(alignment(landmarks)), [0, 0, 1]])
    to_its_place = (to_frame @ np.vstack([alignment(of), [0, 0, 1]]))[:2]
    mask = np.zeros((112, 112), np.float32)
    cv2.ellipse(mask, (56, 62), (38, 48), 0, 0, 360, 1, -1)
    mask = cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), 4), to_frame[:2], frame.shape[1::-1])[..., None]
    face = cv2.warpAffine(picture, to_its_place, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return (frame * (1 - mask) + face * mask).round().astype(np.uint8)


@functools.cache
def clip_and_faces(clip):
    frames, pictures = distortions.read(distortions.CLIPS[clip])
    return frames, seen(frames), pictures, seen(pictures)


@functools.cache
def scores(clip):
    """{distortion: {metric: score}}, printed."""
    frames, faces, pictures, known = clip_and_faces(clip)
    others, of_others, *_ = clip_and_faces(CLIPS[(CLIPS.index(clip) + 1) % len(CLIPS)])
    swapped, pasted = frames.copy(), frames.copy()
    for index, landmarks in enumerate(faces.landmarks):
        pasted[index] = wearing(frames[index], landmarks, pictures[GIVEN], known.landmarks[GIVEN])
        if index >= HALF:
            swapped[index] = wearing(frames[index], landmarks, others[index], of_others.landmarks[index])
    found = {
        name: {metric.name.removesuffix("/farneback"): metric.score(case_of(video, pictures)) for metric in METRICS}
        for name, video in {"as it is": frames, "swapped": swapped, "pasted": pasted}.items()
    }
    print(f"\n{clip:20}" + "".join(f"{name:>12}" for name in found))
    for name in found["as it is"]:
        values = [row[name].value for row in found.values()]
        print(f"{name:20}" + "".join(f"{'-' if value is None else format(value, '.4f'):>12}" for value in values))
    return found


def case_of(frames, pictures):
    """A video of these frames, made from the last of these pictures of its person."""
    video, faces, known = heads.video_of(frames, distortions.RATE), seen(frames), seen(pictures)
    sizes = [picture.shape[:2] for picture in pictures]
    observation = Observation(frames.shape[1:3], video.seconds, video.numbers, video.total, faces)
    subject = Subject("who", [str(index) for index in range(len(pictures))], sizes, known, given=len(pictures) - 1)
    return VideoToScore(observation, subject, video=video)


@pytest.fixture(params=CLIPS)
def clip(request):
    return request.param


def held(clip, distortion, names, rel=None, abs=None):
    """These metrics have the value that they have of the clip as it is, within bounds."""
    table = scores(clip)
    for name in names:
        assert table[distortion][name].value == pytest.approx(table["as it is"][name].value, rel=rel, abs=abs), name


def test_a_face_that_is_swapped_in_the_second_half_is_a_decay(clip):
    swapped, original = scores(clip)["swapped"], scores(clip)["as it is"]
    own, was = (np.array(each["identity/mbf"].series) for each in (swapped, original))
    print(f"first half {was[:HALF].mean():.3f} to {own[:HALF].mean():.3f}, second to {own[HALF:].mean():.3f}")
    assert own[:HALF].tolist() == was[:HALF].tolist() and own[HALF:].max() < was.min() - 0.2
    assert swapped["decay/mbf"].value > 0.5 > 0.05 > abs(original["decay/mbf"].value)


def test_a_face_that_is_swapped_leaves_the_rest_as_it_is(clip):
    held(clip, "swapped", ["no_face", "dynamic_degree", "smoothness", "clipping"], abs=0.005)
    held(clip, "swapped", ["copy_paste/mbf", "blockiness"], abs=0.05)
    held(clip, "swapped", ["fm_inter", "fastest_motion", "mean_speed", "signed_amplitude"], rel=0.2)
    held(clip, "swapped", ["face_sharpness", "frame_sharpness"], rel=0.1)
    held(clip, "swapped", ["flicker"], abs=0.15)


def test_a_clip_that_pastes_its_reference_has_a_high_copy_paste_index(clip):
    found = {name: row["copy_paste/mbf"].value for name, row in scores(clip).items()}
    real = max(abs(scores(each)["as it is"]["copy_paste/mbf"].value) for each in CLIPS)
    assert found["pasted"] > found["as it is"] + 0.08 and found["pasted"] > real + 0.03


def test_a_clip_that_pastes_its_reference_moves_as_it_did(clip):
    held(clip, "pasted", ["no_face", "dynamic_degree", "smoothness", "clipping"], abs=0.005)
    held(clip, "pasted", ["decay/mbf", "blockiness", "flicker"], abs=0.08)
    held(clip, "pasted", ["fm_inter", "fastest_motion", "mean_speed", "signed_amplitude"], rel=0.15)
    held(clip, "pasted", ["face_sharpness", "frame_sharpness"], rel=0.03)


@fp.needs_faces
def test_the_index_of_another_photo_is_about_0_and_that_of_the_given_one_is_not():
    """People of LFW with five photos: references are three of them, the video is a fourth one or the given one."""
    folders = sorted({path.parent for path in fp.LFW.rglob("*_0005.jpg")})
    real, pasted = [], []
    for number in media.spread(PEOPLE, len(folders)):
        photos = [fp.read(path) for path in sorted(folders[number].glob("*.jpg"))[:4]]
        for values, photo in ((real, photos[0]), (pasted, np.roll(photos[-1], 3, axis=1))):
            values.append(CopyPaste("mbf").score(case_of(photo[None], photos[1:])).value)
    area = area_under_roc(np.array(pasted), np.array(real))
    print(f"another photo {np.mean(real):+.3f} +- {np.std(real):.3f}, the given one {np.mean(pasted):+.3f} +- "
          f"{np.std(pasted):.3f}, area {area:.3f}")  # fmt: skip
    assert abs(np.mean(real)) < 0.06 and np.mean(pasted) > np.mean(real) + 3 * np.std(real) and area > 0.98
