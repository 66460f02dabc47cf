"""PhotoMaker V2's weights: the ID perceiver against the published code's numbers, conversion both ways, a run's start.

The golden numbers need no torch; writing the pickle, as published, does.
"""

import builtins
import dataclasses
import json
import os
import pickle

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the test extra: pip install -e '.[test]'")

from safetensors.torch import load_file, save_file  # noqa: E402

from mmjax import config as c  # noqa: E402
from mmjax import conversion, trees  # noqa: E402
from mmjax.conversion import engine, photomaker, registry, store  # noqa: E402
from mmjax.errors import CheckpointError, ConfigError, ConversionError  # noqa: E402
from mmjax.models import build  # noqa: E402
from mmjax.models.clip import CLIPVisionTower  # noqa: E402
from mmjax.models.magicmirror.face_branch import IdPerceiver  # noqa: E402
from mmjax.models.sizes import CLIPVision, PhotoMaker  # noqa: E402
from mmjax.precision import Policy  # noqa: E402
from mmjax.weights import start  # noqa: E402
from tests.helpers import photomaker_files, tiny_run  # noqa: E402
from tests.helpers.photomaker_files import FULL, TINY  # noqa: E402

KIND = registry.component("photomaker")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The tiny record's weights, converted: (published tensors, folder)."""
    folder = tmp_path_factory.mktemp("photomaker")
    tensors = photomaker_files.state()
    conversion.convert("photomaker", photomaker_files.save(folder / "photomaker-v2.bin", tensors), folder / "ours")
    return tensors, folder / "ours"


def off(found, expected) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def adapter(record: PhotoMaker) -> c.Adapter:
    return c.Adapter(**record.adapter_settings)


# Against the published code


def test_id_perceiver_equals_the_published_code(converted, record_property):
    """Pickle to converted folder to network, at a small size."""
    record, params = conversion.load_component(converted[1])
    q_id, features = photomaker_files.inputs(TINY, batch=3)
    found = jax.jit(IdPerceiver(adapter(record), Policy()).apply)({"params": params["id_perceiver"]}, q_id, features)
    error = off(found, photomaker_files.golden("tiny"))
    record_property("max_abs_error_over_max_abs", error)
    print(f"ID perceiver, width 256: max abs error / max abs output = {error:.1e}")
    assert found.shape == (3, 2, 256)
    assert error <= 1e-5


@pytest.mark.slow
def test_id_perceiver_equals_the_published_code_at_full_size(record_property):
    """Width 2048 on 257 patches, 0.2 billion weights, through the table."""
    leaves = [leaf for leaf in KIND.leaves(FULL) if leaf.path.startswith("id_perceiver/")]

    def read(key):
        return photomaker_files.weight(key.removeprefix("id_encoder."), shapes[key])

    shapes = {key: leaf.source_shape for leaf in leaves for key in leaf.keys}
    params = trees.unflatten({leaf.path: engine.assemble(leaf, read, np.dtype(np.float32)) for leaf in leaves})
    perceiver = IdPerceiver(adapter(FULL), Policy())
    found = jax.jit(perceiver.apply)({"params": params["id_perceiver"]}, *photomaker_files.inputs(FULL, batch=1))
    error = off(found, photomaker_files.golden("full"))
    record_property("max_abs_error_over_max_abs", error)
    print(f"ID perceiver, full size, {trees.count(params):,} parameters: max abs error / max abs output = {error:.1e}")
    assert error <= 1e-5


def test_names_and_shapes_are_the_published_ones():
    """All of the published class's tensors are in the table or unused, with a reason, at their true shapes."""
    published = {f"id_encoder.{key}": shape for key, shape in photomaker_files.published_shapes().items()}
    record = photomaker.read_sizes(published, "the published class")
    assert record == PhotoMaker() == FULL
    engine.check(KIND.leaves(record), KIND.used(published), "the published class")
    left = {key.split(".")[1] if "vision_model" not in key else key for key in published if photomaker.unused(key)}
    assert left == {
        "visual_projection",
        "visual_projection_2",
        "fuse_module",
        "id_encoder.vision_model.post_layernorm.weight",
        "id_encoder.vision_model.post_layernorm.bias",
    }
    print(f"PhotoMaker V2: {len(published)} tensors, {len(KIND.used(published))} used, of the ID encoder")


def test_id_perceiver_is_the_tree_of_our_model():
    """Path by path what the face encoder of a default experiment holds."""
    config = c.Experiment()
    model = build.abstract_params(config, tiny_run.mesh_of(config))
    mine = KIND.shapes(FULL)["id_perceiver"]
    trees.check_same(model["face_encoder"]["id_perceiver"], mine, "the converted ID perceiver")


def test_converted_clip_runs(converted):
    record, params = conversion.load_component(converted[1])
    assert record == TINY
    pixels = np.zeros((1, 28, 28, 3), np.float32)
    last, penultimate = CLIPVisionTower(record.clip, Policy()).apply({"params": params["clip"]}, pixels)
    assert last.shape == penultimate.shape == (1, 17, 64) and np.isfinite(last).all()
    query = converted[0]["vision_model.encoder.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(params["clip"]["blocks"]["query"]["kernel"][1], query.T)


# Conversion


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip_is_bit_for_bit(tmp_path, dtype):
    """Pickle to folder to safetensors, and that file to a folder again."""
    file = photomaker_files.save(tmp_path / "hub" / "photomaker-v2.bin", dtype=dtype)
    conversion.convert("photomaker", tmp_path / "hub", tmp_path / "ours")
    conversion.convert_back("photomaker", tmp_path / "ours", tmp_path / "back")
    found = load_file(tmp_path / "back" / "photomaker-v2.safetensors")
    published = torch.load(file, weights_only=True)["id_encoder"]
    expected = {f"id_encoder.{key}": value for key, value in published.items()}
    expected = {key: value for key, value in expected.items() if photomaker.unused(key) is None}
    assert found.keys() == expected.keys()
    assert all(
        found[key].dtype == expected[key].dtype and torch.equal(bits(found[key]), bits(expected[key])) for key in found
    )
    conversion.convert("photomaker", tmp_path / "back", tmp_path / "again")
    one, two = (conversion.load_component(tmp_path / name)[1] for name in ("ours", "again"))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_what_is_left_out_is_told(tmp_path, converted):
    report = conversion.convert("photomaker", photomaker_files.save(tmp_path / "v2.bin"), tmp_path / "ours")
    manifest = json.loads((tmp_path / "ours" / store.MANIFEST).read_text())
    for part in ("lora_weights", "fuse_module", "visual_projection", "post_layernorm", "position_ids"):
        assert part in str(report), report
        assert part in json.dumps(manifest["unused"])
    assert "SDXL" in str(report)
    assert set(manifest["source"]["sha256"]) == {"v2.bin"}


def test_hub_id_downloads_the_one_file(tmp_path, monkeypatch):
    asked = {}

    def download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(photomaker_files.save(tmp_path / "snapshot" / "photomaker-v2.bin").parent)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    conversion.convert("photomaker", "TencentARC/PhotoMaker-V2", tmp_path / "ours")
    assert asked == {"TencentARC/PhotoMaker-V2": ["photomaker-v2.bin"]}


class Payload:
    """What plain unpickling would call."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch's format", "plain pickle"])
def test_pickle_that_holds_more_than_tensors_is_refused(tmp_path, zipped):
    """And nothing of it runs."""
    payload, file = Payload(tmp_path / "was run"), tmp_path / "photomaker-v2.bin"
    if zipped:
        photomaker_files.save(file, extra=payload)
    else:
        file.write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(ConversionError, match="tensors alone"):
        conversion.convert("photomaker", file, tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_truncated_pickle_is_refused(tmp_path, kept):
    file = photomaker_files.save(tmp_path / "photomaker-v2.bin")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ConversionError, match="truncated"):
        conversion.convert("photomaker", file, tmp_path / "ours")


def test_without_torch_the_error_says_what_to_install(tmp_path, monkeypatch):
    file = photomaker_files.save(tmp_path / "photomaker-v2.bin")
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConversionError, match="pip install torch"):
        conversion.convert("photomaker", file, tmp_path / "ours")


def test_safetensors_need_no_torch(tmp_path, monkeypatch, converted):
    conversion.convert_back("photomaker", converted[1], tmp_path / "back")
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        assert name != "torch"
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    conversion.convert("photomaker", tmp_path / "back" / "photomaker-v2.safetensors", tmp_path / "ours")


def without_perceiver(tensors):
    return {key: value for key, value in tensors.items() if not key.startswith("qformer_perceiver")}


def resized(name, size):
    return lambda tensors: tensors | {f"qformer_perceiver.{name}": np.zeros(size, np.float32)}


@pytest.mark.parametrize(
    "change,complaint",
    [
        (without_perceiver, "PhotoMaker V1's, which has no ID perceiver"),
        (resized("token_norm.bias", 255), r"misshapen: .*token_norm.bias.*expected \[256\], found \[255\]"),
        (resized("token_norm.weight", 200), "make no PhotoMaker V2:\n.*width = 200: expected a multiple of head_dim"),
    ],
)
def test_files_that_do_not_fit_are_explained(tmp_path, change, complaint):
    file = photomaker_files.save(tmp_path / "photomaker-v2.bin", change(photomaker_files.state()))
    with pytest.raises(ConversionError, match=complaint):
        conversion.convert("photomaker", file, tmp_path / "ours")


def test_other_files_and_folders_are_named(tmp_path):
    tensors = {key: torch.from_numpy(value) for key, value in photomaker_files.state().items()}
    torch.save(tensors, tmp_path / "bare.bin")
    with pytest.raises(ConversionError, match="with id_encoder and lora_weights.*found vision_model.embeddings"):
        conversion.convert("photomaker", tmp_path / "bare.bin", tmp_path / "ours")
    with pytest.raises(ConversionError, match="expected photomaker-v2.bin.*found bare.bin"):
        conversion.convert("photomaker", tmp_path, tmp_path / "ours")


def test_missing_block_is_missed_by_name(tmp_path):
    """The blocks are counted by their highest number, so that one that is lost cannot pass for a shallower tower."""
    tensors = photomaker_files.state()
    lost = {key: value for key, value in tensors.items() if "encoder.layers.0.mlp" not in key}
    with pytest.raises(ConversionError, match="missing: id_encoder.vision_model.encoder.layers.0.mlp.fc1.weight"):
        conversion.convert("photomaker", photomaker_files.save(tmp_path / "x.bin", lost), tmp_path / "ours")


def test_a_record_survives_its_manifest(converted):
    assert conversion.read_record(converted[1]) == TINY
    assert PhotoMaker(CLIPVision(width=96, heads=4)).clip.tokens == 257


# The start of a run


def small(record: PhotoMaker) -> c.Adapter:
    return dataclasses.replace(tiny_run.ADAPTER, **record.adapter_settings)


def experiment(folder, record=TINY, **changes):
    model = {"adapter": dataclasses.replace(small(record), **changes)}
    return tiny_run.experiment(adapter=True, model=model, train={"photomaker": str(folder)})


def test_a_run_starts_from_photomakers_id_perceiver(tmp_path):
    """Weights published in half precision are trained in float32, sharded as the run asks."""
    file = photomaker_files.save(tmp_path / "photomaker-v2.bin", dtype="float16")
    conversion.convert("photomaker", file, tmp_path / "ours")
    config = tiny_run.experiment(
        adapter=True,
        model={"adapter": small(TINY)},
        train={"photomaker": str(tmp_path / "ours")},
        mesh={"data": 1, "fsdp": 4},
    )
    abstract = build.abstract_params(config, tiny_run.mesh_of(config, 4))
    loaded = start.load_start(config, abstract)
    expected = conversion.load_component(tmp_path / "ours", dtype="float32")[1]
    assert loaded.keys() == {"face_encoder"} and loaded["face_encoder"].keys() == {"id_perceiver"}
    found = loaded["face_encoder"]["id_perceiver"]
    jax.tree.map(np.testing.assert_array_equal, found, expected["id_perceiver"])
    for array, leaf in zip(
        jax.tree.leaves(found), jax.tree.leaves(abstract["face_encoder"]["id_perceiver"]), strict=True
    ):
        assert array.dtype == leaf.dtype == np.float32 and array.sharding == leaf.sharding


def test_weights_that_do_not_belong_there_are_refused(tmp_path, converted):
    def load(config):
        start.load_start(config, build.abstract_params(config, tiny_run.mesh_of(config)))

    with pytest.raises(CheckpointError, match="model.adapter.id_dim: the weights have 64, the experiment 32"):
        load(experiment(converted[1], id_dim=32))
    with pytest.raises(ConfigError, match="this model has no ID perceiver"):
        load(experiment(converted[1], identity_branch=False, can=False))
    with pytest.raises(CheckpointError, match="found no mmjax.json"):
        load(experiment(tmp_path))
    with pytest.raises(ConfigError, match="train.photomaker = here: expected empty with train.adapter"):
        tiny_run.experiment(adapter=True, train={"photomaker": "here", "adapter": "there"})


def test_safetensors_of_the_whole_encoder_are_read(tmp_path, converted):
    """With the unused parts, as PhotoMaker's own loader takes them."""
    tensors = {f"id_encoder.{key}": torch.from_numpy(value) for key, value in converted[0].items()}
    save_file(tensors, tmp_path / "photomaker-v2.safetensors")
    conversion.convert("photomaker", tmp_path, tmp_path / "ours")
    one, two = (conversion.load_component(folder)[1] for folder in (converted[1], tmp_path / "ours"))
    jax.tree.map(np.testing.assert_array_equal, one, two)
