"""Which GPU a process takes when several processes of one preparation run on a machine.

JAX takes every GPU that it sees, and three quarters of the memory of each. Two processes of one machine would take that
from each other, so each restricts itself to one GPU, before JAX starts its backends.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import jax
from absl import logging

_ALL = "all"  # jax_cuda_visible_devices: no restriction
_VISIBLE, _PREALLOCATE = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_PREALLOCATE"


@dataclasses.dataclass(frozen=True)
class GpuShare:
    """What a process sets before JAX starts its backends.

    device: for `jax_cuda_visible_devices`, a number among the GPUs that CUDA shows this process; None changes nothing.
    environment: variables to set.
    """

    device: int | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def gpu_share(process: int, processes: int, gpus: int, environment: Mapping[str, str]) -> GpuShare:
    """One GPU for process `process` of `processes`: its number modulo the number of GPUs that it may use.

    A process that is alone takes all of them. Among several none takes memory in advance, as two may have to share a
    GPU, unless the user's environment says otherwise. Numbers are those of all machines: where neighbouring numbers do
    not run on one machine, CUDA_VISIBLE_DEVICES, a GPU for each process, is the user's to set, and is kept to.

    Args:
      gpus: of this machine.
      environment: of this process.
    """
    if processes == 1:
        return GpuShare()
    own = {} if _PREALLOCATE in environment else {_PREALLOCATE: "false"}
    visible = visible_gpus(gpus, environment.get(_VISIBLE))
    return GpuShare(process % visible if visible else None, own if visible else {})


def visible_gpus(gpus: int, visible_devices: str | None) -> int:
    """How many GPUs of a machine CUDA shows, which stops at the first entry of CUDA_VISIBLE_DEVICES that names none.

    Entries are numbers, or names such as GPU-8932f937 or MIG-..., which are taken to be right.
    """
    if visible_devices is None:
        return gpus
    count = 0
    for entry in visible_devices.split(","):
        entry = entry.strip()
        named = entry.startswith(("GPU-", "MIG-"))
        if not (named or (entry.isdecimal() and int(entry) < gpus)):
            break
        count += 1
    return count


def take_gpu(process: int, processes: int) -> None:
    """Restricts JAX to this process's GPU; without effect where there is none, or where the user chose devices."""
    if jax.config.values["jax_cuda_visible_devices"] != _ALL:
        return
    share = gpu_share(process, processes, _gpus_of_machine(), os.environ)
    os.environ.update(share.environment)
    if share.device is not None:
        jax.config.update("jax_cuda_visible_devices", str(share.device))
        logging.info("process %d of %d takes GPU %d", process, processes, share.device)


def _gpus_of_machine() -> int:
    """NVIDIA's device files, so that neither CUDA nor a backend has to start for it."""
    return sum(path.name.removeprefix("nvidia").isdecimal() for path in Path("/dev").glob("nvidia[0-9]*"))
