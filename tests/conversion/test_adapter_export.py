"""`mmjax.convert adapter`: a run's adapter as one file and as a folder, bit for bit; and what is none, in one line."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mmjax import config as c
from mmjax import convert, inspect, trees
from mmjax.errors import CheckpointError, ConfigError, MMJaxError
from mmjax.sampling import load_sampler
from mmjax.trainable import split_adapter
from mmjax.training.workdir import write_run
from mmjax.weights import adapters, base, checksums, runs, start
from mmjax.weights.adapters import open_adapter
from tests.helpers import converted, saved_runs, tiny_run

ENCODERS = {"text": "t5/1 weights=ab", "face": "photomaker/1 weights=cd arcface=ef"}


def converted_base(folder, seed=0):
    """A converted transformer with drawn weights in float32, of the tiny run's sizes."""
    return str(converted.component(folder, "transformer", tiny_run.TRANSFORMER, seed, sha256="12"))


def saved_run(workdir, config, steps=(5,)):
    return saved_runs.saved_run(workdir, config, ENCODERS, steps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """base/, a converted base; run/, an adapter trained on it, steps 3 and 5; a.safetensors and made/ of that."""
    folder = tmp_path_factory.mktemp("export")
    given = converted_base(folder / "base")
    saved_run(folder / "run", tiny_run.experiment(adapter=True, train={"base": given}), (3, 5))
    convert.convert("adapter", folder / "run", folder / "a.safetensors")
    convert.convert("adapter", folder / "a.safetensors", folder / "made")
    return folder


def averaged(run, **given):
    """The adapter of a run as its checkpoint has it."""
    config = runs.read_config(run)
    return trees.flatten(open_adapter(run, **given).read(split_adapter(saved_runs.abstract(config))[0]))


def refused(capsys, *args):
    """The one line of a command that ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        convert.main(["adapter", *map(str, args)])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_the_file_holds_the_averaged_adapter_and_says_where_it_comes_from(folder):
    found, expected = load_file(folder / "a.safetensors"), averaged(folder / "run")
    tiny_run.assert_bit_equal(found, {path: np.asarray(leaf) for path, leaf in expected.items()})
    assert "transformer/blocks/adapter/can/in/kernel" in found and not any("/even/" in path for path in found)
    with safe_open(folder / "a.safetensors", "numpy") as opened:
        said = opened.metadata()
    config = runs.read_config(folder / "run")
    assert json.loads(said["model"]) == runs.as_json(config)["model"]
    experiment = json.loads(said["experiment"])
    assert experiment["loss"] == runs.as_json(config)["loss"] and experiment["data"]["sources"] == ["drawn_images"]
    assert experiment["train"]["base"] == "base" and experiment["train"]["trainable"] == list(config.train.trainable)
    assert str(folder) not in str(said)  # files are given away
    assert (said["format_version"], said["step"], said["weights"], said["licence"]) == ("1", "5", "ema", "unknown")
    assert json.loads(said["encoders"]) == ENCODERS
    assert json.loads(said["base"]) == {
        "fingerprint": base.of_folder(folder / "base"),
        "name": "owner/base",
        "sha256": {"model.safetensors": "12"},
    }


def test_there_and_back_bit_for_bit(folder, tmp_path):
    report = convert.convert("adapter", folder / "made", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (folder / "a.safetensors").read_bytes()
    assert report.parameters == sum(leaf.size for leaf in averaged(folder / "run").values())


def test_step_dtype_and_licence_are_chosen(folder, tmp_path):
    report = convert.convert(
        "adapter", folder / "run", tmp_path / "b.safetensors", step=3, dtype="bfloat16", licence="MIT"
    )
    assert report.dtypes == ("bfloat16",) and "licence: MIT" in str(report) and "step 3" in str(report)
    found = open_adapter(tmp_path / "b.safetensors")
    assert (found.step, found.weights) == (3, "ema")
    added, _ = split_adapter(saved_runs.abstract(runs.read_config(folder / "run")))
    wanted = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), added)
    rounded = {path: leaf.astype(jnp.bfloat16) for path, leaf in averaged(folder / "run", step=3).items()}
    tiny_run.assert_bit_equal(trees.flatten(found.read(wanted)), rounded)


@pytest.mark.parametrize("name", ["run", "a.safetensors", "made"])
def test_training_starts_from_each_of_the_three(folder, name):
    given = {"base": str(folder / "base"), "adapter": str(folder / name)}
    config = tiny_run.experiment(adapter=True, train=given)
    start.check_folders(config)
    found = trees.flatten(split_adapter(start.load_start(config, saved_runs.abstract(config)))[0])
    tiny_run.assert_bit_equal(found, averaged(folder / "run"))


@pytest.mark.parametrize("name", ["a.safetensors", "made"])
def test_another_base_is_refused_and_a_random_one_is_not(folder, name, tmp_path):
    other = converted_base(tmp_path / "other", seed=1)
    config = tiny_run.experiment(adapter=True, train={"base": other, "adapter": str(folder / name)})
    with pytest.raises(CheckpointError, match="trained on another base than train.base = .*expected owner/base"):
        start.load_start(config, saved_runs.abstract(config))
    config = tiny_run.experiment(adapter=True, train={"base": c.RANDOM, "adapter": str(folder / name)})
    start.load_start(config, saved_runs.abstract(config))


def test_a_run_knows_its_base_when_the_folder_is_gone_and_whatever_dtype_it_keeps(folder, tmp_path):
    assert base.of_run(folder / "run") == base.of_folder(folder / "base")  # bfloat16 kernels, of float32 ones
    shutil.copytree(folder / "run", tmp_path / "run")
    values = json.loads((tmp_path / "run/config.json").read_text())
    values["train"]["base"] = str(tmp_path / "gone")
    (tmp_path / "run/config.json").write_text(json.dumps(values))
    convert.convert("adapter", tmp_path / "run", tmp_path / "b.safetensors")
    found = open_adapter(tmp_path / "b.safetensors").base
    assert (found.fingerprint, found.name) == (base.of_folder(folder / "base"), "gone")


def test_a_base_that_was_trained_too_is_told_and_left_out(tmp_path):
    config = tiny_run.experiment(adapter=True, train={"trainable": (".*",), "base": "", "ema_decay": 0.0})
    report = convert.convert("adapter", saved_run(tmp_path / "run", config), tmp_path / "a.safetensors")
    assert "parameters of the base were trained as well" in str(report) and "raw weights" in str(report)
    found = open_adapter(tmp_path / "a.safetensors")
    assert found.base.fingerprint == base.of_run(tmp_path / "run") and "trained with it, in run" in found.base.name
    assert all(path.split("/")[0] == "face_encoder" or "/adapter/" in path for path in averaged(tmp_path / "run"))


def test_leaves_that_the_run_kept_frozen_are_there(tmp_path):
    config = tiny_run.experiment(adapter=True, train={"trainable": (r"transformer/blocks/adapter/.*",)})
    report = convert.convert("adapter", saved_run(tmp_path / "run", config), tmp_path / "a.safetensors")
    assert "leaves of the adapter were frozen in this run" in str(report)
    config = tiny_run.experiment(adapter=True, train={"adapter": str(tmp_path / "a.safetensors")})
    found = trees.flatten(split_adapter(start.load_start(config, saved_runs.abstract(config)))[0])
    kept = {path: leaf.astype(found[path].dtype) for path, leaf in averaged(tmp_path / "run").items()}
    tiny_run.assert_bit_equal(found, kept)


def flipped(folder, tmp_path):
    """The file with one bit of a tensor changed."""
    content = bytearray((folder / "a.safetensors").read_bytes())
    content[-1001] ^= 4
    (tmp_path / "x.safetensors").write_bytes(content)


def foreign(folder, tmp_path):
    save_file({"layer.weight": np.ones((2, 3), np.float32)}, tmp_path / "x.safetensors")


def lora(folder, tmp_path):
    save_file({"transformer.to_q.lora_A.weight": np.ones((2, 3), np.float32)}, tmp_path / "x.safetensors")


def truncated(folder, tmp_path):
    (tmp_path / "x.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-10])


def nan(folder, tmp_path):
    """A file that was written so, with a checksum that is right."""
    path = tmp_path / "x.safetensors"
    path.write_bytes((folder / "a.safetensors").read_bytes()[:-4] + np.float32(np.nan).tobytes())
    checksums.seal(path, adapters.BEFORE_CHECKSUM)


def newer(folder, tmp_path):
    content = (folder / "a.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(content.replace(b'"format_version":"1"', b'"format_version":"2"'))


def other_settings(folder, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((folder / "a.safetensors").read_bytes().replace(b'\\"queries\\"', b'\\"querys_\\"'))
    checksums.seal(path, adapters.BEFORE_CHECKSUM)


def text(folder, tmp_path):
    (tmp_path / "x.safetensors").write_text("this is no file of tensors")


BAD = {
    flipped: "found another checksum; copy it again",
    foreign: "mmjax.convert adapter exported, found other tensors, such as layer.weight",
    lora: "found a LoRA's tensors",
    truncated: "the file is truncated",
    nan: "found NaN or infinity",
    newer: "found format 2, of a newer mmjax; update mmjax",
    other_settings: "querys_",
    text: "found no header in it",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_what_is_no_sound_adapter_is_one_error_wherever_it_is_given(folder, make, tmp_path):
    make(folder, tmp_path)
    given, config = tmp_path / "x.safetensors", runs.read_config(folder / "run")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, adapter=str(given)))
    uses = {
        "convert": lambda: convert.convert("adapter", given, tmp_path / "out"),
        "train": lambda: start.load_start(config, saved_runs.abstract(config)),
        "sample": lambda: load_sampler(folder / "run", adapter=given).params,
    }
    for use, run in uses.items():
        with pytest.raises(CheckpointError) as caught:
            run()
        assert str(given) in str(caught.value) and BAD[make] in str(caught.value), use
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors"]


def test_a_flipped_bit_is_found_wherever_it_is(folder, tmp_path):
    content, path = (folder / "a.safetensors").read_bytes(), tmp_path / "x.safetensors"
    header = int.from_bytes(content[:8], "little")
    places = np.random.default_rng(0).integers(0, len(content), 60).tolist()
    for place in (*places, 0, 3, *range(8, 8 + header, 150)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(MMJaxError):
            open_adapter(path)


def test_a_folder_of_a_newer_version_and_one_that_is_incomplete(folder, tmp_path):
    shutil.copytree(folder / "made", tmp_path / "made")
    manifest = json.loads((tmp_path / "made/mmjax.json").read_text())
    (tmp_path / "made/mmjax.json").write_text(
        json.dumps(manifest | {"metadata": manifest["metadata"] | {"format_version": "2"}})
    )
    with pytest.raises(CheckpointError, match="of a newer mmjax; update mmjax"):
        open_adapter(tmp_path / "made")
    (tmp_path / "made/mmjax.json").write_text(json.dumps(manifest | {"metadata": 3}))
    with pytest.raises(CheckpointError, match="convert it again"):
        open_adapter(tmp_path / "made")
    with pytest.raises(CheckpointError, match="found a converted transformer"):
        open_adapter(folder / "base")


def test_what_cannot_be_exported_is_one_line(folder, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    plain = saved_run(tmp_path / "plain", tiny_run.experiment(adapter=False))
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "begun", tiny_run.experiment(adapter=True), {})
    for source, expected in {
        plain: "expected a run that trains an adapter, found train.trainable",
        tmp_path / "begun": "no complete checkpoint",
        tmp_path / "empty": "expected the workdir of a run, found no config.json",
        tmp_path / "nowhere": "found nothing there",
        folder / "base": "found a converted transformer",
    }.items():
        assert expected in refused(capsys, "--source", source, "--output", out)
        assert not out.exists()
    run = ["--source", folder / "run", "--output", out]
    assert "no checkpoint of step 4; there are 3, 5" in refused(capsys, *run, "--step", 4)
    assert "float32 or bfloat16" in refused(capsys, *run, "--dtype", "float16")
    assert "--reverse: expected none with an adapter" in refused(capsys, *run, "--reverse")
    file = ["--source", folder / "a.safetensors", "--output", tmp_path / "out"]
    assert "holds one step alone" in refused(capsys, *file, "--step", 5)
    with pytest.raises(SystemExit):
        convert.main(["vae", *map(str, file), "--licence", "MIT"])
    assert "it goes with what a run has learned, adapter, pretrained" in capsys.readouterr().err


def test_nothing_that_stands_there_is_lost(folder, tmp_path, capsys):
    out, made = tmp_path / "a.safetensors", tmp_path / "made"
    there, back = (
        ["--source", folder / "run", "--output", out],
        ["--source", folder / "a.safetensors", "--output", made],
    )
    out.write_bytes(b"mine")
    assert "that mmjax did not make" in refused(capsys, *there, "--overwrite") and out.read_bytes() == b"mine"
    out.unlink()
    convert.main(["adapter", *map(str, there)])
    assert capsys.readouterr().out.startswith(f"wrote {out}: ")
    assert "add --overwrite" in refused(capsys, *there)
    convert.main(["adapter", *map(str, (*there, "--overwrite", "--step", 3))])
    capsys.readouterr()
    assert open_adapter(out).step == 3
    made.mkdir()
    (made / "notes.txt").write_text("mine")
    assert "is there already" in refused(capsys, *back)
    assert "mmjax did not write it" in refused(capsys, *back, "--overwrite")
    assert "expected a name that ends in .safetensors" in refused(capsys, "--source", folder / "run", "--output", made)
    assert "expected the name of a folder" in refused(capsys, *back[:3], tmp_path / "b.safetensors")


def test_one_step_and_one_kind_of_weights_are_there(folder):
    with pytest.raises(ConfigError, match="expected step 3, found the weights of step 5 alone"):
        open_adapter(folder / "made", step=3)
    with pytest.raises(ConfigError, match="expected raw weights, found the averaged ones alone"):
        open_adapter(folder / "a.safetensors", weights="raw")


@pytest.mark.parametrize(
    ("config", "licence"),
    [
        (
            c.Experiment(encoders=c.Encoders("t5", "photomaker")),
            "CogVideoX License (of the base, CogVideoX-5B); ins",
        ),
        (
            c.Experiment(model=c.Model(c.Transformer(layers=30, heads=30, position="sincos"))),
            "Apache-2.0 (of the base,",
        ),
        (c.Experiment(model=c.Model(c.Transformer(layers=2))), "unknown"),
    ],
)
def test_what_is_known_of_the_licence(config, licence):
    assert convert.export.known_licence(config).startswith(licence)


def test_an_adapter_in_the_wrong_place_says_where_it_belongs(folder, tmp_path):
    with pytest.raises(MMJaxError, match="an adapter that mmjax exported: python -m mmjax.convert adapter"):
        convert.convert("transformer", folder / "a.safetensors", tmp_path / "x")
    for name in ("a.safetensors", "made"):
        with pytest.raises(CheckpointError, match="it is an adapter.*as --adapter"):
            load_sampler(folder / name)
    config = tiny_run.experiment(adapter=True, train={"base": str(folder / "made")})
    with pytest.raises(CheckpointError, match="expected a converted component, found a trained adapter"):
        start.load_start(config, saved_runs.abstract(config))


def test_what_lies_there_says_what_it_is(folder, tmp_path):
    """File, folder made of it, base and run, by `mmjax.inspect`; a file that was changed is refused."""
    found = inspect.inspect(folder / "a.safetensors")
    assert (found.kind, found.more["step"], found.more["encoders"]) == ("exported adapter", "5", ENCODERS)
    assert found.versions["jax"] == jax.__version__ and "base" in found.more and str(folder) not in str(found.more)
    expected = {"made": ("converted weights", "adapter"), "base": ("converted weights", "transformer")}
    for name, (kind, component) in expected.items():
        assert (inspect.inspect(folder / name).kind, inspect.inspect(folder / name).more["component"]) == (
            kind,
            component,
        )
    assert inspect.inspect(folder / "run").more == {"experiment": "tiny_run", "last checkpoint": 5}
    content = bytearray((folder / "a.safetensors").read_bytes())
    content[-1001] ^= 4
    (tmp_path / "b.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="found another checksum"):
        inspect.inspect(tmp_path / "b.safetensors")
    save_file({"layer.weight": np.ones((2, 3), np.float32)}, tmp_path / "c.safetensors")
    assert inspect.inspect(tmp_path / "c.safetensors").notice is None
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "c.safetensors").read_bytes()[:-4])
    with pytest.raises(MMJaxError, match="c.safetensors: expected .* truncated"):
        inspect.inspect(tmp_path / "c.safetensors")
