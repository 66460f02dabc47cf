"""The identity term alone turns one real person's photo into another person, for recognisers that do and do not judge.

`MMJAX_MEASURE=1 pytest -s tests/training/test_identity_real_faces.py`, half a minute of two cores. Reads
MMJAX_TEST_DATA: two photos of LFW, MobileFaceNet of the pack mbf as the judge, another MobileFaceNet beside it.
"""

import dataclasses
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from mmjax import config as c
from mmjax.diffusion import loss as diffusion_loss
from mmjax.diffusion import schedule as noise_schedule
from mmjax.encoders.arcface import load_arcface
from mmjax.faces.detection import align, load_detector
from mmjax.training.objectives.identity import Identity
from mmjax.training.objectives.terms import Prediction, objective

DATA = Path(os.environ.get("MMJAX_TEST_DATA", "nowhere"))
PACK, OTHER = DATA / "weights/insightface/models/mbf", DATA / "weights/mobilefacenet/mobilefacenet.onnx"
STEPS = 120
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}  # it runs long enough

pytestmark = [
    pytest.mark.measures,
    pytest.mark.skipif(not PACK.is_dir(), reason="no MMJAX_TEST_DATA with faces and weights"),
]


def photo(person):
    path = next((DATA / "faces/lfw").rglob(f"{person}_0001.jpg"))
    return np.asarray(Image.open(path).convert("RGB"))


def start_from(picture, embedding):
    """A prediction of one frame without noise, whose x0^ is the picture; landmarks are given step by step."""
    x = jnp.asarray(picture, jnp.float32)[None, None] / 127.5 - 1
    one = np.ones(1, bool)
    draws = diffusion_loss.Draws(
        np.zeros(1, np.int32), jnp.zeros_like(x), ~one, one, one, frame=np.zeros(1, np.float32)
    )
    batch = {"latents": x, "face_visible": np.ones((1, 1), bool), "face_mask": jnp.ones(x.shape[:4])}
    batch["id_embedding"] = embedding[None, None]
    schedule = noise_schedule.make_schedule(c.Schedule())
    return x, Prediction(batch, draws, schedule, x, jnp.zeros_like(x), jnp.zeros_like(x))


def test_a_photo_becomes_the_person_that_the_loss_asks_for():
    judge, other, detect = load_arcface(PACK), load_arcface(OTHER), load_detector(PACK)
    mine, theirs = photo("Aaron_Peirsol"), photo("Tony_Blair")
    points, their_points = (detect(picture)[0].landmarks for picture in (mine, theirs))
    goals = {net: np.asarray(net(align(theirs, their_points)[None]))[0] for net in (judge, other)}
    x, made = start_from(mine, goals[judge])
    term = Identity(c.IdentityLoss(weight=1.0, judge="mbf", crop=0), c.Autoencoder("pixel"), judge.graph)

    @functools.partial(jax.jit, compiler_options=OPTIMIZED)
    @jax.value_and_grad
    def loss(x, landmarks):
        batch = {**made.batch, "landmarks": landmarks}
        prediction = dataclasses.replace(made, batch=batch, noisy=x / made.schedule.signal[0])
        return objective([term], prediction, {"recogniser": judge.params})[0]

    def cosine(net, x):
        pixels = np.clip(np.round(127.5 * (np.asarray(x[0, 0]) + 1)), 0, 255).astype(np.uint8)
        found, goal = np.asarray(net(align(pixels, points)[None]))[0], goals[net]
        return float(found @ goal / np.linalg.norm(found) / np.linalg.norm(goal))

    before = [cosine(net, x) for net in (judge, other)]
    tx, rng = optax.adam(0.02), np.random.default_rng(0)
    state = tx.init(x)
    for _ in range(STEPS):  # the landmarks tremble, as they do from frame to frame
        _, gradient = loss(x, (points + rng.normal(size=(1, 2)) * 1.5)[None, None].astype(np.float32))
        update, state = tx.update(gradient, state)
        x = jnp.clip(x + update, -1, 1)
    after = [cosine(net, x) for net in (judge, other)]
    print(f"measured: judge {before[0]:.2f} to {after[0]:.2f}, other {before[1]:.2f} to {after[1]:.2f}")
    assert max(before) < 0.2 and min(after) > 0.8
