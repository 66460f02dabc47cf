"""Training on prepared records needs none of the networks that made them; a folder that is missing is named first."""

import sys

import pytest

from mmjax import train as entry
from mmjax.encoders import build as encoders
from mmjax.errors import CheckpointError
from mmjax.models import build
from mmjax.training import state
from mmjax.weights import start
from tests.helpers import random_records, tiny_run

ENCODERS = {
    "text": "t5/1 weights=ab12 length=20 id_tokens=2 dtype=bfloat16",
    "face": "photomaker/1 weights=ab12 arcface=arcface/1:cd34 detector=det.onnx:ef56 dtype=bfloat16",
    "autoencoder": "cogvideox_vae/1 source=ab12 record=cd34 encode=float32",
}


def experiment(folder, **train):
    """One whose encoders are all networks, in folders that are not there."""
    names = {"text_encoder": "gone/t5", "photomaker": "gone/photomaker", "face_models": "gone/antelopev2"}
    return tiny_run.experiment(
        adapter=True,
        model={"transformer": tiny_run.transformer(latent_channels=16)},
        autoencoder={"name": "cogvideox", "weights": "gone/vae"},
        encoders={"text": "t5", "face": "photomaker", **names},
        data={"sources": (str(folder),), "height": 32, "width": 32},
        train={"steps": 1, "log_every": 1, "validate_every": 1, "checkpoint_every": 0, "ema_decay": 0.0, **train},
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Random records that these networks are said to have made."""
    folder = tmp_path_factory.mktemp("records") / "images"
    config = experiment(folder)
    return random_records.write(folder, config, encoders=ENCODERS)


@pytest.mark.slow
def test_prepared_records_train_without_the_networks_that_made_them(records, tmp_path, monkeypatch):
    for maker in ("_t5", "_arcface", "_photomaker", "_cogvideox"):
        monkeypatch.setattr(encoders, maker, lambda *_, **__: pytest.fail("made an encoder"))
    monkeypatch.setitem(sys.modules, "insightface", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert int(entry.train(experiment(records), tmp_path / "run").step) == 1


@pytest.mark.parametrize("setting", ["base", "photomaker", "adapter"])
def test_a_missing_folder_is_named_before_anything_is_read_or_made(records, tmp_path, monkeypatch, setting):
    monkeypatch.setattr(start, "load_start", lambda *_: pytest.fail("read weights"))
    monkeypatch.setattr(state, "create_state", lambda *_: pytest.fail("made a state"))
    monkeypatch.setattr(build, "abstract_params", lambda *_: pytest.fail("traced the model"))
    config = experiment(records, **{setting: str(tmp_path / "gone")})
    with pytest.raises(CheckpointError, match=f"train.{setting} = .*gone: expected a folder that .* has written"):
        entry.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
