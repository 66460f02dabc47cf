"""How much clips that are drawn from photographs move beside real ones, and whether they still show the same person.

    MMJAX_MEASURE=1 pytest -s tests/preparation/test_animation_calibration.py

prints the figures that are quoted in `mmjax.preparation.animation.clip`: 200 photographs of LFW and 71 windows of the
real clips, all as records of 17 frames of 128 x 128 at 8 a second. Real windows are measured as the drawn ones are.
"""

import functools
import time

import cv2
import numpy as np
import onnxruntime
import pytest

from mmjax.evaluation.metrics import expression, face_motion, head_pose
from mmjax.evaluation.metrics.interface import VideoToScore
from mmjax.evaluation.observation import FacesSeen, Observation
from mmjax.faces import dlib_faces
from mmjax.faces.detection import Face, align
from mmjax.faces.embeddings import cosine_similarity
from mmjax.faces.tracking import track_faces
from mmjax.preparation.analysis.windows import video_windows
from mmjax.preparation.animation.clip import animate
from mmjax.preparation.framing import apply_framing, frame_on_face
from mmjax.preparation.items import Item
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings
from tests.helpers import face_pictures as fp

pytestmark = [
    pytest.mark.measures,
    fp.needs_faces,
    pytest.mark.skipif(not dlib_faces.is_installed(), reason="dlib is not installed"),
]

PHOTOS, SIDE, FRAMES, FPS = 200, 128, 17, 8
METRICS = [face_motion.FaceMotionInTime(), *head_pose.metrics(), *expression.metrics()]
OTHER = fp.DATA / "weights" / "mobilefacenet"
QUANTILES = (5, 25, 50, 75, 95)


def photographs():
    """Photos of LFW at twice the records' size, each with its face: the one in the middle."""
    files, draw = sorted(fp.LFW.rglob("*.jpg")), np.random.default_rng(3)
    for index in draw.permutation(len(files))[:PHOTOS]:
        picture = cv2.resize(fp.read(files[index]), (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
        faces = fp.tools().detect(picture)
        if faces:
            yield picture, min(faces, key=lambda face: np.abs((face.box[:2] + face.box[2:]) / 2 - SIDE).max())


def real_windows():
    """Up to three windows, every second one, of each real clip."""
    settings = Settings(max_upscale=2.0)
    for file in sorted(path for path in (fp.DATA / "videos").rglob("*") if path.suffix in (".mp4", ".mpg")):
        found = 0
        for number, window in enumerate(
            video_windows(Item(file.name, "video", str(file), "clips"), FRAMES, FPS, settings, [])
        ):
            tracks = track_faces(window.frames, fp.tools().detect, 4) if number % 2 == 0 else []
            if tracks and tracks[0].present.all() and found < 3:
                try:
                    framing = frame_on_face(window.frames.shape[1:3], tracks[0].boxes, SIDE, SIDE, "auto", 2.0)
                except Rejected:
                    continue
                found += 1
                yield apply_framing(framing, window.frames)


def halved(pictures):
    return np.stack([cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures])


def figures(frames):
    """What the evaluation says of the motion, by the metric's name; NaN where it says nothing."""
    faces = [(fp.tools().detect(frame) or [None])[0] for frame in frames]
    nobody = Face(np.full(4, np.nan), np.full((5, 2), np.nan), np.nan)
    points = [
        dlib_faces.landmarks68(f, face) if face else np.full((68, 2), np.nan)
        for f, face in zip(frames, faces, strict=True)
    ]
    boxes, landmarks, scores = (
        np.stack([getattr(face or nobody, name) for face in faces]) for name in ("box", "landmarks", "score")
    )
    counts = np.array([face is not None for face in faces], int)
    seen = FacesSeen(counts, boxes, landmarks, scores, np.stack(points), {})
    case = VideoToScore(
        Observation((SIDE, SIDE), np.arange(len(frames)) / FPS, np.arange(len(frames)), len(frames), seen)
    )
    values = {metric.name: metric.score(case).value for metric in METRICS}
    return {name: np.nan if value is None else value for name, value in values.items()}


@functools.cache
def mobilefacenet():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(next(OTHER.rglob("*.onnx"))), options, providers=["CPUExecutionProvider"])


def embed_otherwise(aligned):
    pixels = (aligned.astype(np.float32).transpose(0, 3, 1, 2) - 127.5) / 127.5
    name = mobilefacenet().get_inputs()[0].name
    return np.concatenate([mobilefacenet().run(None, {name: each[None]})[0] for each in pixels])


def printed(rows):
    for name in rows[0]:
        values = np.nanpercentile([row[name] for row in rows], QUANTILES)
        print(f"{name:14}", *(f"{value:8.2f}" for value in values))


def test_drawn_clips_show_the_same_person_and_move_no_more_than_real_ones():
    cosines, others, away, overlap, rows, seconds = [], [], [], [], [], 0.0
    for number, (picture, face) in enumerate(photographs()):
        points = dlib_faces.landmarks68(picture, face)
        began = time.process_time()
        clip = animate(picture, face.landmarks, face.box, FRAMES, FPS, number, points)
        frames = halved(clip.frames)
        seconds += time.process_time() - began
        crops = [align(halved([picture])[0], face.landmarks / 2)]
        crops += [align(frame, places / 2) for frame, places in zip(frames, clip.landmarks, strict=True)]
        for found, embed in ((cosines, fp.embed), (others, embed_otherwise)):
            embedded = embed(np.stack(crops))
            found += cosine_similarity(embedded[:1], embedded[1:])[0].tolist()
        eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0]) / 2
        for frame, places, box in list(zip(frames, clip.landmarks / 2, clip.boxes / 2, strict=True))[::4]:
            seen = min(fp.tools().detect(frame), key=lambda other: np.abs(other.landmarks - places).max())
            away.append(np.linalg.norm(seen.landmarks - places, axis=1).mean() / eyes)
            overlap.append(iou(seen.box, box))
        rows.append(figures(frames))
    print(f"\n{len(rows)} photographs, {seconds / len(rows):.3f} s of a core for a clip")
    for name, values in {"w600k_mbf": cosines, "MobileFaceNet": others, "landmarks": away, "boxes": overlap}.items():
        print(f"{name:14}", *(f"{value:8.3f}" for value in np.percentile(values, (0, *QUANTILES))))
    printed(rows)
    real = [figures(frames) for frames in real_windows()]
    print(f"{len(real)} windows of real clips")
    printed(real)
    assert np.median(cosines) > 0.95 and np.percentile(cosines, 5) > 0.85
    assert np.median(away) < 0.05 and np.median(overlap) > 0.93
    for name in ("fm_inter", "head_yaw", "head_pitch"):
        drawn, filmed = (np.nanpercentile([row[name] for row in each], 95) for each in (rows, real))
        assert drawn < filmed, f"{name}: drawn clips move more than real ones"


def iou(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)
