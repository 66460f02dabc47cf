"""The face encoder of small models on real faces: the real recogniser beside seeded patches."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax.encoders.build import make_face_encoder, with_face_models
from mmjax.encoders.expected import expected_fingerprints
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.interface import FaceFeatures, reference_side
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.faces.detection import align, crop_portrait
from tests.helpers import face_pictures as fp
from tests.helpers.configurations import load

FACES = load("faces.py")


def experiment(id_dim=512, pack=fp.PACK, **encoders) -> c.Experiment:
    adapter = dataclasses.replace(FACES.model.adapter, id_dim=id_dim)
    chosen = dataclasses.replace(FACES.encoders, face_models=str(pack), **encoders)
    return dataclasses.replace(FACES, model=dataclasses.replace(FACES.model, adapter=adapter), encoders=chosen)


@pytest.fixture(scope="module")
def encoder():
    return make_face_encoder(experiment())


@pytest.mark.slow
@fp.needs_pack
def test_the_same_pixels_give_the_same_features_either_way(encoder):
    picture = fp.astronaut()
    mirrored, face = np.ascontiguousarray(picture[:, ::-1]), fp.main_face(picture)
    (checked,) = encoder.check([Image.fromarray(picture)])
    assert checked.face.side == pytest.approx(face.side)
    one, other = (encoder.encode([Image.fromarray(each)]) for each in (picture, mirrored))
    faces = [(each, encoder.check([Image.fromarray(each)])[0].face) for each in (picture, mirrored)]
    crops = np.stack([align(each, found.landmarks) for each, found in faces] * 4)
    portraits = np.stack([crop_portrait(each, found, encoder.portrait_side) for each, found in faces] * 4)
    found = encoder.encode_crops(encoder.embed(crops), portraits)
    for field in dataclasses.fields(FaceFeatures):
        several = getattr(found, field.name)
        for start, alone in enumerate((one, other)):
            np.testing.assert_allclose(several[start::2], np.repeat(getattr(alone, field.name), 4, 0), atol=2e-5)
    assert found.picture.shape == (8, 64, 64, 3) and found.clip_last.shape == (8, 17, 64)


@fp.needs_pack
def test_its_identity_is_the_recognisers(encoder):
    picture = fp.astronaut()
    found = encoder.encode([Image.fromarray(picture)]).id_embedding[0]
    expected = fp.embed(align(picture, fp.main_face(picture).landmarks)[None])[0]
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    print(f"q_id against onnxruntime: cosine {cosine:.7f}")
    assert cosine >= 0.99999


@fp.needs_pack
def test_what_the_check_refuses_is_not_encoded(encoder):
    encoder.free()
    with pytest.raises(DataError, match="expected one person, found 6 faces"):
        encoder.encode([fp.SIX])


@fp.needs_pack
def test_its_fingerprint_has_the_models_and_the_settings(encoder):
    assert encoder.fingerprint.startswith("arcface_patches/1 id_dim=512 tokens=17 width=64 side=64 seed=0 arcface=")
    assert agrees(encoder.fingerprint, expected_fingerprints(experiment())["face"])
    assert not agrees(encoder.fingerprint, expected_fingerprints(experiment(seed=1))["face"])
    assert "detector=scrfd_500m_bnkps.onnx:" in encoder.fingerprint


@fp.needs_pack
def test_a_recogniser_of_another_width_is_refused():
    with pytest.raises(ConfigError, match=r"model.adapter.id_dim = 32: expected 512, the length of an embedding"):
        make_face_encoder(experiment(id_dim=32))


def test_the_default_pack_is_taken_where_a_face_encoder_needs_one(monkeypatch):
    monkeypatch.setattr("mmjax.faces.packs.default_pack", lambda: "vectron")
    assert with_face_models(FACES).encoders.face_models == "vectron"
    assert with_face_models(experiment()) == experiment()  # it has one
    drawn = dataclasses.replace(FACES, encoders=c.Encoders(face="drawn"))
    assert with_face_models(drawn) == drawn


def test_models_must_be_named_and_there():
    with pytest.raises(ConfigError, match="encoders.face_models: expected an insightface model pack"):
        make_face_encoder(FACES)
    with pytest.raises(CheckpointError, match="face models nowhere: expected a folder with"):
        make_face_encoder(experiment(pack="nowhere"))


@pytest.mark.parametrize(
    "face, height, width, side",
    [("photomaker", 480, 720, 224), ("photomaker", 64, 64, 224), ("arcface", 64, 96, 64), ("arcface", 480, 720, 224)]
    + [("drawn", 32, 48, 32), ("pixels", 480, 720, 480)],
)
def test_reference_pictures_are_as_large_as_the_encoder_sees_them(face, height, width, side):
    data = c.Data(height=height, width=width)
    assert reference_side(c.Experiment(data=data, encoders=c.Encoders(face=face))) == side
