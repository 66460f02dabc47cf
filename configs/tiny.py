"""Drawn people at 32 x 32 pixels: the whole path on a CPU in minutes. Base and adapter are trained together."""

from mmjax import config as c
from mmjax.models.small import small_model


def get_config():
    return c.Experiment(
        name="tiny",
        model=small_model(height=32, width=32),
        autoencoder=c.Autoencoder("pixel"),
        data=c.Data(
            sources=("drawn_images", "drawn_clips"),
            weights=(0.85, 0.15),
            batches=(16, 4),
            frames=(1, 9),
            height=32,
            width=32,
            people=1000,
            held_out_people=32,
        ),
        optim=c.Optim(learning_rate=2e-3, warmup_steps=50),
        train=c.Train(
            steps=1200,
            trainable=(".*",),
            ema_decay=0.99,
            validate_every=600,
            sample_every=600,
            checkpoint_every=600,
        ),
        sampling=c.Sampling(sampler="ddim", steps=16, guidance=2.0, dynamic_guidance=False),
        runtime=c.Runtime(remat="none"),
        precision=c.Precision(compute="float32", trained="float32", frozen="float32"),
    ).to_config_dict()
