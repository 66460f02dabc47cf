"""An experiment that trains a VAE of a few thousand weights on drawn people, 16 x 16 pixels."""

import dataclasses

from mmjax import config as c
from mmjax.model_settings import VAE
from mmjax.training_settings import RecordSources
from mmjax.vae_experiment import VAEExperiment, VAELoss, VAERun
from tests.helpers import tiny_run

SIZES = VAE(latent_channels=2, channels=(4, 4), resnets=1, norm_groups=2, temporal_compression=2)


def records(folder) -> tuple[str, str]:
    """Folders of drawn photos and of drawn clips of 9 frames, whose latents are pixels."""
    data = dict(
        sources=("drawn_images", "drawn_clips"), weights=(1.0, 1.0), batches=(8, 8), frames=(1, 9), clips_per_person=1
    )
    return tiny_run.sources(tiny_run.experiment(folder, data=data)).folders


def experiment(sources: tuple[str, ...], **changes) -> VAEExperiment:
    """Changes are given by group: `train={"steps": 3}`."""
    frames = (1, 9)[: len(sources)]
    groups = {
        "vae": SIZES,
        "loss": VAELoss(pyramid=0.5, kl=1e-3),
        "data": RecordSources(sources, (1.0,) * len(sources), (8, 8)[: len(sources)], frames, 16, 16),
        "optim": c.Optim(learning_rate=1e-2, warmup_steps=2),
        "train": VAERun(
            steps=4,
            ema_decay=0.9,
            log_every=2,
            validate_every=2,
            validation_batches=1,
            checkpoint_every=2,
            reconstruct_every=2,
            reconstruct_count=3,
        ),
        "runtime": c.Runtime(remat="none"),
        "mesh": c.Mesh(data=1, fsdp=-1),
        "precision": c.Precision(compute="float32"),
    }
    for name, change in changes.items():
        groups[name] = dataclasses.replace(groups[name], **change)
    return VAEExperiment(name="tiny_vae", **groups).validated()
