"""Stage 1 of the paper's training (METHOD 4): pictures as videos of one frame, 30K steps of 64 samples.

python -m mmjax.train --config configs/stage1_image.py --config.train.base=weights/5b/transformer \\
  --config.train.photomaker=weights/5b/photomaker --config.autoencoder.weights=weights/5b/vae \\
  --config.loss.identity.judge=models/antelopev2

`configs/stage1_image.py:2b` and `:1_5_5b` train on the other published models. Each source is a folder that
`python -m mmjax.prepare --output records/NAME --config configs/magicmirror_5b.py` has written; its weight is the
paper's number of pictures in thousands [ours].
"""

import dataclasses

from mmjax import config as c
from mmjax.models.published import SIZES, published

SOURCES = {
    "records/laion_face/images": 50,  # A: LAION-Face, every picture its own reference
    "records/sfhq/images": 120,  # B: SFHQ, squared with black borders, one prompt template
    "records/ffhq/images": 202,  # C: FFHQ, 70K, and 132K made by PhotoMaker V2 of the same people
}
VARIANTS = SIZES


def get_config(size="5b"):
    base = published(size)
    return dataclasses.replace(
        base,
        name="stage1_image" if size == "5b" else f"stage1_image_{size}",
        loss=c.Loss(identity=c.IdentityLoss(weight=0.1, judge="antelopev2")),
        data=dataclasses.replace(
            base.data,
            sources=tuple(SOURCES),
            weights=tuple(map(float, SOURCES.values())),
            batches=(64,) * len(SOURCES),
            frames=(1,) * len(SOURCES),
        ),
        optim=c.Optim(learning_rate=1e-5),
        train=dataclasses.replace(base.train, steps=30_000),
    ).to_config_dict()
