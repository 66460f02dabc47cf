"""Which encoders made the records: what is hashed, what is expected, the comparison, what a run remembers."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from mmjax import config as c
from mmjax import conversion
from mmjax.encoders.expected import expected_fingerprints
from mmjax.encoders.fingerprints import agrees, fingerprint, hash_converted, hash_files, hash_leaves
from mmjax.encoders.pixel import Pixel
from mmjax.errors import CheckpointError, DataError
from mmjax.preparation.writing.shards import finish_dataset, shard_path, write_shard
from mmjax.records.making import EncoderSet, description
from mmjax.records.schema import record_fields
from mmjax.records.sources import find_sources
from mmjax.sampling import Sampler
from mmjax.train import train
from mmjax.weights import runs
from tests.helpers import photomaker_files, tiny_run

PHOTOMAKER = "photomaker/1 weights=ab12 arcface=arcface/1:cd34 detector=det.onnx:ef56 dtype=bfloat16"
T5 = "t5/1 weights=ab12 length=20 id_tokens=2 dtype=bfloat16"


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


def test_a_configuration_knows_placeholders_whole_and_networks_in_part():
    found = expected_fingerprints(tiny_run.experiment())
    assert found["text"] == "word_table/1 length=20 width=8 id_tokens=2 seed=0"
    assert found["face"] == "drawn/1 id_dim=24 tokens=5 width=8 side=16 seed=0"
    assert found["autoencoder"] == Pixel().fingerprint == "pixel/1"
    assert expected_fingerprints(c.Experiment(encoders=c.Encoders("t5", "photomaker"))) == {
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


def prepared(folder, text="", face=PHOTOMAKER, **chosen):
    """A data set of random records that these encoders are said to have made."""
    config = experiment(folder, **chosen)
    rows = tiny_run.batch(config, 8)
    records = [{name: value[number] for name, value in rows.items()} for number in range(8)]
    records = [each | {"person": "anna", "caption": "A woman img", "source": "photos"} for each in records]
    write_shard(shard_path(folder, "train", 0), records, record_fields(config, 1))
    about = description(config, 1)
    about["encoders"] |= {"face": face} | ({"text": text} if text else {})
    return finish_dataset(folder, folder.name, config, 1, about, {"train": [8], "validation": []}, rows["text"][0])


@pytest.mark.slow
def test_training_needs_no_face_models_on_records_that_have_their_features(tmp_path):
    """And the run remembers the encoders: it goes on with records of theirs alone."""
    folder, workdir = prepared(tmp_path / "images"), tmp_path / "run"
    config = experiment(folder)
    state = train(config, workdir)
    assert int(state.step) == 1
    remembered = {**expected_fingerprints(config), "face": PHOTOMAKER}
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
    assert find_sources(experiment(folders[0], folders[0])).encoders["face"] == PHOTOMAKER
    with pytest.raises(DataError, match=f"(?s)two of face:.*images: {PHOTOMAKER}\n.*more: {other}\n.*prepare one"):
        find_sources(experiment(*folders))


@pytest.mark.parametrize("folders", [(), ("text_encoder", "photomaker", "face_models")])
def test_the_check_loads_no_encoder_even_where_its_folder_is_named(tmp_path, folders):
    """A configuration knows its networks in part; folders that are not there are not looked at."""
    chosen = {"encoders": {"text": "t5", "face": "photomaker", **dict.fromkeys(folders, "nowhere")}}
    folder = prepared(tmp_path / "images", text=T5, **chosen)
    found = find_sources(experiment(folder, **chosen)).encoders
    assert found == {"text": T5, "face": PHOTOMAKER, "autoencoder": "pixel/1"}
    longer = T5.replace("20", "30")
    folder = prepared(tmp_path / "more", text=longer, **chosen)
    with pytest.raises(DataError, match=f"(?s)expected t5/1 length=20 id_tokens=2, found {longer}"):
        find_sources(experiment(folder, **chosen))


def test_what_is_hashed_of_weights_in_memory():
    """Sizes, paths, dtypes, shapes and bytes count; the order in which leaves come does not."""
    record, leaves = c.Mesh(), {"a/b": np.arange(6.0).reshape(2, 3), "a": np.ones(2, np.float32)}
    others = [
        (c.Mesh(data=2), leaves),
        (record, {"a/c": leaves["a/b"], "a": leaves["a"]}),
        (record, leaves | {"a": np.ones(2, np.int32).view(np.float32)}),
        (record, leaves | {"a": leaves["a"].view(np.int32)}),
        (record, leaves | {"a/b": leaves["a/b"].reshape(3, 2)}),
        (record, {"a": leaves["a/b"], "a/b": leaves["a"]}),
    ]
    own = hash_leaves(record, leaves)
    assert hash_leaves(record, dict(reversed(leaves.items()))) == own and len(own) == 16
    assert hash_leaves(record, leaves | {"a/b": np.asfortranarray(leaves["a/b"])}) == own
    assert len({own, *(hash_leaves(*each) for each in others)}) == 1 + len(others)


def test_what_is_hashed_of_a_converted_folder(tmp_path):
    """Sizes, published weights and the stored dtypes count; names, dates and the published configuration do not."""
    source = photomaker_files.save(tmp_path / "v2.bin")
    conversion.convert("photomaker", source, tmp_path / "ours")
    own = hash_converted(tmp_path / "ours", "photomaker")
    conversion.convert("photomaker", source.rename(tmp_path / "renamed.bin"), tmp_path / "again")
    conversion.convert("photomaker", tmp_path / "renamed.bin", tmp_path / "half", dtype="bfloat16")
    assert hash_converted(tmp_path / "again", "photomaker") == own != hash_converted(tmp_path / "half", "photomaker")
    path = tmp_path / "ours" / "mmjax.json"
    whole = json.loads(path.read_text())
    digests = whole["source"]["sha256"]
    for extra, same in (("config.json", True), ("tokenizer/spiece.model", True), ("more.safetensors", False)):
        path.write_text(json.dumps(whole | {"source": {"sha256": digests | {extra: "ab" * 32}}}))
        assert (hash_converted(tmp_path / "ours", "photomaker") == own) == same, extra
    with pytest.raises(CheckpointError, match="expected a converted vae, found a photomaker"):
        hash_converted(tmp_path / "half", "vae")


def test_files_are_hashed_in_their_order(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_text("1"), other.write_text("2")
    assert hash_files([one, other]) != hash_files([other, one])
    assert hash_files([one, other]) == hash_files([one.rename(tmp_path / "c"), other])


def test_a_damaged_memory_is_named(tmp_path):
    assert runs.read_encoders(tmp_path) == {}
    for damage in ("{", "[7]"):
        (tmp_path / "encoders.json").write_text(damage)
        with pytest.raises(CheckpointError, match="encoders.json cannot be read"):
            runs.read_encoders(tmp_path)


def test_drawn_records_are_expected_to_be_of_the_very_encoders_that_draw_them():
    config = tiny_run.experiment()
    expected = expected_fingerprints(config)
    assert EncoderSet.placeholders(config).fingerprints == expected == description(config, 1)["encoders"]


def test_a_sampler_says_so_when_its_face_models_are_others():
    config = tiny_run.experiment(adapter=True)
    picture = Image.new("RGB", (8, 8))
    for now, said in {
        PHOTOMAKER: 0,
        PHOTOMAKER.replace("bfloat16", "float32"): 0,
        PHOTOMAKER.replace("cd34", "9999"): 1,
    }.items():
        sampler = Sampler(config, {}, trained_with={"face": PHOTOMAKER})
        sampler._faces = types.SimpleNamespace(warnings=lambda pictures: [], fingerprint=now)
        warnings = sampler.check([picture])
        assert len(warnings) == said and all(now in text and PHOTOMAKER in text for text in warnings)
    sampler = Sampler(config, {})
    sampler._faces = types.SimpleNamespace(warnings=lambda pictures: [], fingerprint=PHOTOMAKER)
    assert sampler.check([picture]) == []
