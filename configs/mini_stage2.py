"""The mini's stage 2 (METHOD 4): clips, from the averaged adapter of stage 1's run, the base frozen.

python -m mmjax.train --config configs/mini_stage2.py

Photos come along: there are many more of them than of clips, and of people.
"""

import dataclasses

from mmjax import config as c
from mmjax.models.mini import FRAMES, mini


def get_config():
    base = mini("mini_stage2")
    return dataclasses.replace(
        base,
        data=dataclasses.replace(
            base.data,
            sources=("records/mini/images", "records/mini/clips"),
            weights=(0.3, 0.7),
            batches=(256, 64),
            frames=(1, FRAMES),
        ),
        loss=c.Loss(identity=c.IdentityLoss(weight=0.1, judge="vectron", crop=0, at_once=32, samples=32)),
        optim=c.Optim(learning_rate=2e-4, warmup_steps=200),
        train=dataclasses.replace(base.train, steps=5_000, base="weights/mini/transformer", adapter="runs/mini_stage1"),
    ).to_config_dict()
