"""`mmjax.convert pretrained`: a run's whole model as files, and as folders again; what is none of them, in one line."""

import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from mmjax import convert, inspect, sample, trees
from mmjax.conversion import load_component
from mmjax.encoders.vae import load_autoencoder
from mmjax.errors import CheckpointError, ConfigError, ConversionError, OutputError
from mmjax.pretrained import names, packing
from mmjax.sampling import load_sampler
from mmjax.weights import adapters, base, parameters, shipped
from tests.helpers import converted, tiny_mini
from tests.helpers import face_pictures as fp

pytestmark = fp.needs_pack
FILES = [*(shipped.file_name(part) for part in shipped.PARTS), "README.md"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """run/ and what it was trained on; mini/, its files; tree/, folders of them; other/mini, of other values."""
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "about.json").write_text(json.dumps(tiny_mini.ABOUT))
    tiny_mini.run(folder)
    pack(folder / "run", folder / "mini", folder)
    convert.convert("pretrained", folder / "mini", folder / "tree", reverse=True)
    pack(folder / "run", folder / "other/mini", folder, dtype="vae=float16,base=float16")
    return folder


def pack(source, output, folder, **given):
    return convert.convert("pretrained", source, output, about=folder / "about.json", licence="Test only", **given)


def video_size(path):
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        return stream.frames, stream.height, stream.width


def there(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.mark.slow
@pytest.mark.parametrize("mini", ["mini", "other/mini"])  # int8; float16 but for the adapter
def test_file_to_folders_to_file_gives_equal_bytes(folder, tmp_path, mini):
    convert.convert("pretrained", folder / mini, tmp_path / "tree", reverse=True)
    convert.convert("pretrained", tmp_path / "tree", tmp_path / "mini")
    assert there(tmp_path / "mini") == there(folder / mini)
    assert sorted(path.name for path in (tmp_path / "mini").iterdir()) == sorted(FILES)


def test_the_folders_are_what_training_takes(folder):
    """The restored values, with the names and fingerprints that go with them."""
    tree, parts = folder / "tree", shipped.open_model(folder / "mini")
    record = parts["base"].record.origin
    assert base.of_folder(tree / "transformer") == record.base.fingerprint != base.of_run(folder / "run")
    _, transformer = load_component(tree / "transformer")
    for path, leaf in trees.flatten({"transformer": transformer}).items():
        np.testing.assert_array_equal(leaf, parts["base"].leaves[path].restored())
    adapter = adapters.open_adapter(tree / "adapter")
    adapter.check_base(lambda: base.of_folder(tree / "transformer"), "the base")
    assert adapter.config.model == record.config.model and adapter.step == 5
    assert trees.flatten(load_component(tree / "vae")[1]).keys() == parts["vae"].leaves.keys()


def test_the_files_say_what_they_are(folder, tmp_path):
    with safe_open(folder / "mini/vae.safetensors", "numpy") as opened:
        said = opened.metadata()
    assert (said["format"], said["format_version"], said["part"]) == ("mmjax pretrained", "1", "vae")
    assert (said["licence"], said["weights"]) == ("Test only", "ema") and str(folder) not in str(said)
    record = shipped.open_part(folder / "mini/vae.safetensors", "vae").record
    assert record.contents.keys() == set(shipped.PARTS) and record.about.data == ("drawn numbers: no terms",)
    assert 0 < record.rounding["base"] < 0.01
    card = (folder / "mini/README.md").read_text()
    for line in (
        "# mini",
        "A test.",
        "drawn numbers: no terms",
        "it knows nobody",
        "Test only",
        "| `base.safetensors` |",
    ):
        assert line in card
    kernels = {path for path in load_file(folder / "mini/base.safetensors") if path.endswith("kernel")}
    assert kernels and all(f"{path}.scale" in load_file(folder / "mini/base.safetensors") for path in kernels)


@pytest.mark.slow
def test_inspecting_them_says_the_same(folder):
    assert inspect.inspect(folder / "mini").kind == "shipped model"
    found = inspect.inspect(folder / "mini/vae.safetensors")
    assert found.kind == "shipped model's vae" and found.more["shipped"]["about"]["summary"]
    assert found.more["licence"] == "Test only"


def test_a_sampler_of_the_files_is_that_of_the_run_but_for_the_rounding(folder):
    sampler, run = (load_sampler(folder / name, face_models=fp.PACK) for name in ("mini", "run"))
    for path, leaf in trees.flatten(sampler.params).items():
        exact = np.asarray(trees.flatten(run.params)[path], np.float32)
        assert np.abs(np.asarray(leaf) - exact).max() <= np.abs(exact).max() / 127 + 1e-6, path
    assert sampler.source == {"model": str(folder / "mini"), "step": 5, "weights": "ema"}
    assert sampler.check([Image.fromarray(fp.astronaut())]) == []  # the face encoder is the one it was trained with
    assert "vae_stored=int8" in sampler.conditioned_by()[1] and "vae_stored" not in sampler.conditioned_by()[0]
    assert sampler.config.precision.compute == "float32"


@pytest.mark.slow
def test_by_its_name_from_a_photograph_to_a_clip(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "HERE", folder)
    monkeypatch.chdir(tmp_path)
    assert names.names() == ["mini"]
    Image.fromarray(fp.astronaut()).save("me.png")
    line = ["--model", "mini", "--reference", "me.png", "--prompt", "A woman img smiles", "--output", "x.mp4"]
    sample.main([*line, "--face-models", str(fp.PACK)])
    said = json.loads((tmp_path / "x.json").read_text())
    assert said["source"]["model"] == "mini" and video_size(tmp_path / "x.mp4") == (9, 32, 32)
    (tmp_path / "mini").mkdir()  # a folder of that name goes before
    with pytest.raises(CheckpointError, match="--model mini: expected the workdir .*; found no config.json in it"):
        load_sampler("mini")


def test_an_unknown_name_is_one_line_with_the_names_there_are(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "HERE", folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_sampler("maxi")
    assert "or the name of a model that comes with mmjax (mini); there is no such folder" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_another_adapter_on_the_same_base(folder, tmp_path):
    """The model's own, trained on: that of the tree fits, that of another base does not."""
    sampler = load_sampler(folder / "mini", adapter=folder / "tree/adapter", face_models=fp.PACK)
    own = load_sampler(folder / "mini", face_models=fp.PACK)
    for one, other in zip(*(trees.flatten(each.params).values() for each in (sampler, own)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(CheckpointError, match="was trained on another base"):
        load_sampler(folder / "other/mini", adapter=folder / "tree/adapter", face_models=fp.PACK)
    for given, message in ({"step": 6}, "expected step 6, found the weights of step 5"), ({"weights": "raw"}, "raw"):
        with pytest.raises(ConfigError, match=message):
            load_sampler(folder / "mini", **given)


def missing(mini, other):
    (mini / "adapter.safetensors").unlink()


def foreign(mini, other):
    shutil.copyfile(other / "base.safetensors", mini / "base.safetensors")


def swapped(mini, other):
    (mini / "vae.safetensors").rename(mini / "x")
    (mini / "base.safetensors").rename(mini / "vae.safetensors")
    (mini / "x").rename(mini / "base.safetensors")


def cut(mini, other):
    (mini / "vae.safetensors").write_bytes((mini / "vae.safetensors").read_bytes()[:-100])


def flipped(mini, other):
    content = bytearray((mini / "vae.safetensors").read_bytes())
    content[-1001] ^= 4
    (mini / "vae.safetensors").write_bytes(content)


def not_ours(mini, other):
    from safetensors.numpy import save_file

    save_file({"layer.weight": np.ones((2, 3), np.float32)}, mini / "base.safetensors")


def newer(mini, other):
    content = (mini / "vae.safetensors").read_bytes()
    (mini / "vae.safetensors").write_bytes(content.replace(b'"format_version":"1"', b'"format_version":"2"'))


BAD = {
    missing: "adapter.safetensors: no such file",
    foreign: "base.safetensors: expected a file of the same model as vae.safetensors, adapter.safetensors",
    swapped: "vae.safetensors: expected the vae of a shipped model, found its base",
    cut: "vae.safetensors: expected .* bytes, found .*: the file is truncated",
    flipped: "vae.safetensors: expected the file as it was written, found another checksum",
    not_ours: "base.safetensors: expected the base of a model .* found other tensors",
    newer: "vae.safetensors: expected a part of a shipped model of format 1 or before, found format 2, of a newer",
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_what_is_no_whole_model_is_refused_with_one_line(folder, tmp_path, damage):
    shutil.copytree(folder / "mini", tmp_path / "mini")
    damage(tmp_path / "mini", folder / "other/mini")
    for use in (
        lambda: load_sampler(tmp_path / "mini"),
        lambda: convert.convert("pretrained", tmp_path / "mini", tmp_path / "tree", reverse=True),
    ):
        with pytest.raises(CheckpointError, match=BAD[damage]) as caught:
            use()
        assert "\n" not in str(caught.value)
    if "vae" in BAD[damage].partition(":")[0]:
        with pytest.raises(CheckpointError):
            load_autoencoder(tmp_path / "mini/vae.safetensors")


@pytest.mark.slow
def test_what_cannot_be_packed_is_one_line(folder, tmp_path, monkeypatch):
    def refused(error, match, *args, **given):
        with pytest.raises(error, match=match) as caught:
            pack(*args, folder, **given)
        assert "\n" not in str(caught.value) and not list((tmp_path / "out").glob("*"))

    out = tmp_path / "out"
    refused(ConversionError, "--dtype int4: expected int8 or float16", folder / "run", out, dtype="int4")
    refused(ConversionError, "--dtype vea=int8: expected", folder / "run", out, dtype="vea=int8")
    refused(ConversionError, "--step 5: expected a run", folder / "tree", out, step=5)
    refused(CheckpointError, "no checkpoint of step 4", folder / "run", out, step=4)
    with pytest.raises(ConversionError, match="--about: expected a JSON file"):
        convert.convert("pretrained", folder / "run", out)
    monkeypatch.setattr(packing, "LARGEST", packing._HEADERS + 1000)
    refused(ConversionError, "expected at most 0 MB together, found 0.2 MB of weights in vae=int8", folder / "run", out)
    monkeypatch.undo()
    shutil.copytree(folder / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    other = converted.component(tmp_path / "vae", "vae", converted.SMALL_VAE, seed=1)
    config["autoencoder"]["weights"] = str(other)
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    refused(ConversionError, "expected the autoencoder that made the run's records", tmp_path / "run", out)
    config["encoders"]["text"] = "t5"
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    refused(ConversionError, "encoders.text = t5: expected word_table", tmp_path / "run", out)
    with pytest.raises(OutputError, match="add --overwrite"):
        pack(folder / "run", folder / "mini", folder)


@pytest.mark.slow
def test_a_runs_base_becomes_a_folder_that_training_starts_from(folder, tmp_path):
    convert.convert("transformer", folder / "run", tmp_path / "base")
    assert base.of_folder(tmp_path / "base") == base.of_run(folder / "run") == base.of_folder(folder / "transformer")
    record, params = load_component(tmp_path / "base")
    expected = trees.flatten(parameters.load_params(folder / "run")["transformer"])
    for path, leaf in trees.flatten(params).items():
        np.testing.assert_array_equal(leaf, expected[path])
    assert record == tiny_mini.experiment("x", "").model.transformer
    with pytest.raises(ConversionError, match="--reverse: expected none with transformer of this source"):
        convert.convert("transformer", folder / "run", tmp_path / "other", reverse=True)
