"""Stage 2 of the paper's training (METHOD 4): videos, 5K steps of 8 samples, from the adapter of stage 1.

python -m mmjax.train --config configs/stage2_video.py --config.train.base=weights/5b/transformer \\
  --config.autoencoder.weights=weights/5b/vae --config.loss.identity.judge=models/antelopev2

It starts from the averaged adapter in `runs/stage1_image`, where `configs/stage1_image.py` leaves it;
`--config.train.adapter=WORKDIR` names another run. `configs/stage2_video.py:2b` and `:1_5_5b` go with stage 1's.
"""

import dataclasses

from mmjax import config as c
from mmjax.models.published import SIZES, published

VARIANTS = SIZES


def get_config(size="5b"):
    base, suffix = published(size), "" if size == "5b" else f"_{size}"
    return dataclasses.replace(
        base,
        name=f"stage2_video{suffix}",
        loss=c.Loss(identity=c.IdentityLoss(weight=0.1, judge="antelopev2")),
        data=dataclasses.replace(
            base.data,
            sources=("records/videos/clips",),  # D: 29K clips of Pexels and Mixkit, 120K references made for them
            weights=(1.0,),
            batches=(8,),
            frames=(max(base.data.frames),),
        ),
        optim=c.Optim(learning_rate=1e-5),
        train=dataclasses.replace(base.train, steps=5_000, adapter=f"runs/stage1_image{suffix}"),
    ).to_config_dict()
