"""A device's memory: what a compiled program will hold of it, and how much there is."""

import re

import jax

_TPU_GIB = (  # (device kind, GiB that programs may use, as the compiler of libtpu 0.0.42.1 names it in its refusals)
    ("TPU (v5 lite|v5e)", 15.75),
    ("TPU (v5|v5p)", 95.74),
    ("TPU (v6 lite|v6e)", 31.25),
)


def held_bytes(program: jax.stages.Compiled) -> int | None:
    """Device memory of a running program: arguments, results and what lies between; host memory is not counted.

    None where the compiler does not say.
    """
    memory = program.memory_analysis()
    if memory is None:
        return None
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    return held - memory.alias_size_in_bytes


def device_limit() -> int | None:
    """Bytes of memory that JAX may use of the smallest local device; None where that is not said (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return min((stat["bytes_limit"] for stat in stats if "bytes_limit" in stat), default=None)


def peak_bytes() -> int | None:
    """The most that was in use so far on the fullest local device; None where that is not said (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((stat["peak_bytes_in_use"] for stat in stats if "peak_bytes_in_use" in stat), default=None)


def capacity(device: jax.Device) -> int | None:
    """Bytes of memory that programs may use of a device, which need not be here; None where that is not known (CPU)."""
    try:
        stats = device.memory_stats() or {}
    except jax.errors.JaxRuntimeError:  # of a topology, which has devices to compile for and none to ask
        stats = {}
    known = (size for kind, size in _TPU_GIB if re.fullmatch(kind, device.device_kind))
    return stats.get("bytes_limit") or next((int(size * 2**30) for size in known), None)
