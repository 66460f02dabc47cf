"""Whether text and face encoders stay on the device between videos, and what that costs."""

import os
from pathlib import Path

from mmjax.errors import ConfigError
from mmjax.outputs import size_text
from mmjax.sampling import Sampler, Size

CHOICES = ("auto", "resident", "released")
_SHARE = 0.9  # of the device that may be planned with


def chosen_residency(sampler: Sampler, choice: str, size: Size) -> tuple[bool, str]:
    """(whether they stay, a sentence that says what that costs), for videos of a size; compiles for one.

    Encoders without weights cost nothing, and nothing is said of them.

    With "auto" they stay where they fit beside what denoising and decoding will hold; where a device does not say how
    much memory it has, as CPUs do not, half of the machine's free memory is taken for it.

    Raises `ConfigError` for another choice.
    """
    if choice not in CHOICES:
        raise ConfigError(f"text_encoder = {choice!r}: expected one of {', '.join(CHOICES)}")
    weights = encoder_bytes(sampler)
    if not weights:
        return True, ""
    estimate = sampler.estimate(size)
    limit = estimate.limit or _free_memory() // 2
    needed = weights + max(estimate.denoise, estimate.decode)
    fits = needed <= _SHARE * limit
    resident = fits if choice == "auto" else choice == "resident"
    if resident:
        doubt = "" if fits else f", which is more than fits: with the model {size_text(needed)} of {size_text(limit)}"
        return True, f"Text and face encoders stay on the device, which takes {size_text(weights)} of it{doubt}."
    why = "" if fits else f", since both would take {size_text(needed)} of {size_text(limit)}"
    return False, f"Text and face encoders make room for the model{why}: each video reads {size_text(weights)} first."


def encoder_bytes(sampler: Sampler) -> int:
    """Bytes of the encoders' weights on disk, about what they take of the device."""
    encoders = sampler.config.encoders
    folders = [Path(each) for each in (encoders.text_encoder, encoders.photomaker) if each]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
