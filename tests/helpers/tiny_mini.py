"""A whole model as the mini is one, of a few thousand weights: 32 x 32 pixels, an autoencoder of its own."""

import dataclasses
from pathlib import Path

from mmjax import config as c
from mmjax.encoders.build import make_autoencoder, make_face_encoder, make_text_encoder
from mmjax.models.mini import mini
from tests.helpers import converted, saved_runs
from tests.helpers import face_pictures as fp

SIDE, FRAMES = 32, 9
ABOUT = {"summary": "A test.", "data": ["drawn numbers: no terms"], "limits": ["it knows nobody"], "figures": ["none"]}


def experiment(name: str, vae: Path | str, *, adapter: bool = True, **changes) -> c.Experiment:
    """The mini's experiment, made small. Changes are given by group: `train={"steps": 3}`."""
    data = {"sources": ("images", "clips"), "weights": (0.5, 0.5), "batches": (8, 8), "frames": (1, FRAMES)}
    return shrunk(mini(name, adapter=adapter), vae, **changes | {"data": data | changes.get("data", {})})


def shrunk(made: c.Experiment, vae: Path | str, **changes) -> c.Experiment:
    """An experiment of the mini's, such as one in `configs/`, made small."""
    transformer = dict(layers=2, heads=2, head_dim=16, text_dim=8, time_dim=8)
    transformer |= dict(base_frames=3, base_height=4, base_width=4)
    small = dict(clip_dim=64, clip_tokens=5, perceiver_width=16, perceiver_depth=1, perceiver_head_dim=8, queries=4)
    small |= dict(can_condition_dim=8, can_hidden=8)
    model = c.Model(
        dataclasses.replace(made.model.transformer, **transformer), dataclasses.replace(made.model.adapter, **small)
    )
    made = dataclasses.replace(
        made,
        model=model,
        autoencoder=c.Autoencoder("cogvideox", weights=str(vae)),
        encoders=dataclasses.replace(made.encoders, face_models=str(fp.PACK)),
        data=dataclasses.replace(made.data, height=SIDE, width=SIDE),
        sampling=dataclasses.replace(made.sampling, steps=3),
        precision=c.Precision(compute="float32", frozen="float32", decode="float32"),
    )
    for group, change in changes.items():
        made = dataclasses.replace(made, **{group: dataclasses.replace(getattr(made, group), **change)})
    return made.validated()


def run(folder: Path, seed: int = 0) -> Path:
    """folder/vae, folder/transformer and folder/run, a stage 2 on them whose adapter is drawn."""
    vae = converted.component(folder / "vae", "vae", converted.SMALL_VAE, seed)
    base = converted.component(folder / "transformer", "transformer", experiment("base", vae).model.transformer, seed)
    config = experiment("tiny_stage2", vae, train={"base": str(base)})
    encoders = {
        "text": make_text_encoder(config).fingerprint,
        "face": make_face_encoder(config).fingerprint,
        "autoencoder": make_autoencoder(config).fingerprint,
    }
    return saved_runs.saved_run(folder / "run", config, encoders, (5 + seed,))
