"""The mini's stage 1 (METHOD 4): face branch and adapter on photos, the base frozen.

python -m mmjax.train --config configs/mini_stage1.py

It starts from weights/mini/transformer, where the head of `configs/mini_base.py` has it written. The identity loss
judges with the recogniser that conditions the model; figures are to be taken with others.
"""

import dataclasses

from mmjax import config as c
from mmjax.models.mini import mini


def get_config():
    base = mini("mini_stage1")
    return dataclasses.replace(
        base,
        data=dataclasses.replace(
            base.data, sources=("records/mini/images",), weights=(1.0,), batches=(256,), frames=(1,)
        ),
        loss=c.Loss(identity=c.IdentityLoss(weight=0.1, judge="vectron", crop=0, at_once=32, samples=32)),
        optim=c.Optim(learning_rate=5e-4, warmup_steps=200),
        train=dataclasses.replace(base.train, steps=10_000, base="weights/mini/transformer"),
    ).to_config_dict()
