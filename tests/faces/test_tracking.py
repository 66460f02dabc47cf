"""Faces are followed from look to look, through looks that miss them, and never into another face."""

import cv2
import numpy as np
import pytest

from mmjax.faces.detection import Face
from mmjax.faces.tracking import track_faces
from tests.helpers import face_pictures as fp
from tests.helpers import real_clips

LANDMARKS = np.array([[205, 113], [245, 110], [228, 130], [213, 150], [246, 148]], np.float32)  # of the astronaut
BOX = np.array([180, 60, 270, 180], np.float32)
EYES = float(np.linalg.norm(LANDMARKS[1] - LANDMARKS[0]))


def truth(count, path):
    """Where the face is in every frame; `path` gives the shift (x, y) of a frame."""
    return [Face(BOX + np.tile(path(index), 2), LANDMARKS + path(index), 0.9) for index in range(count)]


def filmed(count, path):
    """The astronaut moved along a path by shares of a pixel."""
    picture = fp.astronaut()
    shifts = (np.float32([[1, 0, x], [0, 1, y]]) for x, y in (path(index) for index in range(count)))
    return np.stack([cv2.warpAffine(picture, shift, (512, 512), borderMode=cv2.BORDER_REFLECT) for shift in shifts])


def swing(index):
    """Back and forth in twelve frames, as a head shakes: nothing like a straight line between looks."""
    return np.array([20 * np.sin(index / 12 * 2 * np.pi), 8 * np.cos(index / 12 * 2 * np.pi)], np.float32)


class Detector:
    """Finds the faces that it is told of, and remembers when it was asked."""

    def __init__(self, frames, faces):
        self.frames, self.faces, self.asked = frames, faces, []

    def __call__(self, picture, like=None):
        index = next(index for index, frame in enumerate(self.frames) if frame is picture or (frame == picture).all())
        self.asked.append((index, like is not None))
        return sorted(self.faces[index], key=lambda face: -face.area)


def tracked(frames, faces, every=4):
    return track_faces(frames, Detector(frames, faces), every)


def still(count):
    """Frames that differ in one pixel, so that a detector can tell them apart."""
    frames = np.zeros((count, 192, 192, 3), np.uint8)
    frames[np.arange(count), 0, 0, 0] = np.arange(count)
    return frames


def at(x, y=100, side=40.0, score=0.9):
    """A face of some size and place; its box is `side` high."""
    scale = side / (BOX[3] - BOX[1])
    shift = np.array([x, y], np.float32)
    return Face((BOX - np.tile(BOX[:2], 2)) * scale + np.tile(shift, 2), (LANDMARKS - BOX[:2]) * scale + shift, score)


def test_landmarks_follow_the_pixels_between_two_looks():
    frames, faces = filmed(25, swing), truth(25, swing)
    (track,) = tracked(frames, [[face] for face in faces], every=6)
    errors = np.array(
        [np.linalg.norm(track.landmarks[index] - face.landmarks, axis=1).mean() for index, face in enumerate(faces)]
    )
    boxes = np.array([np.abs(track.boxes[index] - face.box).max() for index, face in enumerate(faces)])
    looks = np.arange(0, 25, 6)
    straight = np.stack([np.interp(np.arange(25), looks, [swing(look)[axis] for look in looks]) for axis in (0, 1)], 1)
    line = np.linalg.norm(straight - [swing(index) for index in range(25)], axis=1)
    print(f"off by {errors.mean():.2f} pixels, at most {errors.max():.2f}; on a straight line {line.mean():.2f}")
    assert errors[looks].max() == 0 and errors.max() < 0.5 and boxes.max() < 0.5
    assert line.max() > 10 * errors.max()
    assert track.present.all() and track.scores == pytest.approx(0.9)


def test_the_detector_looks_at_every_few_frames_and_the_last():
    frames = still(15)
    detector = Detector(frames, [[at(10)]] * 15)
    track_faces(frames, detector, 4)
    assert detector.asked == [(0, False), (4, True), (8, True), (12, True), (14, True)]


def test_a_quick_look_that_loses_the_face_is_followed_by_a_thorough_one():
    frames = still(9)
    detector = Detector(frames, [[at(10)]] * 4 + [[]] + [[at(10)]] * 4)
    (track,) = track_faces(frames, detector, 4)
    assert detector.asked == [(0, False), (4, True), (4, False), (8, True)]
    assert track.present.all()


@pytest.mark.parametrize("missed, tracks", [(1, 1), (2, 2)])
def test_a_face_may_be_missed_once(missed, tracks):
    frames = still(17)
    faces = [[at(10, score=0.5)]] + [[]] * (4 * missed) + [[at(14)]] * (16 - 4 * missed)
    found = tracked(frames, faces)
    assert len(found) == tracks
    if tracks == 1:
        assert found[0].present.all()
        assert found[0].scores[4] == pytest.approx(0.7)
        np.testing.assert_allclose(found[0].boxes[4], at(12).box, atol=1e-3)


def test_two_faces_stay_apart_and_the_larger_is_first():
    """They pass each other's height, and the detector names them in any order."""
    frames = still(9)
    left, right = ([at(x, y, side) for y in range(40, 40 + 9 * 3, 3)] for x, side in ((0, 30.0), (60, 40.0)))
    tracks = tracked(frames, [list(pair) for pair in zip(left, right, strict=True)])
    assert len(tracks) == 2
    np.testing.assert_allclose(tracks[0].boxes[[0, 4, 8]], [face.box for face in right[::4]])
    np.testing.assert_allclose(tracks[1].boxes[[0, 4, 8]], [face.box for face in left[::4]])


@pytest.mark.parametrize("other", [at(60), at(10, side=80.0)])
def test_a_face_elsewhere_or_of_another_size_is_another_one(other):
    first, second = tracked(still(9), [[at(10)]] * 4 + [[other]] * 5)
    one, another = sorted((first, second), key=lambda track: not track.present[0])
    assert one.present.tolist() == [True] + [False] * 8
    assert another.present.tolist() == [False] * 4 + [True] * 5
    assert np.isnan(one.boxes[1:]).all() and np.isnan(another.landmarks[:4]).all()


def test_a_short_visit_counts_for_less_than_a_smaller_face_that_stays():
    frames = still(9)
    faces = [[at(0, side=30.0)] for _ in range(9)]
    faces[8] = [*faces[8], at(60, side=50.0)]
    assert tracked(frames, faces)[0].present.all()


def test_nobody_and_a_single_frame():
    assert tracked(still(5), [[]] * 5) == []
    (track,) = tracked(still(1), [[at(10)]])
    assert track.boxes.shape == (1, 4) and track.present.all()


def test_a_face_may_leave_the_frame():
    faces = [[at(100 + 2 * index, 180 + 3 * index)] for index in range(9)]
    (track,) = tracked(still(9), faces)
    np.testing.assert_allclose(track.boxes[[0, 4, 8]], [face[0].box for face in faces[::4]], rtol=1e-6)


def test_a_point_that_gets_lost_goes_straight():
    """Between the looks there is nothing but noise."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 512, 512, 3), dtype=np.uint8)
    faces = truth(5, lambda index: np.array([2.0 * index, 0], np.float32))
    (track,) = tracked(frames, [[face] for face in faces])
    np.testing.assert_allclose(track.landmarks, [face.landmarks for face in faces], atol=1e-3)


@fp.needs_faces
@pytest.mark.parametrize(
    "clip, overlap, landmarks",
    [
        ("carphone/carphone_pristine.mp4", 0.96, 0.045),
        ("may/May_5s.mp4", 0.96, 0.035),
        ("grid/GRID/sbwe5n.mpg", 0.98, 0.01),
    ],
)
def test_tracks_agree_with_detection_in_every_frame(clip, overlap, landmarks):
    frames = real_clips.frames_of(clip, 49)
    detect = fp.tools().detect
    track = track_faces(frames, detect, 4)[0]
    faces = [detect(frame)[0] for frame in frames]
    eyes = np.mean([np.linalg.norm(face.landmarks[1] - face.landmarks[0]) for face in faces])
    error = np.linalg.norm(track.landmarks - [face.landmarks for face in faces], axis=-1).mean() / eyes
    overlaps = [iou(box, face.box) for box, face in zip(track.boxes, faces, strict=True)]
    print(f"{clip}: IoU {np.mean(overlaps):.3f}, landmarks off by {error:.3f} eye distances")
    assert track.present.all()
    assert np.mean(overlaps) > overlap and error < landmarks


@fp.needs_faces
def test_boxes_are_those_of_consisid():
    """Its training sample names a box of the face in each of 244 frames, by another detector."""
    boxes = real_clips.consisid_boxes()
    frames = real_clips.frames_of(real_clips.CONSISID_CLIP, len(boxes))
    track = track_faces(frames, fp.tools().detect, 4)[0]
    overlaps = [iou(box, other) for box, other in zip(track.boxes, boxes, strict=True)]
    print(f"ConsisID's boxes: IoU {np.mean(overlaps):.3f}, at least {np.min(overlaps):.3f}")
    assert min(overlaps) > 0.88


def iou(a, b):
    """Intersection over union of two boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(width, 0) * max(height, 0)
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)
