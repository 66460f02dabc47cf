"""The experiment that trains a CogVideoX VAE, as a frozen, validated record beside `mmjax.config.Experiment`. No JAX.

`configs/mini_vae.py` is one. It reads records whose latents are the pixels themselves, and nothing else of them:
prepared with the autoencoder `pixel` (METHOD 9). `experiment_of` tells the two kinds of experiment apart.
"""

import dataclasses
from collections.abc import Mapping

import ml_collections

from mmjax.config import Experiment
from mmjax.model_settings import VAE
from mmjax.training_settings import RecordSources, Run, TrainingExperiment
from mmjax.validation import Number, free, within

_WEIGHT = Number(float, 0, 1e6)


@dataclasses.dataclass(frozen=True)
class VAELoss:
    """Weights of the terms, each a mean: over pixels, over the pyramid's pixels, over the numbers of the latents."""

    l1: float = 1.0
    pyramid: float = 0.0  # of the bands of a Laplacian pyramid, in L1 as well
    kl: float = 1e-4

    def problems(self):
        yield from within(self, l1=_WEIGHT, pyramid=_WEIGHT, kl=_WEIGHT)
        if not (self.l1 or self.pyramid):
            yield "l1", self.l1, "above 0, or loss.pyramid above 0: nothing else asks for the picture"


@dataclasses.dataclass(frozen=True)
class VAERun(Run):
    """The run of a VAE; all of it is trained unless `trainable` says which part, such as `decoder/.*`."""

    STARTS = ("vae",)

    vae: str = free("")  # to start from: folder of a converted VAE of the same sizes
    reconstruct_every: int = free(500)  # PSNR, SSIM and a sheet of held-out people
    reconstruct_count: int = free(64)  # held-out records of each source that are measured

    def problems(self):
        yield from super().problems()
        yield from within(self, reconstruct_every=Number(int, 0, 2**31 - 1, "0 is off"))
        yield from within(self, reconstruct_count=Number(int, 1, 100_000))


@dataclasses.dataclass(frozen=True)
class VAEExperiment(TrainingExperiment):
    """Everything that the training of a VAE needs. `vae.scaling_factor` is measured at the end, whatever it says."""

    vae: VAE = VAE()
    loss: VAELoss = VAELoss()
    data: RecordSources = RecordSources()
    train: VAERun = VAERun()

    def problems(self):
        yield from super().problems()
        unit = self.vae.spatial_compression
        for side in ("height", "width"):
            if getattr(self.data, side) % unit:
                yield f"data.{side}", getattr(self.data, side), f"a multiple of {unit} pixels, as vae.channels has them"
        for name, allowed in (("attention", ("auto",)), ("remat", ("none", "full"))):
            if getattr(self.runtime, name) not in allowed:
                yield f"runtime.{name}", getattr(self.runtime, name), f"{' or '.join(allowed)} for a VAE"
        if self.runtime.stream:
            yield "runtime.stream", True, "False: a VAE has no blocks that wait on the host"


def experiment_of(values: Mapping | ml_collections.ConfigDict) -> Experiment | VAEExperiment:
    """The experiment of either kind that nested settings describe: that of a VAE has sizes of its own, `vae`.

    Raises `ConfigError` that lists everything wrong with them.
    """
    return (VAEExperiment if "vae" in values else Experiment).from_config_dict(values)
