"""The identity loss: whom it judges, what it says of them, and where its gradient goes."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import config as c
from mmjax import sharding
from mmjax.diffusion import loss as diffusion_loss
from mmjax.diffusion import schedule as noise_schedule
from mmjax.encoders.arcface import load_arcface
from mmjax.errors import CheckpointError, ConfigError
from mmjax.faces import detection
from mmjax.faces.template import TEMPLATE
from mmjax.model_settings import VAE
from mmjax.models.cogvideox import vae
from mmjax.training.objectives import identity, judges
from mmjax.training.objectives.terms import Prediction, objective
from tests.helpers import onnx_models

WIDTH, SIDE, FRAMES = 24, 32, 9
SCHEDULE = noise_schedule.make_schedule(c.Schedule())
PIXELS = c.Autoencoder("pixel")


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return load_arcface(onnx_models.mobilefacenet(tmp_path_factory.mktemp("judge") / "judge.onnx", 8, WIDTH))


def term_of(recogniser, autoencoder=PIXELS, vae_=None, **settings):
    given = {"weight": 0.1, "judge": "judge", "crop": 0, **settings}
    return identity.Identity(c.IdentityLoss(**given), autoencoder, recogniser.graph, vae_)


def faces(count, frames=FRAMES, side=SIDE, seed=0):
    """Landmarks [count, frames, 5, 2] of faces in the middle of small pictures."""
    jitter = np.random.default_rng(seed).normal(size=(count, frames, 5, 2)) * side / 100
    return ((TEMPLATE - 56) * side / 160 + side / 2 + jitter).astype(np.float32)


def prediction(count=4, frames=FRAMES, side=SIDE, seed=0, channels=3, latent_frames=None, **draws):
    """A prediction of pixels: x0^ is another picture than the true one."""
    rng = np.random.default_rng(seed)
    shape = (count, latent_frames or frames, side, side, channels)
    true, noise, v = (rng.standard_normal(shape).astype(np.float32) * 0.15 for _ in range(3))
    true += np.linspace(-0.4, 0.4, shape[3], dtype=np.float32)[:, None]  # dark on the left, unlike the prediction
    v -= np.linspace(-2, 2, shape[2], dtype=np.float32)[:, None, None]
    always = np.ones(count, bool)
    given = {
        "timesteps": np.full(count, 100),
        "noise": noise,
        "face_region": ~always,
        "keep_text": always,
        "keep_identity": always,
        "frame": rng.uniform(size=count).astype(np.float32),
        **draws,
    }
    batch = {
        "latents": jnp.asarray(true),
        "landmarks": jnp.asarray(faces(count, frames)),
        "face_visible": jnp.ones((count, frames), bool),
        "face_mask": jnp.ones(shape[:4]),
        "id_embedding": jnp.asarray(rng.standard_normal((count, 2, WIDTH)).astype(np.float32)),
    }
    t = given["timesteps"]
    noisy = noise_schedule.add_noise(SCHEDULE, true, noise, t)
    target = noise_schedule.velocity(SCHEDULE, true, noise, t)
    return Prediction(batch, diffusion_loss.Draws(**given), SCHEDULE, noisy, jnp.asarray(v), target)


def with_fields(made, **fields):
    return dataclasses.replace(made, batch={**made.batch, **fields})


def judged(term, recogniser, made, **more):
    return jax.jit(lambda p: term(p, {"recogniser": recogniser.params, **more}))(jax.tree.map(jnp.asarray, made))


jax.tree_util.register_dataclass(
    Prediction, data_fields=["batch", "draws", "noisy", "v", "target"], meta_fields=["schedule"]
)


@pytest.mark.parametrize("target", ["reference", "frame"])
def test_the_cosine_is_that_of_the_recogniser_on_the_decoded_frame(recogniser, target):
    """By another way: pictures rounded and aligned as encoders do, the recogniser as they call it."""
    made = prediction()
    found = judged(term_of(recogniser, target=target), recogniser, made)
    frame = np.floor(made.draws.frame * FRAMES).astype(int)

    def embedding(videos):
        pictures = np.clip(np.round(127.5 * (np.asarray(videos) + 1)), 0, 255).astype(np.uint8)
        points = np.asarray(made.batch["landmarks"])
        crops = [detection.align(pictures[i, f], points[i, f]) for i, f in enumerate(frame)]
        return unit(np.asarray(recogniser(np.stack(crops)), np.float64))

    person = unit(np.asarray(made.batch["id_embedding"], np.float64)).mean(1)
    expected = (embedding(made.x0) * (embedding(made.batch["latents"]) if target == "frame" else unit(person))).sum(-1)
    error = np.abs(found.by_timestep["identity_cosine"] - expected).max()
    print(f"measured: {error:.1e}")
    assert error < 5e-3 and found.counts.all()  # rounding to whole pixels; measured 4e-4
    np.testing.assert_allclose(found.losses, 1 - found.by_timestep["identity_cosine"])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_who_has_no_part_in_it(recogniser):
    """Too noisy, without identity, without a face: each counts nothing, gives no gradient, and never NaN."""
    visible, landmarks = np.ones((5, FRAMES), bool), faces(5)
    visible[3], landmarks[3] = False, 0
    visible[4, 1:], landmarks[4, 1:] = False, 0  # one frame of the last sample shows a face
    made = prediction(
        5, timesteps=np.array([499, 500, 100, 100, 100]), keep_identity=np.array([True, True, False, True, True])
    )
    made = with_fields(made, face_visible=visible, landmarks=landmarks)
    term = term_of(recogniser)
    found = judged(term, recogniser, made)
    np.testing.assert_array_equal(found.counts, [True, False, False, False, True])

    def loss(v):
        return objective([term], dataclasses.replace(made, v=v), {"recogniser": recogniser.params})[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(made.v)
    assert value == pytest.approx(0.1 * float(found.losses[0] + found.losses[4]) / 5, rel=1e-5)
    assert np.isfinite(gradient).all()
    touched = np.asarray(gradient).any(axis=(2, 3, 4))
    assert touched.sum(1).tolist() == [1, 0, 0, 0, 1] and touched[4, 0]


@pytest.mark.parametrize(("how", "expected"), [("first", [1, 0, 0]), ("largest", [3, 2, 0]), ("random", [3, 0, 0])])
def test_the_frame_is_one_that_shows_the_face(how, expected):
    visible = np.array([[False, True, False, True], [True, True, True, True], [False] * 4])
    landmarks = np.stack([faces(1, 4)[0] * np.array([1, 2, 9, 3])[:, None, None]] * 3)
    landmarks[1, 2] *= 2
    found = identity.choose_frame(visible, landmarks, np.array([0.5, 0.2, 0.9], np.float32), how)
    assert found.tolist() == expected


def test_each_visible_frame_is_chosen_as_often():
    visible = np.tile([True, False, True, True, False], (3000, 1))
    uniform = np.random.default_rng(0).uniform(size=3000).astype(np.float32)
    found = identity.choose_frame(visible, np.zeros((3000, 5, 5, 2)), uniform, "random")
    counts = np.bincount(found, minlength=5)
    assert counts[1] == counts[4] == 0 and counts[[0, 2, 3]].min() > 900


@pytest.mark.slow
def test_a_crop_round_the_face_sees_the_same_face(recogniser):
    """Pixels decode by themselves: a crop that holds the face changes nothing; with one that cannot, nobody counts."""
    made = prediction()
    whole = judged(term_of(recogniser), recogniser, made)
    cropped = judged(term_of(recogniser, crop=26), recogniser, made)
    np.testing.assert_allclose(cropped.losses, whole.losses, atol=1e-4)
    at_the_border = with_fields(made, landmarks=made.batch["landmarks"] + np.float32([-9, 6]))
    found, expected = (judged(term_of(recogniser, crop=each), recogniser, at_the_border) for each in (26, 0))
    np.testing.assert_allclose(found.losses, expected.losses, atol=1e-4)
    assert not judged(term_of(recogniser, crop=16), recogniser, made).counts.any()


def small_vae():
    from mmjax.conversion.vae import abstract_vae

    record = VAE(latent_channels=4, channels=(8, 8, 16), resnets=1, norm_groups=4, scaling_factor=0.5)
    rng = np.random.default_rng(0)
    shapes = sharding.unbox(abstract_vae(record))["decoder"]
    return record, jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes)


class Quarter(c.Autoencoder):
    """An autoencoder of 4 x 4 pixels and 4 frames, as `small_vae` is."""

    spatial, temporal, channels = 4, 4, 4


@pytest.mark.slow
def test_latents_are_scaled_decoded_and_judged_at_the_frame(recogniser):
    record, decoder = small_vae()
    made = prediction(2, frames=17, side=SIDE // 4, channels=4, latent_frames=5, frame=np.array([0.1, 0.8], np.float32))
    made = with_fields(made, landmarks=faces(2, 17))
    term = term_of(recogniser, Quarter("cogvideox"), record)
    found = judged(term, recogniser, made, decoder=decoder)
    video = vae.decode(record, decoder, made.x0 / 0.5, term.policy)
    pixels = dataclasses.replace(made, noisy=video, v=jnp.zeros_like(video))
    same = judged(term_of(recogniser), recogniser, _at_no_noise(pixels))
    np.testing.assert_allclose(found.losses, same.losses, atol=1e-4)


@pytest.mark.slow
def test_samples_judged_side_by_side_are_judged_alike(recogniser):
    """Three of them, one without a face, at frames of different groups of the decoder: losses and gradients."""
    record, decoder = small_vae()
    frame = np.array([0.1, 0.8, 0.4], np.float32)
    made = prediction(3, frames=17, side=SIDE // 4, channels=4, latent_frames=5, frame=frame)
    visible = np.ones((3, 17), bool)
    visible[2] = False
    made = with_fields(made, landmarks=faces(3, 17), face_visible=visible)
    weights = {"recogniser": recogniser.params, "decoder": decoder}

    def results(**given):
        term = term_of(recogniser, Quarter("cogvideox"), record, **given)
        loss = lambda v: objective([term], dataclasses.replace(made, v=v), weights)[0]  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(made.v)

    (alone, expected), (found, gradient) = results(), results(at_once=2)
    assert found == pytest.approx(float(alone), rel=1e-5)
    assert np.asarray(expected).any(axis=(1, 2, 3, 4)).tolist() == [True, True, False]
    np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())


def test_a_few_samples_stand_for_those_that_are_not_judged(recogniser):
    """Two of the four that count, on one device and on two: losses as among all, gradients for twice as many."""
    made = prediction(6, keep_identity=np.array([True, False, True, True, True, False]))
    weights = {"recogniser": recogniser.params}

    def gradient(**given):
        term = term_of(recogniser, at_once=2, **given)
        loss = lambda v: objective([term], dataclasses.replace(made, v=v), weights)[0]  # noqa: E731
        return np.asarray(jax.jit(jax.grad(loss))(made.v))

    every, all_gradients = judged(term_of(recogniser), recogniser, made), gradient()
    two_devices = sharding.make_mesh(c.Mesh(data=2), jax.devices()[:2])
    for mesh, most, expected in ((None, 2, [0, 2]), (two_devices, 1, [0, 3])):
        with sharding.use_mesh(mesh) if mesh else contextlib.nullcontext():
            found, gradients = judged(term_of(recogniser, samples=most), recogniser, made), gradient(samples=most)
        assert np.flatnonzero(found.counts).tolist() == expected and found.each_for == 2
        np.testing.assert_allclose(found.losses[found.counts], every.losses[found.counts], rtol=1e-5)
        np.testing.assert_allclose(gradients[expected], 2 * all_gradients[expected], atol=1e-7)
        assert not np.delete(gradients, expected, axis=0).any()
    more_than_there_are = judged(term_of(recogniser, samples=9), recogniser, made)
    np.testing.assert_array_equal(more_than_there_are.counts, every.counts)
    assert more_than_there_are.each_for == 1


def _at_no_noise(made):
    """`noisy` stands for x0^ itself, up to the schedule's first step."""
    made = with_fields(made, latents=made.noisy)
    signal = float(SCHEDULE.signal[0])
    draws = dataclasses.replace(made.draws, timesteps=np.zeros(len(made.noisy), np.int32))
    return dataclasses.replace(made, draws=draws, noisy=made.noisy / signal)


def test_a_latent_frame_in_front_that_fills_a_patch_is_not_counted(recogniser):
    made = prediction()
    doubled = {
        name: jnp.concatenate([getattr(made, name)[:, :1] * 7, getattr(made, name)], 1) for name in ("noisy", "v")
    }
    padded = with_fields(made, latents=jnp.concatenate([made.batch["latents"][:, :1] * 7, made.batch["latents"]], 1))
    padded = dataclasses.replace(padded, **doubled)
    np.testing.assert_allclose(
        judged(term_of(recogniser), recogniser, padded).losses, judged(term_of(recogniser), recogniser, made).losses
    )


def settings(folder, **loss):
    """An experiment whose judge is a file, on records of drawn people."""
    path = folder / "judge.onnx"
    if not path.exists():
        onnx_models.mobilefacenet(path, 8, WIDTH)
    given = {"weight": 0.1, "judge": str(path), **loss}
    return c.Experiment(autoencoder=PIXELS, loss=c.Loss(identity=c.IdentityLoss(**given)))


def test_judges_that_are_not_there_or_cannot_judge_are_told(tmp_path):
    mesh = sharding.make_mesh(c.Mesh(), jax.devices()[:1])
    config, known = settings(tmp_path), load_arcface(tmp_path / "judge.onnx").fingerprint.replace(" ", ":")
    assert judges.load_judges(dataclasses.replace(config, loss=c.Loss()), "drawn/1", mesh) is None
    with pytest.raises(ConfigError, match='target = "reference".*found arcface/1 weights=.* beside records by drawn/1'):
        judges.load_judges(config, "drawn/1", mesh)
    assert judges.load_judges(config, f"patches/1 arcface={known}", mesh).vae is None
    assert judges.load_judges(settings(tmp_path, target="frame"), "drawn/1", mesh).params.keys() == {"recogniser"}
    with pytest.raises(CheckpointError, match="loss.identity.judge: face models antelopev3: expected a folder"):
        judges.check_judges(settings(tmp_path, judge="antelopev3"))
    with pytest.raises(ConfigError, match="the identity loss decodes what is predicted; expected autoencoder.weights"):
        judges.check_judges(dataclasses.replace(config, autoencoder=c.Autoencoder("cogvideox")))
    with pytest.raises(ConfigError, match="loss.identity.judge = : expected a recogniser"):
        dataclasses.replace(config, loss=c.Loss(identity=c.IdentityLoss(weight=0.1))).validated()
