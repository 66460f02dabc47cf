"""Photographs to q_id and CLIP features, with tiny PhotoMaker weights and the real detector and recogniser.

What needs no face model runs with a detector and a recogniser that are made up.
"""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from mmjax import config as c
from mmjax import conversion, sharding
from mmjax.encoders.arcface import ArcFace, load_arcface
from mmjax.encoders.fingerprints import agrees
from mmjax.encoders.photomaker import PhotoMakerFaceEncoder, load_face_encoder
from mmjax.errors import CheckpointError, ConfigError, DataError
from mmjax.faces.detection import TEMPLATE, Face, align, crop_portrait, load_detector
from mmjax.models.clip import CLIPVisionTower, normalize_pictures
from mmjax.precision import Policy
from tests.helpers import face_pictures as fp
from tests.helpers import photomaker_files

RECORD = dataclasses.replace(photomaker_files.TINY, id_dim=512)


@pytest.fixture(scope="module")
def photomaker(tmp_path_factory):
    """A converted folder of drawn weights; as safetensors they need no torch."""
    folder = tmp_path_factory.mktemp("photomaker")
    tensors = {f"id_encoder.{name}": value for name, value in photomaker_files.state(RECORD).items()}
    save_file(tensors, folder / "photomaker-v2.safetensors")
    conversion.convert("photomaker", folder / "photomaker-v2.safetensors", folder / "ours")
    return folder / "ours"


@pytest.fixture(scope="module")
def encoder(photomaker):
    return load_face_encoder(photomaker, fp.PACK, dtype="float32")


class MadeUp:
    """Detector and recogniser in one: a face in the middle of each picture, its embedding the crop's mean colours."""

    fingerprint = "made up"
    calls = 0

    def detect(self, picture):
        MadeUp.calls += 1
        middle = np.array(picture.shape[1::-1]) / 2
        return [Face(np.array([*(middle - 60), *(middle + 60)]), TEMPLATE - 56 + middle, 0.9)]

    def __call__(self, pictures):
        if pictures.ndim == 3:
            return self.detect(pictures)
        count = len(pictures)
        assert count in (5, 64)
        means = np.asarray(pictures, np.float64).reshape(count, 16, 7, 16, 7, 3).mean(axis=(2, 4)).reshape(count, -1)
        return (means[:, : RECORD.id_dim] - 128).astype(np.float32)

    in_batches = ArcFace.in_batches


def made_up(photomaker, mesh=None, **settings):
    mesh = mesh or sharding.make_mesh(c.Mesh(), jax.local_devices()[:1])
    settings = {"mesh": mesh, "dtype": "float32", "strict": True} | settings
    return PhotoMakerFaceEncoder(photomaker, RECORD, MadeUp(), MadeUp(), **settings)


def noise(seed=0, size=(200, 260)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def clip_of(photomaker, portraits, dtype="float32"):
    _, params = conversion.load_component(photomaker, dtype=dtype)
    tower = CLIPVisionTower(RECORD.clip, Policy(dtype))
    return tower.apply({"params": params["clip"]}, normalize_pictures(portraits))


def test_features_are_those_of_the_two_crops(photomaker):
    pictures = [noise(0), noise(0, (300, 240)), noise(0, (220, 220))]
    encoder = made_up(photomaker)
    with pytest.raises(DataError, match="2 people|3 people"):
        encoder.encode(pictures)  # noise resembles no other noise
    one = encoder.encode(pictures[:1])
    (checked,) = encoder.check(pictures[:1])
    portrait = crop_portrait(checked.picture, checked.face, RECORD.clip.side)
    np.testing.assert_array_equal(one.picture, portrait[None])
    np.testing.assert_array_equal(one.id_embedding, checked.embedding[None])
    for found, expected in zip((one.clip_last, one.clip_penultimate), clip_of(photomaker, portrait[None]), strict=True):
        assert found.dtype == np.float32 and found.shape == (1, RECORD.clip.tokens, RECORD.clip.width)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_three_references_give_the_rows_of_one(photomaker):
    """Three rows are filled up to four; no row knows of the others."""
    encoder, same = made_up(photomaker), [noise(), noise().copy(), noise()]
    three, one = encoder.encode(same), encoder.encode(same[:1])
    for field in ("id_embedding", "clip_last", "clip_penultimate", "picture"):
        several = getattr(three, field)
        assert len(several) == 3
        np.testing.assert_allclose(several, np.repeat(getattr(one, field), 3, 0), rtol=1e-5, atol=1e-5)


def test_crops_give_the_features_of_the_pictures_that_they_are_from(photomaker):
    """67 crops make two calls of ArcFace and two of CLIP; rows know nothing of each other."""
    encoder = made_up(photomaker)
    pictures = [noise(seed, (200 + 10 * seed, 260)) for seed in range(3)]
    checked = [encoder.check([picture])[0] for picture in pictures] * 23
    aligned = np.stack([each.aligned for each in checked])[:67]
    portraits = np.stack([crop_portrait(each.picture, each.face, encoder.portrait_side) for each in checked])[:67]
    found = encoder.encode_crops(encoder.embed(aligned), portraits)
    assert found.picture.shape == (67, RECORD.clip.side, RECORD.clip.side, 3)
    for number, picture in enumerate(pictures):
        one = encoder.encode([picture])
        for field in ("id_embedding", "clip_last", "clip_penultimate", "picture"):
            several, alone = getattr(found, field)[number::3], getattr(one, field)
            assert several.dtype == alone.dtype
            np.testing.assert_allclose(several, np.repeat(alone, len(several), 0), rtol=1e-5, atol=1e-5)


def test_weights_are_read_late_and_let_go(photomaker, monkeypatch):
    reads, real = [], conversion.load_component
    monkeypatch.setattr(conversion, "load_component", lambda *args: reads.append(args[0]) or real(*args))
    encoder = made_up(photomaker)
    encoder.check([noise()])
    assert reads == []
    first = encoder.encode([noise()])
    encoder.encode([noise()])
    encoder.free()
    again = encoder.encode([noise()])
    assert reads == [photomaker] * 2
    np.testing.assert_array_equal(first.clip_last, again.clip_last)


def test_the_same_pictures_are_checked_once(photomaker, tmp_path):
    encoder, path = made_up(photomaker), tmp_path / "a.png"
    noise().save(path)
    MadeUp.calls = 0
    encoder.check([path])
    encoder.check([str(path)])
    encoder.encode([path])
    assert MadeUp.calls == 1
    noise(1).save(path)  # another picture under the old name
    encoder.check([path])
    encoder.check([noise(2)])
    encoder.check([noise(3)])
    assert MadeUp.calls == 4


def test_a_mesh_shares_the_tower(photomaker):
    mesh = sharding.make_mesh(c.Mesh(data=1, fsdp=4, tensor=1, context=1), jax.local_devices()[:4])
    one, shared = made_up(photomaker).encode([noise()]), made_up(photomaker, mesh).encode([noise()])
    np.testing.assert_allclose(one.clip_last, shared.clip_last, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near_float32(photomaker):
    exact, near = (made_up(photomaker, dtype=dtype).encode([noise()]).clip_last for dtype in ("float32", "bfloat16"))
    error = np.abs(near - exact).max() / np.abs(exact).max()
    print(f"CLIP features in bfloat16: {error:.1%} of the largest from float32")
    assert near.dtype == np.float32 and 0 < error < 0.05


def test_blurred_faces_are_let_through_on_request(photomaker):
    picture = Image.fromarray(np.asarray(noise(0, (25, 33)).resize((264, 200), Image.Resampling.BICUBIC)))
    with pytest.raises(DataError, match="found a blurred one"):
        made_up(photomaker).encode([picture])
    lenient = made_up(photomaker, strict=False)
    assert len(lenient.encode([picture]).picture) == 1
    assert any("blurred" in warning for warning in lenient.warnings([picture]))
    assert lenient.warnings([picture]) == list(lenient.check([picture])[0].warnings)


@fp.needs_pack
def test_a_real_face_through_the_real_models(photomaker, encoder, tmp_path):
    picture = fp.astronaut()
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = encoder.encode([tmp_path / "a.png", Image.fromarray(picture[:, ::-1])])
    face = fp.main_face(picture)
    expected = fp.embed(align(picture, face.landmarks)[None])[0]
    cosine = found.id_embedding[0] @ expected / np.linalg.norm(expected) / np.linalg.norm(found.id_embedding[0])
    longer = np.linalg.norm(found.id_embedding[0]) / np.linalg.norm(expected)
    print(f"q_id against onnxruntime: cosine {cosine:.7f}, length {longer:.5f} of it")
    assert cosine >= 0.99999 and longer == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(found.picture[0], crop_portrait(picture, face, RECORD.clip.side))
    np.testing.assert_allclose(found.clip_last, clip_of(photomaker, found.picture)[0], rtol=1e-4, atol=1e-4)
    assert np.abs(found.clip_last[0] - found.clip_last[1]).max() > 0.01


@fp.needs_pack
def test_what_the_check_refuses_is_not_encoded(encoder):
    with pytest.raises(DataError, match="t1.jpg: expected one person, found 6 faces"):
        encoder.encode([fp.SIX])
    assert encoder.check([Image.fromarray(fp.astronaut()).convert("L")])[0].warnings[0].endswith("will be guesses")


@fp.needs_pack
def test_the_fingerprint_names_all_that_features_depend_on(photomaker, encoder, tmp_path):
    other = load_face_encoder(photomaker, fp.PACK, dtype="bfloat16")
    assert encoder.fingerprint == load_face_encoder(photomaker, fp.PACK, dtype="float32").fingerprint
    assert encoder.fingerprint != other.fingerprint
    for part in (load_arcface(fp.PACK).fingerprint, load_detector(fp.PACK).fingerprint):
        assert part.replace(" ", ":") in encoder.fingerprint
    assert agrees(encoder.fingerprint, "photomaker/1 dtype=float32") and agrees(other.fingerprint, "photomaker/1")


@fp.needs_pack
def test_weights_that_do_not_fit_are_refused(photomaker, tmp_path):
    with pytest.raises(ConfigError, match="'float16': expected bfloat16 or float32"):
        load_face_encoder(photomaker, fp.PACK, dtype="float16")
    with pytest.raises(CheckpointError):
        load_face_encoder(tmp_path, fp.PACK)
    tensors = {f"id_encoder.{name}": value for name, value in photomaker_files.state().items()}  # id_dim 64
    save_file(tensors, tmp_path / "photomaker-v2.safetensors")
    conversion.convert("photomaker", tmp_path / "photomaker-v2.safetensors", tmp_path / "narrow")
    with pytest.raises(ConfigError, match="expected a recogniser whose embeddings are 64 long, .* found 512; use"):
        load_face_encoder(tmp_path / "narrow", fp.PACK)
