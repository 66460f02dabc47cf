"""Face embedders by the words that a user gives: what each gives, its name, and whether it may judge a model."""

import dataclasses
import functools

import numpy as np
import pytest

from mmjax import config as c
from mmjax import conversion
from mmjax.encoders.embedders import name_of, names_of, open_embedder, open_embedders, part_in_training
from mmjax.encoders.recogniser import load_recogniser
from mmjax.errors import CheckpointError, ConfigError, ConversionError
from mmjax.faces.detection import Face, align
from mmjax.faces.embeddings import cosine_similarity
from tests.helpers import edgeface_reference as edgeface
from tests.helpers import face_pictures as fp
from tests.helpers.lfw import accuracy, aligned, needs_lfw, read_pairs
from tests.helpers.onnx_models import cosines
from tests.helpers.real_clips import middle_frames

CLIPS = 20
PLUGIN = "tests.helpers.plugins:mean_colour"
needs_edgeface = pytest.mark.skipif(
    not edgeface.published("xs").is_file(), reason="no MMJAX_TEST_DATA with weights/edgeface"
)


@functools.cache
def face():
    return fp.main_face(fp.astronaut())


@fp.needs_pack
def test_a_recogniser_gives_the_embedding_of_each_given_face():
    picture, nowhere = fp.astronaut(), Face(np.zeros(4), np.zeros((5, 2)), 0.9)
    embed = open_embedder(str(fp.PACK))
    found = embed([picture, picture[:200, :300], picture, picture], [face(), face(), None, nowhere])
    expected = fp.embed(align(picture, face().landmarks)[None])
    assert not embed.detects and found.shape == (4, 512)
    assert np.isnan(found).all(axis=1).tolist() == [False, False, True, True]
    assert cosine_similarity(found[:1], expected).item() > 0.99999
    assert embed([picture], [None]).shape == (1, 512) and embed([], []).shape == (0, 512)


@fp.needs_pack
def test_a_network_has_one_name_and_fingerprint_whichever_way_it_is_given(tmp_path):
    conversion.convert("arcface", fp.PACK, tmp_path / "converted")
    specs = [str(fp.PACK), str(fp.RECOGNISER), str(tmp_path / "converted")]
    opened = open_embedders(specs)
    assert list(opened) == ["w600k_mbf", "w600k_mbf-2", "w600k_mbf-3"]
    assert {(embed.name, embed.fingerprint) for embed in opened.values()} == {
        ("w600k_mbf", opened["w600k_mbf"].fingerprint)
    }


@needs_edgeface
@pytest.mark.parametrize("size", edgeface.SIZES)
def test_edgeface_is_opened_by_its_file(size):
    spec, picture = str(edgeface.published(size)), fp.astronaut()
    embed = open_embedder(spec)
    found = embed(
        [picture, picture[:, ::-1], fp.read(fp.SIX)], [face(), *map(fp.main_face, (picture[:, ::-1], fp.read(fp.SIX)))]
    )
    mirrored, other = cosine_similarity(found[[0]], found[1:])[0]
    print(f"{embed.name}: cosine to the mirrored picture {mirrored:.3f}, to somebody else {other:.3f}")
    assert embed.name == name_of(spec) == f"edgeface_{size}" and found.shape == (3, 512)
    assert mirrored > 0.9 and abs(other) < 0.25


def test_a_plugin_is_called_with_its_text():
    frames = [np.full((4, 4, 3), value, np.uint8) for value in (1, 2)]
    assert open_embedder(PLUGIN).fingerprint == "mean_colour/1 text=plain"
    embed = open_embedder(f"{PLUGIN}:runs/a:b")
    assert embed.fingerprint == "mean_colour/1 text=runs/a:b" and embed.detects
    assert embed(frames, [None, None])[:, 0].tolist() == [1, 2]
    assert names_of([PLUGIN, f"{PLUGIN}:b", "dlib"]) == {
        "mean_colour": PLUGIN,
        "mean_colour-2": f"{PLUGIN}:b",
        "dlib": "dlib",
    }


@pytest.mark.parametrize(
    "spec, error, message",
    [
        ("tests.helpers.plugins:absent", ConfigError, "expected a function that can be imported: .*absent"),
        ("no.such.module:make", ConfigError, "expected a function that can be imported: No module named 'no'"),
        ("tests.helpers.plugins:of_another_name", ConfigError, "with the function's name, found 'mean_colour'"),
        ("tests.helpers.plugins:nothing", ConfigError, "found SimpleNamespace without detects"),
        ("nowhere", CheckpointError, "embedder nowhere: expected an .onnx file.*; found none of these. face models"),
        (__file__, ConversionError, "expected an ONNX file, found"),
    ],
)
def test_what_is_no_embedder_is_named(spec, error, message):
    with pytest.raises(error, match=message):
        open_embedder(spec)


def test_an_embedder_given_twice_is_refused():
    with pytest.raises(ConfigError, match="embedder dlib: expected each embedder once, found it twice"):
        names_of(["dlib", PLUGIN, "dlib"])


@fp.needs_pack
def test_one_folder_by_two_paths_is_one_embedder(tmp_path, monkeypatch):
    (tmp_path / "pack").symlink_to(fp.PACK)
    monkeypatch.chdir(tmp_path)
    for other in (f"{fp.PACK}/", "pack", str(tmp_path / "pack"), f"{fp.PACK}/../{fp.PACK.name}"):
        with pytest.raises(ConfigError, match=f"embedder {other}: expected each .* {fp.PACK}, which is the same; lea"):
            names_of([str(fp.PACK), other])


def test_an_embedder_that_detects_needs_no_detector():
    frames = np.full((2, 4, 4, 3), 7, np.uint8)
    recogniser = load_recogniser(PLUGIN)
    assert recogniser.fingerprint == "mean_colour/1 text=plain"
    assert np.stack(recogniser.embed(frames)).tolist() == [[7.0] * 3] * 2


@fp.needs_pack
def test_whether_an_embedder_has_a_part_in_training():
    judged, off = c.IdentityLoss(weight=0.1, judge=str(fp.PACK)), c.IdentityLoss()
    made = open_embedder(str(fp.RECOGNISER)).fingerprint
    line = "photomaker/1 arcface={} detector=d:ef56".format(made.replace(" ", ":"))
    assert part_in_training(made, line, off) == "the recogniser whose embeddings condition the model"
    assert part_in_training(made, made, judged) == "the recogniser whose embeddings condition the model"
    assert part_in_training(made, "drawn/1 id_dim=24", judged) == "the judge of the identity loss"
    assert part_in_training(made, "drawn/1 id_dim=24", off) == ""
    gone = dataclasses.replace(judged, judge="/nowhere")  # not read for an embedder that cannot be it
    assert part_in_training("edgeface/1 weights=ab12", line, gone) == ""
    with pytest.raises(CheckpointError, match="face models /nowhere"):
        part_in_training(made, "drawn/1 id_dim=24", gone)


@pytest.mark.slow
@fp.needs_faces
def test_embeddings_are_those_of_insightface_on_20_clips():
    """insightface's whole way, from the frame to the embedding, of the largest face, which it sees in 19 of them.

    Measured: crops are insightface's bit for bit, and with them embeddings are within 1e-5 of values up to 6, cosines
    between two faces within 4e-7. With the alignment fitted in float64 it was 10 of a crop's 37,632 values, by 1 of
    255, and cosines within 2.0e-4.
    """
    from insightface.app import FaceAnalysis
    from insightface.utils.face_align import norm_crop

    parts = ["detection", "recognition"]
    analysis = FaceAnalysis(str(fp.PACK), allowed_modules=parts, providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    frames, faces, theirs = [], [], []
    for frame in middle_frames(CLIPS).values():
        found = analysis.get(np.ascontiguousarray(frame[..., ::-1]))
        if found:
            largest = max(found, key=lambda each: np.prod(each.bbox[2:] - each.bbox[:2]))
            frames.append(frame)
            faces.append(Face(largest.bbox, largest.kps, float(largest.det_score)))
            theirs.append(largest.embedding)
    embed, theirs = open_embedder(str(fp.PACK)), np.stack(theirs)
    ours = embed(frames, faces)
    for frame, each in zip(frames, faces, strict=True):
        np.testing.assert_array_equal(align(frame, each.landmarks), norm_crop(frame, each.landmarks))
    between = np.abs(cosine_similarity(ours, ours) - cosine_similarity(theirs, theirs)).max()
    print(f"{len(frames)} faces: {np.abs(ours - theirs).max():.1e} of values up to {np.abs(theirs).max():.1f}")
    print(f"least cosine {cosines(ours, theirs).min():.9f}, cosines between faces within {between:.1e}")
    assert len(frames) >= CLIPS - 1 and np.abs(ours - theirs).max() < 1e-4
    assert cosines(ours, theirs).min() > 1 - 1e-6 and between < 1e-5


def embedded(size: str, photos) -> np.ndarray:
    """EdgeFace's embeddings of LFW's photos."""
    from mmjax.encoders.edgeface import load_edgeface

    return load_edgeface(edgeface.published(size)).in_batches(np.stack([aligned(path) for path in photos]))


def scores(size, pairs) -> np.ndarray:
    photos = sorted({path for pair in pairs for path in pair.photos})
    found, rows = embedded(size, photos), {path: row for row, path in enumerate(photos)}
    left, right = (np.array([rows[pair.photos[side]] for pair in pairs]) for side in (0, 1))
    return cosines(found[left], found[right])


@pytest.mark.slow
@needs_edgeface
@needs_lfw
@fp.needs_pack
def test_edgeface_tells_people_of_lfw_apart():
    """The 600 pairs of the first fold, at the threshold that is best on the others. Measured: 99.67 % (XXS)."""
    pairs = [pair for pair in read_pairs() if pair.fold == 0]
    same = np.array([pair.same for pair in pairs])
    rate = ((scores("xxs", pairs) >= 0.255) == same).mean()
    print(f"{len(pairs)} pairs: {100 * rate:.2f} %")
    assert len(pairs) == 600 and rate > 0.985


@pytest.mark.measures
@needs_edgeface
@needs_lfw
@fp.needs_pack
@pytest.mark.parametrize("size", edgeface.SIZES)
def test_edgeface_on_the_whole_of_lfw(size):
    """Measured: 99.50 +- 0.09 % for both."""
    pairs = read_pairs()
    mean, error = accuracy(pairs, scores(size, pairs))
    print(f"edgeface_{size}: {100 * mean:.2f} +- {100 * error:.2f} % of {len(pairs)} pairs")
    assert mean > 0.993
