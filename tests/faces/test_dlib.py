"""dlib's embedder against the package `face_recognition` itself, and its 68 landmarks from our detector's faces."""

import functools
import importlib.util

import numpy as np
import pytest

from mmjax.errors import CheckpointError
from mmjax.faces import dlib_faces
from mmjax.faces.dlib_faces import landmarks68, load_dlib
from mmjax.faces.embeddings import cosine_similarity
from tests.helpers import face_pictures as fp
from tests.helpers.real_clips import middle_frames

CLIPS = 20
needs_dlib = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models")),
    reason="dlib is not installed: pip install 'mmjax[dlib]'",
)
needs_package = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models", "face_recognition")),
    reason="face_recognition is not installed: pip install 'mmjax[dlib]', pip install --no-deps face_recognition",
)


@functools.cache
def frames():
    return middle_frames(CLIPS)


@needs_dlib
def test_it_finds_and_embeds_the_largest_face_of_each_frame():
    picture = fp.astronaut()
    embed = load_dlib()
    found = embed([picture, np.zeros_like(picture), picture[:, ::-1], fp.read(fp.SIX)], [None] * 4)
    assert found.shape == (4, 128) and np.isnan(found).all(axis=1).tolist() == [False, True, False, False]
    same, other = cosine_similarity(found[[0]], found[[2, 3]])[0]
    print(f"cosine to the mirrored picture {same:.3f}, to somebody else {other:.3f}")
    assert same > 0.95 > 0.9 > other
    assert embed.detects and embed.name == "dlib" and embed.fingerprint == load_dlib().fingerprint
    assert embed([], []).shape == (0, 128)


@pytest.mark.slow
@needs_package
@fp.needs_faces
def test_embeddings_are_those_of_face_recognition_on_20_clips():
    """Measured: equal to the last bit; a face in each of the 20 frames."""
    import face_recognition

    found = load_dlib()(list(frames().values()), [None] * CLIPS)
    seen = 0
    for (name, frame), mine in zip(frames().items(), found, strict=True):
        boxes = face_recognition.face_locations(frame)
        assert np.isnan(mine).all() == (not boxes), name
        if boxes:
            largest = max(boxes, key=lambda box: (box[1] - box[3]) * (box[2] - box[0]))
            np.testing.assert_array_equal(mine, face_recognition.face_encodings(frame, [largest])[0], name)
            seen += 1
    print(f"a face in {seen} of {len(found)} frames")
    assert seen == CLIPS


@pytest.mark.slow
@needs_package
@fp.needs_faces
def test_landmarks_from_our_detector_are_near_those_of_face_recognition():
    """Measured on these clips: median 1.0 %, largest 2.0 % of the distance between the eyes."""
    from face_recognition.api import _raw_face_landmarks, face_locations

    errors = []
    for frame in frames().values():
        boxes, faces = face_locations(frame), fp.tools().detect(frame)
        if not (boxes and faces):
            continue
        largest = max(boxes, key=lambda box: (box[1] - box[3]) * (box[2] - box[0]))
        theirs = np.array([(point.x, point.y) for point in _raw_face_landmarks(frame, [largest])[0].parts()])
        eyes = np.linalg.norm(theirs[36:42].mean(0) - theirs[42:48].mean(0))
        errors.append(np.linalg.norm(landmarks68(frame, faces[0]) - theirs, axis=1).mean() / eyes)
    print(f"by the distance between the eyes: median {np.median(errors):.4f}, largest {max(errors):.4f}")
    assert len(errors) == CLIPS
    assert np.median(errors) < 0.02 and max(errors) < 0.05


@needs_dlib
@fp.needs_pack
def test_landmarks_lie_where_the_detector_saw_eyes_nose_and_mouth():
    picture = fp.astronaut()
    face = fp.main_face(picture)
    points = landmarks68(picture, face)
    five = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    apart = np.linalg.norm(five - face.landmarks, axis=1) / np.linalg.norm(five[1] - five[0])
    print(f"eyes, nose, mouth: {apart.round(3)} of the distance between the eyes")
    assert points.shape == (68, 2) and apart[:3].max() < 0.05 and apart[3:].max() < 0.25


@pytest.mark.parametrize("missing, package", [("dlib", "dlib-bin"), ("face_recognition_models", "models-ng")])
def test_what_is_not_installed_is_named(monkeypatch, missing, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(dlib_faces.importlib.util, "find_spec", lambda name: None if name == missing else find("numpy"))
    with pytest.raises(CheckpointError, match=rf"dlib: expected the package .*{package}, found it not installed; pip"):
        dlib_faces._find(missing)
