"""Torch pickles, for sources without safetensors: the same weights, no code run, and clear errors."""

import json
import pickle
import shutil
import sys

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import load_file  # noqa: E402

from mmjax import conversion  # noqa: E402
from mmjax.conversion import pickles  # noqa: E402
from mmjax.errors import ConversionError  # noqa: E402
from tests.helpers import diffusers_folders  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def pickled(folder, dtype=torch.float32, shards=1, **save):
    """A tiny T5 encoder as transformers saved it before safetensors; returns the same weights as safetensors."""
    twin = folder.parent / "twin"
    diffusers_folders.text_encoder().to(dtype).save_pretrained(twin)
    state = load_file(twin / "model.safetensors")
    folder.mkdir()
    shutil.copy(twin / "config.json", folder)
    names = ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{i}-of-{shards}.bin" for i in range(shards)]
    homes = {key: names[i % shards] for i, key in enumerate(state)}
    for name in names:
        part = {key: value for key, value in state.items() if homes[key] == name}
        torch.save(part, folder / name, **save)
    if shards > 1:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": homes}))
    return twin


def same(first, second):
    (config, params), (other, others) = (conversion.load_component(folder) for folder in (first, second))
    assert config == other
    jax.tree.map(np.testing.assert_array_equal, params, others)
    assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(lambda x: x.dtype, others)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before zip"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pickles_give_what_safetensors_give(tmp_path, dtype, legacy):
    twin = pickled(tmp_path / "source", dtype, _use_new_zipfile_serialization=not legacy)
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    conversion.convert("text-encoder", twin, tmp_path / "expected")
    same(tmp_path / "ours", tmp_path / "expected")


def test_shards_follow_their_index(tmp_path):
    twin = pickled(tmp_path / "source", shards=3)
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    conversion.convert("text-encoder", twin, tmp_path / "expected")
    same(tmp_path / "ours", tmp_path / "expected")
    (tmp_path / "source" / "pytorch_model-1-of-3.bin").unlink()
    with pytest.raises(ConversionError, match="3 shards, 1 of them are not there: pytorch_model-1-of-3.bin"):
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "again")


def test_safetensors_come_first(tmp_path, monkeypatch):
    twin = pickled(tmp_path / "source")
    shutil.copy(twin / "model.safetensors", tmp_path / "source")
    monkeypatch.setattr(pickles, "load", lambda file: pytest.fail("the pickle was read"))
    conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")


def test_hub_pickles_are_fetched_only_where_there_is_nothing_else(tmp_path, monkeypatch):
    pickled(tmp_path / "source")
    asked = []

    def download(name, allow_patterns):
        asked.append(allow_patterns)
        return str(tmp_path / "source")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    conversion.convert("text-encoder", "google/t5-v1_1-xxl", tmp_path / "ours")
    assert [any(".bin" in pattern for pattern in patterns) for patterns in asked] == [False, True]


class Code:
    def __reduce__(self):
        return (print, ("this ran",))


def with_code(file):
    file.write_bytes(pickle.dumps({"shared.weight": Code()}, protocol=2))


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def pointer(file):
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


DAMAGES = [
    (with_code, "expected a torch pickle of tensors alone"),
    (truncated, "the file is truncated"),
    (pointer, "found a git-lfs pointer"),
    (lambda file: file.write_text("<html>"), "expected a torch pickle of tensors alone"),
    (lambda file: torch.save([1, 2], file), "expected a dictionary of tensors, found list"),
    (lambda file: torch.save({"state": {"a": torch.zeros(1)}}, file), "found state: dict"),
    (lambda file: torch.save({"shared.weight": torch.zeros(1, dtype=torch.int8)}, file), "is torch.int8, expected"),
]


@pytest.mark.parametrize("damage,message", DAMAGES)
def test_damaged_pickle_is_one_clear_error(tmp_path, capsys, damage, message):
    pickled(tmp_path / "source")
    damage(tmp_path / "source" / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=message) as caught:
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    assert "this ran" not in capsys.readouterr().out
    assert "weights_only" not in str(caught.value)  # torch's advice to read it all the same is not passed on
    print(caught.value)
    assert not (tmp_path / "ours").exists()


def test_without_torch_it_says_what_to_install(tmp_path, monkeypatch):
    pickled(tmp_path / "source")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConversionError, match="torch is not installed to read it: pip install torch"):
        conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")


def test_left_out_tensors_are_told(tmp_path):
    """A tied second name of the embedding, and a decoder."""
    pickled(tmp_path / "source")
    file = tmp_path / "source" / "pytorch_model.bin"
    state = torch.load(file)
    extra = {f"decoder.block.{i}.layer.0.weight": torch.zeros(1) for i in range(3)}
    torch.save(state | extra | {"encoder.embed_tokens.weight": state["shared.weight"]}, file)
    report = conversion.convert("text-encoder", tmp_path / "source", tmp_path / "ours")
    print(report)
    manifest = json.loads((tmp_path / "ours" / "mmjax.json").read_text())
    assert list(manifest["unused"]) == ["decoder.block.{0-2}.layer.0.weight", "encoder.embed_tokens.weight"]
    for keys, why in manifest["unused"].items():
        assert f"left out: {keys} ({why})" in report.notes
    conversion.convert_back("text-encoder", tmp_path / "ours", tmp_path / "back")
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == state.keys()
