"""MagicMirror on CogVideoX-2B: sin-cos positions, a stronger SNR shift, DDIM; 49 frames of 480 x 720."""

from mmjax import config as c


def get_config():
    return c.Experiment(
        name="magicmirror_2b",
        model=c.Model(c.Transformer(layers=30, heads=30, position="sincos")),
        schedule=c.Schedule(snr_shift=3.0),
        data=c.Data(sources=("records/images", "records/clips"), weights=(0.5, 0.5), batches=(64, 8), frames=(1, 49)),
        encoders=c.Encoders("t5", "photomaker"),  # their folders: --config.encoders.text_encoder=DIR ...
        train=c.Train(steps=35_000, sample_every=0),
        sampling=c.Sampling(sampler="ddim", dynamic_guidance=False),
    ).to_config_dict()
