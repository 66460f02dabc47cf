"""Starting the processes of one training run: what the command line says of them is checked, then JAX is started.

    processes.check_launch(coordinator, count, number)      # before JAX is imported
    processes.start(coordinator, count, number, patience)   # all are there and know each other
    processes.check_platform()

Every mistake is one line at every process that it concerns (`mmjax.roll_call`). From the start on the processes watch
one another (`mmjax.peers`).
"""

import os
from collections.abc import Mapping

from mmjax import roll_call
from mmjax.errors import ConfigError, error_text
from mmjax.roll_call import Place

START_TIMEOUT = 300  # seconds that all processes have to come; machines of one job may start minutes apart
_ALL_THERE = 120  # seconds for JAX's own start, when all processes are known to be there
_JAX_LOST = 300  # seconds of silence after which JAX ends all processes natively; `peers.LOST` comes first


def check_launch(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Refuses a launch line that lacks something, or says something that would be without effect (`ConfigError`)."""
    numbered = processes is not None or process is not None
    if coordinator in (None, "", "auto"):
        if numbered:
            found = "with --coordinator auto, which asks the cluster" if coordinator else "without --coordinator"
            raise ConfigError(
                f"--processes and --process have no effect {found}: expected --coordinator HOST:PORT, the address of "
                "process 0, beside them"
            )
        return
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigError(f"--coordinator {coordinator}: expected HOST:PORT, the address of process 0, or auto")
    if processes is None or process is None:
        raise ConfigError(f"--coordinator {coordinator}: expected --processes N and --process I beside it")
    if not 0 <= process < processes:
        raise ConfigError(
            f"--process {process}: expected a number from 0 to {processes - 1}, as --processes {processes}"
        )


def start(coordinator: str | None, processes: int | None, process: int | None, patience: float = START_TIMEOUT) -> None:
    """Starts `jax.distributed` where there are several processes, after `check_launch`.

    Args:
      coordinator: HOST:PORT of process 0; "auto" asks the cluster; None for one process alone.
      patience: seconds that all processes have to come.

    Raises:
      ConfigError: no cluster, a port that is taken, processes that are missing.
    """
    if coordinator:
        place, devices = _found(patience) if coordinator == "auto" else (Place(coordinator, processes, process), None)
        roll_call.attend(place, patience)
        _start_jax(place, devices)


def check_platform() -> None:
    """Refuses an environment whose devices JAX does not find (`ConfigError`)."""
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        asked = f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']}" if os.environ.get("JAX_PLATFORMS") else "JAX's devices"
        raise ConfigError(
            f"{asked}: expected devices that JAX finds on this machine, found none: {error_text(error)}; "
            "JAX_PLATFORMS=cpu takes the processor"
        ) from error


def _found(patience: float) -> tuple[Place, list[int] | None]:
    """This process's place as the cluster tells it, and which of the machine's devices are its own; None: all."""
    from jax._src.clusters import ClusterEnv  # as jax.distributed does, which shows it nowhere; its error is an abort

    try:
        address, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, int(patience)
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ConfigError(f"--coordinator auto: the cluster says nothing that can be used: {error!r}") from error
    if None in (address, processes, process):
        raise ConfigError(
            "--coordinator auto: expected a cluster that JAX knows (a TPU pod, Slurm's srun, Open MPI, Kubernetes), "
            "found none; on one machine leave --coordinator out, elsewhere give HOST:PORT, --processes and --process"
        )
    return Place(address, processes, process), _of_task(devices, os.environ)


def _of_task(devices: list[int] | None, env: Mapping[str, str]) -> list[int] | None:
    """Which GPUs are a Slurm task's own; None: all that it sees, or what JAX_LOCAL_DEVICE_IDS says.

    JAX gives each task the GPU of its number on the machine. A task that sees one alone (--gpus-per-task=1) has that,
    and the only task of a machine has all.
    """
    if devices is None or "JAX_LOCAL_DEVICE_IDS" in env:
        return None
    seen = env.get("CUDA_VISIBLE_DEVICES", "").count(",") + 1 if env.get("CUDA_VISIBLE_DEVICES") else 0
    if seen == 1:
        return [0]
    if "SLURM_NTASKS" in env and env["SLURM_NTASKS"] == env.get("SLURM_STEP_NUM_NODES"):
        return list(range(seen or int(env.get("SLURM_GPUS_ON_NODE", "1"))))
    return devices


def _start_jax(place: Place, devices: list[int] | None) -> None:
    import jax

    try:
        jax.distributed.initialize(
            place.address,
            place.processes,
            place.process,
            devices,
            initialization_timeout=_ALL_THERE,
            heartbeat_timeout_seconds=_JAX_LOST,
        )
    except RuntimeError as error:
        raise ConfigError(f"--coordinator {place.address}: JAX cannot start here: {error_text(error)}") from error
