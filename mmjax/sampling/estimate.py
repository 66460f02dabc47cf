"""What sampling will take, said before it starts: memory from the compiled programs, time from their operations."""

import dataclasses

import jax

from mmjax import config as c
from mmjax import trees
from mmjax.models import flops

ASSUMED_MFU = 0.45  # of one H200 with CogVideoX-5B: `python -m mmjax.bench`


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes that the fullest device will hold, by the compiler's account, and seconds where its speed is known.

    denoise, decode: bytes, weights that stay there included. limit: bytes that the device offers, None where it keeps
    that to itself. seconds: of all denoising steps, None on devices of unknown speed. compile_seconds: spent already.
    """

    denoise: int
    decode: int
    limit: int | None
    steps: int
    seconds: float | None
    compile_seconds: float

    @property
    def fits(self) -> bool:
        return self.limit is None or max(self.denoise, self.decode) <= self.limit

    def __str__(self) -> str:
        of = f" of {_size(self.limit)}" if self.limit else ""
        time = f"about {self.seconds:.0f} s" if self.seconds else "time is known after the first step"
        return (
            f"denoising holds {_size(self.denoise)}{of}, decoding {_size(self.decode)}; {self.steps} steps: {time} "
            f"(compiled in {self.compile_seconds:.0f} s)"
        )


def denoising_seconds(config: c.Experiment, abstract: trees.Tree, size: tuple[int, int, int]) -> float | None:
    """Seconds of all steps of one video at `ASSUMED_MFU`; None where the device's peak is not known."""
    peak = flops.peak_flops(jax.devices()[0].device_kind)
    if not peak:
        return None
    shape = config.autoencoder.latent_shape(*size)
    shape = (config.model.transformer.whole_frames(shape[0]), *shape[1:])
    forward = flops.sample_flops(config, {}, abstract, shape).forward
    forwards = config.sampling.steps * (1 if config.sampling.guidance == 1 else 2)
    return forwards * forward / (peak * ASSUMED_MFU)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
