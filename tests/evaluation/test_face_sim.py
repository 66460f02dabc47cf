"""FaceSim against the published steps through `insightface.app.FaceAnalysis`, on real clips; and its aggregation."""

import functools

import av
import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from mmjax.errors import CheckpointError
from mmjax.evaluation.frames import FrameSampling
from mmjax.evaluation.metrics.face_sim import ARC, CUR, FaceSim
from mmjax.evaluation.metrics.interface import HasWeights, VideoToScore
from mmjax.evaluation.observation import DecodedVideo, FacesSeen, Observation, Subject
from mmjax.faces.face_sim import load_face_sim
from tests.helpers import face_pictures as fp

CLIPS = (  # of ten people or sources; the reference is another moment of the clip, or a stranger
    "may/May_5s.mp4",
    "sadtalker/WDA_KatieHill_000.mp4",
    "sadtalker/WDA_AlexandriaOcasioCortez_000.mp4",
    "pyfeat/single_face.mp4",
    "liveportrait/driving/d10.mp4",
    "liveportrait/driving/d6.mp4",
    "liveportrait/source/s13.mp4",
    "grid/GRID/sbwe5n.mpg",
    "video_retalking/3.mp4",
    "akiyo/akiyo_cif.mp4",
)
FRAMES = 4
EMPTY = FacesSeen(np.zeros(0, int), *(np.zeros((0, *s)) for s in ((4,), (5, 2), (), (0, 2))), {})
needs_clips = pytest.mark.skipif(
    not ((fp.DATA / "videos").is_dir() and fp.RECOGNISER.is_file()), reason="no MMJAX_TEST_DATA with videos and weights"
)


@functools.cache
def frames_of(clip: str, count: int = 40) -> np.ndarray:
    with av.open(str(fp.DATA / "videos" / clip)) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return np.stack([frame for frame, _ in zip(frames, range(count), strict=False)])


def case_of(frames, reference) -> VideoToScore:
    numbers = np.arange(len(frames))
    video = DecodedVideo(frames, numbers / 25, numbers, len(frames))
    seen = Observation(frames.shape[1:3], video.seconds, numbers, len(frames), EMPTY)
    return VideoToScore(seen, Subject("anna", [str(reference)], [(1, 1)], EMPTY, 0), video=video)


@functools.cache
def published_model():
    from insightface.app import FaceAnalysis

    model = FaceAnalysis(name="mbf", root=str(fp.DATA / "weights" / "insightface"), providers=["CPUExecutionProvider"])
    model.prepare(ctx_id=0, det_size=(320, 320))
    return model


def published_face(rgb):
    """What the publications' scripts take of a picture: (embedding, RGB crop of 224 pixels), or None."""
    from insightface.utils import face_align

    picture, shift = rgb[..., ::-1].copy(), np.zeros(2)
    found = published_model().get(picture)
    if not found:
        down, right = picture.shape[0] // 4, picture.shape[1] // 4
        larger = np.full((picture.shape[0] + 2 * down, picture.shape[1] + 2 * right, 3), 128, np.uint8)
        larger[down : down + picture.shape[0], right : right + picture.shape[1]] = picture
        found, shift = published_model().get(larger), np.array([right, down])
    if not found:
        return None
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (face.bbox for face in found)]
    face = found[int(np.argmax(areas))]
    crop = face_align.norm_crop(picture, landmark=face.kps - shift, image_size=224)
    return face.embedding, crop[..., ::-1]


def published_mean(faces, reference, drop_zeros=False):
    """Of embeddings, None for no face."""
    cosines = [
        max(0.0, float(row @ reference / np.linalg.norm(row) / np.linalg.norm(reference)))
        for row in faces
        if row is not None
    ]
    kept = [value for value in cosines if value or not drop_zeros]
    return np.mean(kept) if kept else 0.0


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """A picture for each clip: its last frame here; of the last two clips somebody else's."""
    folder = tmp_path_factory.mktemp("references")
    for number, clip in enumerate(CLIPS):
        source = clip if number < len(CLIPS) - 2 else CLIPS[number - 5]
        Image.fromarray(frames_of(source)[-1]).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def other_recogniser(tmp_path_factory):
    """In CurricularFace's place a recogniser of another scaling: means of 7 x 7 blocks, which every pixel moves."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("AveragePool", ["faces"], ["means"], kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("Flatten", ["means"], ["row"]),
    ]
    shapes = ("faces", [1, 3, 112, 112]), ("row", [1, 768])
    tensors = [[helper.make_tensor_value_info(name, kind, shape)] for name, shape in shapes]
    opset = [helper.make_opsetid("", 17)]
    file = tmp_path_factory.mktemp("curricularface") / "ir101.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "means", *tensors), opset_imports=opset, ir_version=9), file)
    return file


@pytest.mark.slow
@needs_clips
@pytest.mark.parametrize("number", range(len(CLIPS)))
def test_it_equals_the_published_steps(number, references, other_recogniser):
    """Without its last frame, which is the reference."""
    frames, path = frames_of(CLIPS[number])[:-1], references / f"{number}.png"
    sampling = FrameSampling(FRAMES, "linspace")
    reference = published_face(np.asarray(Image.open(path)))
    faces = [published_face(frames[index]) for index in np.linspace(0, len(frames) - 1, FRAMES, dtype=int)]
    session = onnxruntime.InferenceSession(str(other_recogniser), providers=["CPUExecutionProvider"])

    def by_the_other(face):
        if face is None:
            return None
        pixels = cv2.resize(face[1], (112, 112)).transpose(2, 0, 1)[None].astype(np.float32)
        return session.run(None, {"faces": (pixels / 255 - 0.5) / 0.5})[0][0]

    expected = {
        ARC: published_mean([face and face[0] for face in faces], reference[0]),
        CUR: published_mean([by_the_other(face) for face in faces], by_the_other(reference), drop_zeros=True),
    }
    for recogniser, value in expected.items():
        metric = FaceSim(recogniser, str(fp.PACK), str(other_recogniser), sampling, zeros_dropped=recogniser == CUR)
        score = metric.score(case_of(frames, path))
        print(f"{CLIPS[number]} {recogniser}: {score.value:.6f}, published {value:.6f}, {score.details}")
        assert score.value == pytest.approx(value, abs=1e-4)
        assert len(score.series) == score.details["frames"] == FRAMES


@needs_clips
def test_a_face_that_fills_the_picture_is_found_with_the_border():
    """The middle of a face, the rarest of pictures: of 336 such crops of 14 portraits, this is the one of its kind.

    ArcFace sees it in the bordered picture, as published.
    """
    picture = np.asarray(Image.open(next(fp.PORTRAITS.rglob("yangmi_1.jpg"))).convert("RGB"))
    left, top, right, bottom = published_model().get(picture[..., ::-1].copy())[0].bbox.astype(int)
    width = right - left
    middle = picture[
        top + int(0.25 * width) : bottom - int(0.1 * width), left + int(0.35 * width) : right - int(0.35 * width)
    ]
    assert not published_model().get(middle[..., ::-1].copy())
    faces = load_face_sim(fp.PACK)
    np.testing.assert_allclose(faces.arcface(middle), published_face(middle)[0], atol=1e-4)
    assert faces.arcface(np.zeros((64, 80, 3), np.uint8)) is None
    metric = FaceSim(ARC, str(fp.PACK))
    assert isinstance(metric, HasWeights) and metric.fingerprint() == faces.fingerprint
    assert "w600k_mbf.onnx" in faces.fingerprint and "scrfd_500m_bnkps.onnx" in faces.fingerprint


COSINES = np.array([0.8, -0.2, np.nan, 0.4])
MEANS = {"published": ({}, 0.4), "zeros dropped": ({"zeros_dropped": True}, 0.6), "mended": ({"fixed": True}, 0.25)}


@pytest.mark.parametrize("kind", MEANS)
def test_what_counts(kind):
    settings, value = MEANS[kind]
    score = FaceSim(ARC, "mbf", **settings)._aggregate(COSINES)
    assert score.value == pytest.approx(value) and score.details == {"frames": 4, "without_face": 1}
    nobody = FaceSim(ARC, "mbf", **settings)._aggregate(np.full(3, np.nan))
    assert nobody.value == 0 and nobody.details["without_face"] == 3


def test_what_it_lacks_is_said(tmp_path):
    metric, frames = FaceSim(ARC, "mbf", sampling=FrameSampling(2, "linspace")), np.zeros((3, 8, 8, 3), np.uint8)
    case = case_of(frames, tmp_path / "nowhere.png")
    assert "nowhere.png: expected a picture file, found none" in metric.score(case).why
    several = Subject("anna", ["a.png", "b.png"], [(1, 1)] * 2, EMPTY)
    assert "say which of the 2 of anna" in metric.score(VideoToScore(case.observation, several, video=case.video)).why
    assert "give --references" in metric.score(VideoToScore(case.observation, video=case.video)).why
    later = DecodedVideo(frames, np.arange(3) / 8, np.arange(3), 40)
    why = metric.score(VideoToScore(case.observation, case.subject, video=later)).why
    assert "expected 2 frames by linspace of 40, found 1 of them not decoded, such as number 39" in why


@fp.needs_pack
def test_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="CurricularFace .*expected an ONNX file, found none"):
        load_face_sim(fp.PACK, tmp_path / "ir101.onnx")
    with pytest.raises(CheckpointError, match="expected a recogniser of RGB faces"):
        load_face_sim(fp.PACK, next(fp.PACK.glob("scrfd*kps.onnx")))
    with pytest.raises(CheckpointError, match="expected the folder of a pack"):
        load_face_sim(fp.RECOGNISER)
    (tmp_path / "detector.onnx").symlink_to(next(fp.PACK.glob("scrfd*kps.onnx")))
    with pytest.raises(CheckpointError, match="expected one recogniser of 112 pixels, found none among detector.onnx"):
        load_face_sim(tmp_path)
