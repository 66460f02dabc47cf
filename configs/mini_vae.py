"""The VAE of mini: photos and clips of real people at 128 x 128 pixels, 8 x 8 pixels of 4 frames to 16 channels.

Records are prepared with pixels for latents, photos with `--input`, clips likewise:

python -m mmjax.prepare --input photos --input clips --output records --config configs/faces.py --face-models vectron \\
  --config.data.height=128 --config.data.width=128 --config.data.frames="(1, 17)"
python -m mmjax.train --config configs/mini_vae.py
python -m mmjax.convert vae --source runs/mini_vae --output weights/mini/vae
"""

from mmjax import config as c
from mmjax.model_settings import VAE
from mmjax.training_settings import RecordSources
from mmjax.vae_experiment import VAEExperiment, VAELoss, VAERun


def get_config():
    return VAEExperiment(
        name="mini_vae",
        vae=VAE(channels=(48, 64, 96, 112), resnets=1, norm_groups=16, sample_height=128, sample_width=128),
        loss=VAELoss(l1=1.0, kl=1e-4),
        data=RecordSources(
            sources=("records/images", "records/clips"),
            weights=(0.7, 0.3),
            batches=(64, 8),
            frames=(1, 17),
            height=128,
            width=128,
            workers=4,
        ),
        optim=c.Optim(learning_rate=1e-3, warmup_steps=100, weight_decay=0.0),
        train=VAERun(
            steps=2500,
            ema_decay=0.995,
            log_every=50,
            validate_every=0,
            reconstruct_every=1000,
            reconstruct_count=64,
            checkpoint_every=1000,
            checkpoint_minutes=2.0,
            keep_best="reconstructions/psnr",
        ),
        runtime=c.Runtime(remat="none"),
    ).to_config_dict()
