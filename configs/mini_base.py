"""The mini's base: the CogVideoX transformer alone, trained from nothing on photos and clips with their captions.

python -m mmjax.train --config configs/mini_base.py
python -m mmjax.convert transformer --source runs/mini_base --output weights/mini/transformer    # and then stage 1

Before it comes the autoencoder, whose latents the records hold: `configs/mini_vae.py`, converted into weights/mini/vae;
then `python -m mmjax.prepare --config configs/mini_stage2.py --input ... --output records/mini`. The text is the
records' captions, class word included, through the word table: a model trained on it knows the words that it has seen.
"""

import dataclasses

from mmjax import config as c
from mmjax.models.mini import FRAMES, mini


def get_config():
    base = mini("mini_base", adapter=False)
    return dataclasses.replace(
        base,
        data=dataclasses.replace(
            base.data,
            sources=("records/mini/images", "records/mini/clips"),
            weights=(0.6, 0.4),
            batches=(512, 96),
            frames=(1, FRAMES),
        ),
        loss=c.Loss(face_region_probability=0.0, drop_identity=0.0, drop_both=0.0),
        optim=c.Optim(learning_rate=5e-4, warmup_steps=500),
        train=dataclasses.replace(base.train, steps=20_000, trainable=(".*",)),
    ).to_config_dict()
