"""Which encoders made the records: known from the configuration, read from folders, compared, remembered by a run."""

import dataclasses
import json
import types

import pytest
from PIL import Image

from mmjax import config as c
from mmjax.encoders import agreement
from mmjax.encoders.fingerprints import agrees, fingerprint
from mmjax.encoders.pixel import Pixel
from mmjax.errors import CheckpointError, DataError
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records.making import Encoders, description, expected_encoders
from mmjax.records.schema import record_fields
from mmjax.sampling import Sampler
from mmjax.training.loop import train
from mmjax.weights import runs
from tests.helpers import tiny_run

PHOTOMAKER = "photomaker/1 weights=ab12 arcface=arcface/1:cd34 detector=det.onnx:ef56 dtype=bfloat16"
T5 = "t5/1 weights=ab12 length=20 id_tokens=2 dtype=bfloat16"
VAE = "cogvideox_vae/1 source=ab12 record=cd34 encode=float32"


def test_a_fingerprint_is_a_name_and_values_without_blanks():
    assert fingerprint("t5/1", weights="ab12", length=226) == "t5/1 weights=ab12 length=226"
    assert (
        fingerprint("a/2", network="arcface/1 cd34", file="my det.onnx")
        == "a/2 network=arcface/1:cd34 file=my:det.onnx"
    )


@pytest.mark.parametrize(
    "found, expected, fits",
    [
        (T5, T5, True),
        (T5, "t5/1 length=20 id_tokens=2", True),
        (T5, "t5/1 id_tokens=2 length=20", True),
        (T5, "t5/1 length=226", False),
        (T5, "t5/2 length=20", False),
        ("t5/1 length=20", T5, False),
        ("t5/1 length=201", "t5/1 length=20", False),
        ("word_table/1 length=20", "t5/1 length=20", False),
        (PHOTOMAKER, "photomaker/1", True),
    ],
)
def test_what_is_known_must_be_there(found, expected, fits):
    assert agrees(found, expected) == fits


def test_a_key_may_be_left_out_of_the_comparison():
    other = T5.replace("bfloat16", "float32")
    assert not agrees(other, T5) and agrees(other, T5, but=("dtype",))
    assert not agrees(other.replace("ab12", "cd34"), T5, but=("dtype",))


def test_a_configuration_knows_stand_ins_whole_and_networks_in_part():
    found = expected_encoders(tiny_run.experiment())
    assert found["text"] == "word_table/1 length=20 width=8 id_tokens=2 seed=0"
    assert found["face"] == "drawn/1 id_dim=24 tokens=5 width=8 side=16 seed=0"
    assert found["autoencoder"] == Pixel().fingerprint == "pixel/1"
    assert expected_encoders(c.Experiment(encoders=c.Encoders("t5", "photomaker"))) == {
        "text": "t5/1 length=226 id_tokens=2",
        "face": "photomaker/1",
        "autoencoder": "cogvideox_vae/1",
    }


def experiment(*folders, **changes) -> c.Experiment:
    """One that expects PhotoMaker's features, of sizes that compile fast."""
    data = {"sources": tuple(map(str, folders)), "frames": (1,) * len(folders), "weights": (1.0,) * len(folders)}
    groups = {"encoders": {"face": "photomaker"}, "data": data | {"batches": (8,) * len(folders)}} | changes
    train = {"steps": 1, "validate_every": 0, "checkpoint_every": 0, "ema_decay": 0.0}
    return tiny_run.experiment(**{"train": train} | groups)


def prepared(folder, **encoders):
    """A data set of random records that these encoders are said to have made."""
    config = experiment(folder)
    rows = tiny_run.batch(config, 8)
    records = [{name: value[number] for name, value in rows.items()} for number in range(8)]
    records = [each | {"person": "anna", "caption": "A woman img", "source": "photos"} for each in records]
    write_shard(shard_path(folder, "train", 0), records, record_fields(config, 1))
    about = description(config, 1)
    about["encoders"] |= {"face": PHOTOMAKER} | encoders
    return finish_dataset(folder, folder.name, config, 1, about, {"train": [8], "validation": []})


def test_training_needs_no_face_models_on_records_that_have_their_features(tmp_path):
    """And the run remembers the encoders: it goes on with records of theirs alone."""
    folder, workdir = prepared(tmp_path / "images"), tmp_path / "run"
    config = experiment(folder)
    state = train(config, workdir)
    assert int(state.step) == 1
    remembered = {**expected_encoders(config), "face": PHOTOMAKER}
    assert json.loads((workdir / "encoders.json").read_text()) == runs.read_encoders(workdir) == remembered
    other = PHOTOMAKER.replace("cd34", "9999")
    prepared(folder, face=other)
    with pytest.raises(DataError, match=f"(?s)began on records that other encoders.*then {PHOTOMAKER}.*now  {other}"):
        train(config, workdir)


def test_records_of_other_encoders_are_refused_with_both_names(tmp_path):
    folder = prepared(tmp_path / "images", text="word_table/1 length=20 width=8 id_tokens=2 seed=9")
    with pytest.raises(DataError, match="(?s)images.*encoders.text: expected word_table.*seed=0, found .*seed=9"):
        train(experiment(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "encoders.json").exists()


def test_two_sources_must_have_been_made_by_the_same_encoders(tmp_path):
    other = PHOTOMAKER.replace("cd34", "9999")
    folders = prepared(tmp_path / "images"), prepared(tmp_path / "more", face=other)
    assert agreement.check_records(experiment(folders[0], folders[0]))["face"] == PHOTOMAKER
    with pytest.raises(DataError, match=f"(?s)two of face:.*images: {PHOTOMAKER}\n.*more: {other}\n.*prepare one"):
        agreement.check_records(experiment(*folders))


def test_a_folder_that_is_named_is_compared_whole(tmp_path, monkeypatch):
    folder = prepared(tmp_path / "images")
    named = experiment(folder, encoders={"face": "photomaker", "photomaker": "weights", "face_models": "antelopev2"})
    made = types.SimpleNamespace(fingerprint=PHOTOMAKER)
    monkeypatch.setattr(fingerprints, "make_face_encoder", lambda config: made)
    agreement.check_records(named)
    made.fingerprint = PHOTOMAKER.replace("ab12", "9999")
    with pytest.raises(DataError, match=f"(?s)face:\n *expected {made.fingerprint}\n *found +{PHOTOMAKER}\n"):
        agreement.check_records(named)
    alone = dataclasses.replace(named.encoders, face_models="")
    agreement.check_records(dataclasses.replace(named, encoders=alone))  # half of the networks are not enough


def test_every_network_with_a_folder_is_asked_for_its_fingerprint(monkeypatch):
    monkeypatch.setattr(fingerprints, "make_text_encoder", lambda config: types.SimpleNamespace(fingerprint=T5))
    monkeypatch.setattr(fingerprints, "make_face_encoder", lambda config: types.SimpleNamespace(fingerprint=PHOTOMAKER))
    monkeypatch.setattr(fingerprints, "autoencoder_fingerprint", lambda folder, precision: f"{VAE} {folder}")
    encoders = c.Encoders("t5", "photomaker", text_encoder="a", photomaker="b", face_models="c")
    config = c.Experiment(encoders=encoders, autoencoder=c.Autoencoder("cogvideox", weights="d"))
    assert agreement.known_encoders(config) == {"text": T5, "face": PHOTOMAKER, "autoencoder": f"{VAE} d"}
    small = tiny_run.experiment(encoders={"text_encoder": "a", "photomaker": "b", "face_models": "c"})
    assert agreement.known_encoders(small) == expected_encoders(small), "stand-ins have no folders"


def test_a_damaged_memory_is_named(tmp_path):
    assert runs.read_encoders(tmp_path) == {}
    for damage in ("{", "[7]"):
        (tmp_path / "encoders.json").write_text(damage)
        with pytest.raises(CheckpointError, match="encoders.json cannot be read"):
            runs.read_encoders(tmp_path)


def test_drawn_records_are_expected_to_be_of_the_very_encoders_that_draw_them():
    config = tiny_run.experiment()
    assert Encoders.of(config).fingerprints == expected_encoders(config) == description(config, 1)["encoders"]


def test_a_sampler_says_so_when_its_face_models_are_others():
    config = tiny_run.experiment(adapter=True)
    picture = Image.new("RGB", (8, 8))
    for now, said in {
        PHOTOMAKER: 0,
        PHOTOMAKER.replace("bfloat16", "float32"): 0,
        PHOTOMAKER.replace("cd34", "9999"): 1,
    }.items():
        sampler = Sampler(config, {}, trained_with={"face": PHOTOMAKER})
        sampler._faces = types.SimpleNamespace(check=lambda pictures: [], fingerprint=now)
        warnings = sampler.check([picture])
        assert len(warnings) == said and all(now in text and PHOTOMAKER in text for text in warnings)
    sampler = Sampler(config, {})
    sampler._faces = types.SimpleNamespace(check=lambda pictures: [], fingerprint=PHOTOMAKER)
    assert sampler.check([picture]) == []
