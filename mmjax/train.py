"""Trains an experiment, or goes on with one.

python -m mmjax.train --config configs/tiny.py
python -m mmjax.train --config configs/tiny.py --config.train.steps=200 --workdir runs/short
python -m mmjax.train --workdir runs/short        # goes on with the run that is there
"""

from pathlib import Path

from absl import flags

from mmjax import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/NAME, the experiment's name.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0 when there are several; auto: ask the cluster (TPU pod, Slurm, MPI)."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are, with --coordinator HOST:PORT.")
_PROCESS = flags.DEFINE_integer("process", None, "This process's number, from 0, with --coordinator HOST:PORT.")


def main() -> None:
    """Reads the experiment, then starts JAX."""
    config = cli.experiment(cli.CONFIG.value, _WORKDIR.value)
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)

    import jax  # from here on devices are touched

    cli.keep_compiled_programs()
    if _COORDINATOR.value == "auto":
        jax.distributed.initialize()
    elif _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)

    from mmjax.sampling import Preview
    from mmjax.training.loop import train

    train(config, workdir, Preview(config) if config.train.sample_every else None)


if __name__ == "__main__":
    cli.run(main)
