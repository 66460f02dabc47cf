"""What processes of tests run under: fake devices, programs that compile quickly, and for commands no torch.

Nearly all of a test's time is compilation, and most of that was LLVM's work on the code of XLA's newer fusion emitters;
the older ones compute the same in a third of the time (the gradient of `tests.helpers.tiny`'s model: 2.4 s of a core
for 7.1). Newer versions of XLA have only the newer ones, and end a process that is given a flag that they do not know.

With the older ones it depends on the operations beside a product and a sum whether LLVM makes one rounding of them or
two. So they go without the instructions for that: what is computed alike in two programs is the same bit for bit.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SELDOM_GARBAGE = Path(__file__).with_name("seldom_garbage")  # on a process's path: a seventh less for a short training
_PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=600"  # of a machine that is busy with other work
_QUICK = ["--xla_cpu_use_fusion_emitters=false", *["--xla_cpu_max_isa=AVX"] * (platform.machine() == "x86_64")]
_HAS_QUICK = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)


def xla_flags(devices: int) -> str:
    """What `XLA_FLAGS` is to be before JAX is imported, for some fake CPU devices."""
    as_for_users = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "0"
    quick = _QUICK if _HAS_QUICK and not as_for_users else []
    return " ".join([f"--xla_force_host_platform_device_count={devices}", _PATIENT, *quick])


def environment(devices: int = 1) -> dict[str, str]:
    """That of a command of mmjax: this repository, no torch, what it prints at once."""
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).with_name("without_torch"), SELDOM_GARBAGE)))
    return os.environ | {"XLA_FLAGS": xla_flags(devices), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
