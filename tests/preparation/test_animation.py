"""Clips drawn from one photograph: what moves is where it is said to be, nothing folds, the face stays the person's."""

import dataclasses

import cv2
import numpy as np
import pytest

from mmjax.errors import ConfigError, DataError
from mmjax.evaluation.metrics.expression import eye_aspect_ratio
from mmjax.faces import dlib_faces
from mmjax.faces.detection import align
from mmjax.faces.embeddings import cosine_similarity
from mmjax.preparation.animation.clip import _Stage, _turns, _views, animate
from mmjax.preparation.animation.head import HeadField
from mmjax.preparation.animation.motion import STILL, Amplitudes, Motion, draw_motion
from mmjax.preparation.animation.mouth import Mouth
from mmjax.preparation.animation.placing import MEAN_FACE, place_face
from tests.helpers import face_pictures as fp

SIDE = 192
FIVE = np.array([[70, 80], [122, 80], [96, 104], [75, 134], [117, 134]], float)  # eyes, nose, corners of the mouth
BOX = np.array([52, 50, 140, 160], float)
ALL = Amplitudes(talk=1.0)
needs_dlib = pytest.mark.skipif(not dlib_faces.is_installed(), reason="dlib is not installed")


def points():
    """68 points of a face at `FIVE`, seen from the front."""
    return place_face(FIVE).seen(MEAN_FACE)[:, :2]


def dotted(places):
    """Soft grey stripes, a bright dot at each place."""
    rows, columns = np.indices((SIDE, SIDE))
    picture = 90 + 10 * np.sin(rows / 17) + 10 * np.cos(columns / 23)
    for x, y in places:
        picture = np.maximum(picture, 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8))
    return np.repeat(picture.astype(np.uint8)[..., None], 3, -1)


def dot_near(frame, place):
    """Centre of the brightness within six pixels of a place."""
    rows, columns = np.indices(frame.shape[:2])
    near = np.hypot(columns - place[0], rows - place[1]) < 6
    weight = np.clip(frame[..., 0].astype(float) - 130, 0, None) * near
    assert weight.sum() > 300, "the dot is not there"
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def posed(**values):
    """A motion of one frame."""
    still = draw_motion(1, 8, 0, STILL)
    return dataclasses.replace(still, **{name: np.atleast_1d(np.float64(value)) for name, value in values.items()})


def test_without_motion_every_frame_is_the_photograph():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 40, 3), np.uint8)
    clip = animate(picture, FIVE, BOX, frames=3, fps=8, seed=5, points=points(), most=STILL)
    np.testing.assert_array_equal(clip.frames, [picture] * 3)
    np.testing.assert_allclose(clip.landmarks, [FIVE] * 3, atol=1e-4)
    np.testing.assert_allclose(clip.boxes, [BOX] * 3, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_go_where_the_pixels_go(seed):
    """Dots that are painted on the landmarks are found in every frame; lids would cover those on the eyes."""
    clip = animate(dotted(FIVE), FIVE, BOX, 9, 8, seed, points(), dataclasses.replace(ALL, blink=0.0))
    away = [
        np.linalg.norm(dot_near(frame, place) - place)
        for frame, places in zip(clip.frames, clip.landmarks, strict=True)
        for place in places
    ]
    assert np.max(away) < 0.8 and np.mean(away) < 0.25
    assert np.ptp(clip.landmarks, axis=0).max() > 2, "nothing moved"


def test_the_same_seed_gives_the_same_clip():
    picture = dotted(FIVE)
    one, same, other = (animate(picture, FIVE, BOX, 5, 8, seed, points()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.frames, same.frames)
    np.testing.assert_array_equal(one.landmarks, same.landmarks)
    assert (one.frames != other.frames).any()


def test_five_landmarks_alone_neither_talk_nor_blink():
    features = dataclasses.replace(STILL, mouth=0.2, talk=1.0, blink=3.0)
    picture = dotted(FIVE)
    assert (animate(picture, FIVE, BOX, 9, 8, 0, most=features).frames == picture).all()
    assert (animate(picture, FIVE, BOX, 9, 8, 0, points(), features).frames != picture).any()


@pytest.mark.parametrize("turn", [(16, 10, 6), (-16, 10, -6), (16, -10, 6), (-16, -10, -6)])
def test_the_farthest_turns_do_not_fold_the_picture(turn):
    for landmarks in (FIVE, FIVE + [[0, 0], [0, 0], [9, 0], [3, 0], [3, 0]]):  # from the front, and turned aside
        face = place_face(landmarks)
        head = HeadField(face, (SIDE, SIDE))
        field = head.forward(_turns(posed(turn=[turn]), face)[0], np.array([0.2, 0.1]))
        across, down = (np.gradient(head._places + field, head._cell, axis=axis) for axis in (1, 0))
        areas = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
        assert areas.min() > 0.2
        back = head.backward(field)
        sources = head._places + back
        within = ((sources >= 0) & (sources <= SIDE)).all(-1)
        assert np.abs(head.at(field, sources) + back)[within].max() < 0.5  # pixels


def test_what_is_drawn_keeps_within_its_amplitudes():
    for seed in range(30):
        motion = draw_motion(49, 8, seed, ALL)
        assert (np.abs(motion.turn) <= [ALL.yaw, ALL.pitch, ALL.roll]).all()
        assert (np.abs(motion.sway) <= ALL.sway).all() and (np.abs(motion.pan) <= ALL.pan).all()
        assert (np.abs(motion.smile) <= 1).all() and (np.abs(motion.brows) <= 1).all()
        assert (motion.mouth >= 0).all() and motion.mouth.max() <= ALL.mouth
        assert (motion.shut >= 0).all() and motion.shut.max() <= 1
        assert np.abs(np.diff(motion.turn, axis=0)).max() < 12  # degrees from one frame to the next
    blinks = [draw_motion(80, 8, seed, ALL).shut for seed in range(60)]
    begun = sum(((shut[1:] > 0.5) & (shut[:-1] <= 0.5)).sum() for shut in blinks)
    assert 60 <= begun <= 200  # in 600 s at 0.3 a second, and a second of rest behind each


def test_no_frame_looks_past_the_photographs_edge():
    edge = np.array([250.0, 180.0])
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * edge
    for seed in range(20):
        motion = draw_motion(17, 8, seed, Amplitudes(pan=0.2, zoom=0.3, tilt=10))
        for view in _views(motion, edge, 1.0):
            seen = (corners - view[:, 2]) @ np.linalg.inv(view[:, :2]).T
            assert (seen > -1e-6).all() and (seen < edge + 1e-6).all()


def test_a_face_that_fills_the_photograph_stays_in_every_frame():
    picture = np.ascontiguousarray(dotted(FIVE)[40:170, 40:152])
    shift = np.array([40, 40])
    most = dataclasses.replace(STILL, pan=0.3, zoom=0.3, tilt=8)
    clip = animate(picture, FIVE - shift, BOX - np.tile(shift, 2), 17, 8, 1, points() - shift, most)
    assert (clip.landmarks >= 0).all() and (clip.landmarks < [112, 130]).all()


def test_a_head_that_is_photographed_from_the_side_is_not_turned():
    aside = FIVE + [[12, 0], [-12, 0], [30, 0], [12, 0], [-6, 0]]
    most = dataclasses.replace(STILL, yaw=16)
    moved = np.ptp(animate(dotted(aside), aside, BOX, 17, 8, 0, most=most).landmarks, axis=0).max()
    assert moved < 0.3 * np.ptp(animate(dotted(FIVE), FIVE, BOX, 17, 8, 0, most=most).landmarks, axis=0).max()


def test_points_that_are_not_on_the_landmarks_count_for_nothing():
    face, astray = place_face(FIVE, points() + [0.1 * 52, 0]), place_face(FIVE, points() + [0.2 * 52, 0])
    assert face.own and not astray.own
    np.testing.assert_allclose(astray.points, points())


def test_an_open_mouth_closes_in_speech():
    open_ = points()
    open_[[65, 66, 67]] += [0, 12]
    mouth = Mouth(place_face(FIVE, open_), dotted(FIVE).astype(np.float32))
    assert mouth.opened > 0.15 and mouth.opening(0.0) < -0.1
    assert -mouth.opened < mouth.opening(0.0) and mouth.opened + mouth.opening(1.0) <= 0.3 + 1e-6


@pytest.mark.parametrize(
    "change, error, said",
    [
        (dict(landmarks=FIVE * np.nan), DataError, "expected 5 finite points"),
        (dict(landmarks=FIVE[:3]), DataError, "expected 5 finite points"),
        (dict(landmarks=FIVE * 0.01), DataError, "expected eyes 2 pixels apart or more, found 0.52"),
        (dict(points=np.zeros((5, 2))), DataError, "points of a face to animate: expected 68 finite points"),
        (dict(picture=np.zeros((9, 9), np.uint8)), DataError, "expected RGB pixels"),
        (dict(picture=np.zeros((9, 9, 3))), DataError, "expected RGB pixels, .* found float64"),
        (dict(frames=0), ConfigError, "frames = 0"),
        (dict(fps=0.0), ConfigError, "fps = 0"),
        (dict(seed=-1), ConfigError, "seed = -1"),
    ],
)
def test_what_cannot_be_animated_is_named(change, error, said):
    usual = dict(picture=dotted(FIVE), landmarks=FIVE, box=BOX, frames=2, fps=8.0, seed=0)
    with pytest.raises(error, match=said):
        animate(**usual | change)


def portrait():
    """(the astronaut, 256 pixels, her face, dlib's points or None)."""
    picture = cv2.resize(fp.astronaut()[20:220, 124:324], (256, 256), interpolation=cv2.INTER_CUBIC)
    face = fp.main_face(picture)
    return picture, face, dlib_faces.landmarks68(picture, face) if dlib_faces.is_installed() else None


@fp.needs_pack
def test_a_real_face_stays_the_persons_and_where_it_is_said_to_be():
    picture, face, found = portrait()
    clip = animate(picture, face.landmarks, face.box, 9, 8, 3, found)
    eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    for frame, landmarks, box in zip(clip.frames, clip.landmarks, clip.boxes, strict=True):
        seen = fp.main_face(frame)
        assert np.linalg.norm(seen.landmarks - landmarks, axis=1).mean() < 0.07 * eyes
        assert np.abs(seen.box - box).max() < 0.3 * eyes
    aligned = [align(frame, landmarks) for frame, landmarks in zip(clip.frames, clip.landmarks, strict=True)]
    embedded = fp.embed(np.stack([align(picture, face.landmarks), *aligned]))
    assert cosine_similarity(embedded[:1], embedded[1:]).min() > 0.85


def _eye(found, first):
    """Outlines, in whole pixels, of an eye and of the skin between its upper lid and the brow."""
    outline = found[first : first + 6]
    height = [0, 0.5 * np.ptp(outline[:, 0])]
    return np.round(outline).astype(np.int32), np.round(
        outline[1:3].repeat(2, 0) - np.outer([1, 0.5, 0.5, 1], height)
    ).astype(np.int32)


@fp.needs_pack
@needs_dlib
def test_a_real_mouth_opens_and_real_eyes_shut_with_the_colour_of_skin():
    picture, face, found = portrait()
    looks = {}
    for name, motion in {"rest": {}, "open": {"mouth": 0.2}, "shut": {"shut": 1.0}}.items():
        frame = _Stage(picture, place_face(face.landmarks, found), posed(**motion)).shoot(0)
        looks[name] = frame, dlib_faces.landmarks68(frame, face)
    eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    lips = {name: np.linalg.norm(seen[66] - seen[62]) / eyes for name, (_, seen) in looks.items()}
    assert lips["open"] > lips["rest"] + 0.08
    ratio = {name: eye_aspect_ratio(seen[None])[0] for name, (_, seen) in looks.items()}
    assert ratio["shut"] < 0.75 * ratio["rest"]
    for first in (36, 42):
        eye, above = (cv2.fillConvexPoly(np.zeros((256, 256), np.uint8), each, 1) > 0 for each in _eye(found, first))
        skin = np.median(picture[above], axis=0)
        opened, shut = (np.abs(looks[name][0][eye] - skin).max(-1) for name in ("rest", "shut"))
        assert np.median(shut) < 0.6 * np.median(opened), "the lid has not the colour of the skin above it"


def test_a_motion_has_a_value_for_each_frame():
    motion = draw_motion(7, 8, 0, ALL)
    assert {len(getattr(motion, field.name)) for field in dataclasses.fields(Motion)} == {7}
