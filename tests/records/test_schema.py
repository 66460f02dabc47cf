"""The record schema: shapes from the configuration, bits kept exactly, wrong records and folders refused."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from mmjax import config as c
from mmjax.errors import ConfigError, DataError
from mmjax.records.making import EncoderSet, description, mask_on_latents
from mmjax.records.schema import STRINGS, check_description, decode_record, encode_record, record_fields
from mmjax.synthetic import records


def experiment(seed=0, references=2, text_dim=24):
    transformer = c.Transformer(latent_channels=3, text_dim=text_dim, text_length=20)
    adapter = c.Adapter(id_dim=32, clip_dim=16, clip_tokens=10)
    data = c.Data(height=16, width=24, references=references)
    return c.Experiment(
        autoencoder=c.Autoencoder("pixel"),
        model=c.Model(transformer, adapter),
        data=data,
        encoders=c.Encoders(seed=seed),
    )


FIELDS = record_fields(experiment(), frames=9)


@pytest.fixture
def record():
    rng = np.random.default_rng(0)
    made = {name: rng.normal(size=f.shape).astype(f.dtype) for name, f in FIELDS.items()}
    return {**made, "person": "drawn-0000003", "caption": "A girl img in red, smiling", "source": "drawn_clips"}


def test_shapes_follow_the_configuration():
    assert FIELDS["latents"].shape == (9, 16, 24, 3) and FIELDS["latents"].dtype == ml_dtypes.bfloat16
    assert FIELDS["text"].shape == (20, 24) and FIELDS["class_mask"].shape == (20,)
    assert FIELDS["id_embedding"].shape == (2, 32) and FIELDS["id_embedding"].dtype == np.float32
    assert FIELDS["clip_last"].shape == FIELDS["clip_penultimate"].shape == (2, 10, 16)
    assert FIELDS["face_mask"].shape == (9, 16, 24)
    assert FIELDS["boxes"].shape == (9, 4) and FIELDS["landmarks"].shape == (9, 5, 2)
    assert FIELDS["reference"].shape == (2, 16, 16, 3) and FIELDS["reference"].dtype == np.uint8


def test_a_record_survives_storage_bit_for_bit(record):
    stored = encode_record(record, FIELDS, "here")
    assert stored["latents"].dtype == np.uint16
    stored = {name: value.encode() if name in STRINGS else value for name, value in stored.items()}
    back = decode_record(stored, FIELDS, "here")
    assert back.keys() == record.keys()
    for name, field in FIELDS.items():
        assert back[name].dtype == field.dtype and back[name].tobytes() == record[name].tobytes()
    assert all(back[name] == record[name] for name in STRINGS)


def test_every_finite_bfloat16_survives():
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(ml_dtypes.bfloat16)
    assert np.array_equal(values.view(np.uint16), bits)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda r: r.pop("text"), "found no text"),
        (lambda r: r.pop("caption"), "found no caption"),
        (lambda r: r.update(latent=r["latents"]), "unknown fields latent"),
        (lambda r: r.update(latents=r["latents"][:5]), r"latents: expected bfloat16\[9, 16, 24, 3\], found .*\[5, 16"),
        (lambda r: r.update(text=r["text"].astype(np.float32)), "text: expected bfloat16.*found float32"),
        (lambda r: r["landmarks"].__setitem__((0, 0), np.nan), "landmarks: expected finite"),
        (lambda r: r["latents"].__setitem__((0, 0), np.inf), "latents: expected finite"),
        (
            lambda r: r["latents"].__setitem__((0, 0), 3e38),
            r"latents: expected finite numbers, at most 10000, found 3e\+38",
        ),
        (lambda r: r["text"].__setitem__((0, 0), -2e4), r"text: expected finite numbers, at most 10000, found 2e\+04"),
        (
            lambda r: r["boxes"].__setitem__((0, 0), -1e30),
            r"boxes: expected finite numbers, at most 10000, found 1e\+30",
        ),
    ],
)
def test_wrong_records_are_refused_with_their_name(record, change, complaint):
    change(record)
    for check in (encode_record, decode_record):
        with pytest.raises(DataError, match=f"shard 3 record 14: .*{complaint}"):
            check(record, FIELDS, "shard 3 record 14")


def test_a_description_that_fits_is_accepted_and_any_other_named():
    mine = description(experiment(), 9)
    check_description({**mine, "people": 5}, mine, "folder")  # what a builder adds does not matter
    others = {
        "encoders.text: expected word_table.* seed=0, found .*seed=1": description(experiment(seed=1), 9),
        "encoders.face: expected drawn.*seed=0, found .*seed=1": description(experiment(seed=1), 9),
        "fields.text: expected .*24.*, found .*48": description(experiment(text_dim=48), 9),
        r"fields.reference: expected \['uint8', 2, .*found \['uint8', 1": description(experiment(references=1), 9),
        "frames: expected 9, found 1": description(experiment(), 1),
        "schema_version: expected 3, found 0": {**mine, "schema_version": 0},
        "autoencoder: expected pixel, found cogvideox": {**mine, "autoencoder": "cogvideox"},
        "fields.text: expected .*, found nothing": {
            **mine,
            "fields": {k: v for k, v in mine["fields"].items() if k != "text"},
        },
        "fields.depth: expected nothing, found": {**mine, "fields": {**mine["fields"], "depth": ["float32", 1]}},
    }
    for complaint, found in others.items():
        with pytest.raises(DataError, match=f"(?s)some/folder: .*{complaint}.*prepare them again"):
            check_description(found, mine, "some/folder")
    for nothing in (None, {}, {"made_by": "somebody"}):
        with pytest.raises(DataError, match="found no schema version"):
            check_description(nothing, mine, "some/folder")


def test_masks_are_averaged_over_the_pixels_of_a_latent():
    rng = np.random.default_rng(0)
    mask = rng.random((9, 16, 24)).astype(np.float32)
    assert np.array_equal(mask_on_latents(mask, (9, 16, 24)), mask), "the pixel autoencoder keeps every pixel"
    small = mask_on_latents(mask, (3, 2, 3))  # 1 + 4 + 4 frames, 8 x 8 pixels
    assert small.shape == (3, 2, 3)
    assert np.isclose(small[0, 1, 2], mask[0, 8:16, 16:24].mean())
    assert np.isclose(small[2, 0, 1], mask[5:9, 0:8, 8:16].mean())
    assert mask_on_latents(mask[:1], (1, 2, 3)).shape == (1, 2, 3)


def test_drawn_records_refuse_networks():
    for name, changes in {
        "encoders.text = t5": {"encoders": c.Encoders(text="t5")},
        "encoders.face = photomaker": {"encoders": c.Encoders(face="photomaker")},
        "encoders.face = arcface": {"encoders": c.Encoders(face="arcface")},
        "autoencoder.name = cogvideox": {"autoencoder": c.Autoencoder("cogvideox")},
    }.items():
        with pytest.raises(ConfigError, match=f"{name}: expected .* prepared beforehand .*, not drawn"):
            EncoderSet.placeholders(dataclasses.replace(experiment(), **changes))


def test_a_record_is_put_together_from_the_encoders():
    config = experiment()
    encoders = EncoderSet.placeholders(config)
    record = next(records.clip_records(config, encoders, number=5, count=1, frames=9))
    encode_record(record, FIELDS, "the record")
    text, mask = encoders.text.encode([record["caption"]], references=2)
    assert np.array_equal(record["text"], text[0].astype(ml_dtypes.bfloat16)) and mask[0].sum() == 4
    assert np.array_equal(record["class_mask"], mask[0])
    pixels = encoders.autoencoder.decode(record["latents"].astype(np.float32)[None])[0]
    assert pixels.shape == (9, 16, 24, 3) and np.ptp(pixels) > 100
    assert record["person"] == "drawn-0000005" and record["source"] == "drawn_clips"
    assert not np.array_equal(record["reference"][0], record["reference"][1])
