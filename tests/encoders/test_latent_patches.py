"""`arcface_vae`: a real recogniser beside latents of the portrait by the experiment's own autoencoder."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax.encoders.build import make_autoencoder, make_face_encoder
from mmjax.encoders.expected import expected_fingerprints
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.interface import FaceFeatures
from mmjax.encoders.latent_patches import LatentPatches
from mmjax.errors import ConfigError
from mmjax.models.mini import mini
from tests.helpers import converted
from tests.helpers import face_pictures as fp


def experiment(vae="", **adapter) -> c.Experiment:
    made = mini("mini")
    model = dataclasses.replace(made.model, adapter=dataclasses.replace(made.model.adapter, **adapter))
    return dataclasses.replace(
        made,
        model=model,
        autoencoder=c.Autoencoder("cogvideox", weights=str(vae)),
        encoders=dataclasses.replace(made.encoders, face_models=str(fp.PACK)),
    )


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return converted.component(tmp_path_factory.mktemp("vae") / "vae", "vae", converted.SMALL_VAE)


@pytest.fixture(scope="module")
def encoder(vae):
    return make_face_encoder(experiment(vae))


@fp.needs_pack
def test_the_tokens_are_the_autoencoders_latents_of_the_portrait(encoder, vae):
    found = encoder.encode([Image.fromarray(fp.astronaut())])
    portrait = found.picture
    assert portrait.shape == (1, 128, 128, 3) and found.clip_last.shape == (1, 65, 96)
    latents = make_autoencoder(experiment(vae)).encode(portrait[:, None])[:, 0]  # [1, 16, 16, 16]
    patches = np.concatenate([latents[0, y : y + 2, x : x + 2].reshape(1, -1) for y in (0, 2) for x in (0, 2, 4)])
    laid_out = LatentPatches.of(experiment())
    for features, project, place in zip(
        (found.clip_last, found.clip_penultimate), laid_out._project, laid_out._place, strict=True
    ):
        expected = patches @ project + place[[0, 1, 2, 8, 9, 10]]
        np.testing.assert_allclose(features[0, 1:][[0, 1, 2, 8, 9, 10]], expected, atol=1e-4)
        np.testing.assert_allclose(features[0, 0], features[0, 1:].mean(0), atol=1e-5)


@fp.needs_pack
def test_the_same_crops_give_the_same_features_bit_for_bit_in_any_batch(encoder):
    portraits = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    embeddings = np.ones((3, 512), np.float32)
    one, again = (encoder.encode_crops(embeddings, portraits) for _ in range(2))
    alone = encoder.encode_crops(embeddings[:1], portraits[:1])
    for field in dataclasses.fields(FaceFeatures):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(again, field.name))
        np.testing.assert_allclose(getattr(one, field.name)[:1], getattr(alone, field.name), atol=1e-5)
    assert not np.allclose(one.clip_last[0], one.clip_last[1])
    encoder.free()


@fp.needs_pack
def test_its_fingerprint_has_the_autoencoder_the_pack_and_the_settings(encoder, tmp_path):
    start = "latent_patches/1 id_dim=512 tokens=65 width=96 side=128 seed=0 vae_weights="
    assert (
        encoder.fingerprint.startswith(start) and " vae_encode=float32:high arcface=arcface/1:" in encoder.fingerprint
    )
    assert "detector=scrfd_500m_bnkps.onnx:" in encoder.fingerprint
    assert agrees(encoder.fingerprint, expected_fingerprints(experiment())["face"])
    other = converted.component(tmp_path / "vae", "vae", converted.SMALL_VAE, seed=1)
    assert not agrees(make_face_encoder(experiment(other)).fingerprint, encoder.fingerprint)


def test_what_cannot_be_is_said_before_anything_is_read():
    with pytest.raises(ConfigError, match=r"model.adapter.clip_tokens = 50: expected 65 with .* portrait of 128 x 128"):
        expected_fingerprints(experiment(clip_tokens=50))
    pixel = dataclasses.replace(experiment().model.transformer, latent_channels=3)
    with pytest.raises(ConfigError, match="encoders.face = arcface_vae: expected another one without an autoencoder"):
        dataclasses.replace(
            experiment(), autoencoder=c.Autoencoder("pixel"), model=c.Model(pixel, experiment().model.adapter)
        ).validated()
