"""Real people at 64 x 64 pixels, from records that `python -m mmjax.prepare` makes of photos and clips.

Identity comes from a real recogniser, and no large weights are needed beside the face models: pixels are the latents,
words have vectors drawn at random, and so have the portrait's patches. Base and adapter are trained together.
"""

from mmjax import config as c
from mmjax.models.small import small_model


def get_config():
    return c.Experiment(
        name="faces",
        model=small_model(height=64, width=64, text_length=40, id_dim=512),
        autoencoder=c.Autoencoder("pixel"),
        encoders=c.Encoders("word_table", "arcface"),  # its models: --config.encoders.face_models=PACK
        data=c.Data(
            sources=("records/images", "records/clips"),
            weights=(0.85, 0.15),
            batches=(16, 4),
            frames=(1, 9),
            height=64,
            width=64,
        ),
        loss=c.Loss(identity=c.IdentityLoss(at_once=16)),  # with .weight and .judge set
        optim=c.Optim(learning_rate=2e-3, warmup_steps=50),
        train=c.Train(
            steps=3000,
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
