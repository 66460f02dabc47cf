"""The mini: a whole CogVideoX with MagicMirror, small enough to be trained from nothing on one GPU and to be shipped.

Its three stages begin here, `configs/mini_base.py`, `mini_stage1.py` and `mini_stage2.py`, as those of full size do in
`mmjax.models.published`. Videos are 128 x 128 pixels, photos and clips of 17 frames; the autoencoder is its own
(`configs/mini_vae.py`), and what large encoders do elsewhere small ones do here: words have vectors drawn at random,
the portrait's patches are its latents.
"""

import dataclasses

from mmjax import config as c

SIDE, FRAMES = 128, 17  # pixels, frames of a clip
_TRANSFORMER = c.Transformer(
    layers=8,
    heads=6,
    head_dim=64,
    text_dim=128,
    text_length=40,
    time_dim=64,
    base_frames=5,
    base_height=16,
    base_width=16,
)
_ADAPTER = c.Adapter(
    clip_dim=96,
    clip_tokens=65,
    perceiver_width=192,
    perceiver_depth=2,
    perceiver_head_dim=64,
    queries=16,
    can_condition_dim=128,
    can_hidden=96,
)


def mini(name: str, *, adapter: bool = True) -> c.Experiment:
    """A stage's experiment, but for its records, the weights it starts from and its budget.

    22.9 M parameters: 16.8 of the base and 6.1 of face branch and adapter.

    Args:
      adapter: False for the base alone, which knows of no identity.
    """
    return c.Experiment(
        name=name,
        model=c.Model(_TRANSFORMER, dataclasses.replace(_ADAPTER, enabled=adapter)),
        autoencoder=c.Autoencoder("cogvideox", weights="weights/mini/vae"),
        encoders=c.Encoders("word_table", "arcface_vae", face_models="vectron"),
        data=c.Data(height=SIDE, width=SIDE),
        train=c.Train(checkpoint_minutes=4, checkpoint_every=2000, validate_every=1000, sample_every=2000),
        sampling=c.Sampling(sampler="dpm", steps=25, guidance=4.0),
        runtime=c.Runtime(remat="none"),
    )
