"""MagicMirror on CogVideoX-5B, the paper's model: 49 frames of 480 x 720, base frozen in bfloat16."""

from mmjax import config as c


def get_config():
    return c.Experiment(
        name="magicmirror_5b",
        data=c.Data(sources=("records/images", "records/clips"), weights=(0.5, 0.5), batches=(64, 8), frames=(1, 49)),
        encoders=c.Encoders("t5", "photomaker"),  # their folders: --config.encoders.text_encoder=DIR ...
        train=c.Train(steps=35_000, sample_every=0),
    ).to_config_dict()
