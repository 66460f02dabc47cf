"""Trains an experiment, or goes on with one.

    python -m mmjax.train --config configs/tiny.py
    python -m mmjax.train --config configs/tiny.py --config.train.steps=200 --workdir runs/short
    python -m mmjax.train --workdir runs/short        # goes on with the run that is there

Everything is checked before JAX starts: a setting that is unknown, of the wrong type or out of range ends the program
with status 2 and one message.
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from mmjax.config import Experiment
from mmjax.errors import ConfigError, exits_cleanly

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Experiment: a Python file with get_config(); --config.KEY=VALUE changes a setting.",
    lock_config=False,
    accept_new_attributes=True,  # an unknown setting gets through to `Experiment`, which names the nearest known one
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/NAME, the experiment's name.")
_CACHE = flags.DEFINE_string("compilation_cache", None, "Folder in which JAX keeps compiled programs between runs.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0 when there are several; auto: ask the cluster (TPU pod, Slurm, MPI)."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are, with --coordinator HOST:PORT.")
_PROCESS = flags.DEFINE_integer("process", None, "This process's number, from 0, with --coordinator HOST:PORT.")


def main(arguments: list[str]) -> None:
    """Reads the experiment, then starts JAX."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells of every file otherwise
    if len(arguments) > 1:
        raise ConfigError(f"{arguments[1]}: unknown argument; settings are given as --config.KEY=VALUE")
    config = experiment(_CONFIG.value, _WORKDIR.value)
    workdir = Path(_WORKDIR.value or Path("runs") / config.name)

    import jax  # from here on devices are touched

    if _CACHE.value:
        jax.config.update("jax_compilation_cache_dir", str(Path(_CACHE.value).resolve()))
    if _COORDINATOR.value == "auto":
        jax.distributed.initialize()
    elif _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)

    from mmjax.sampling import Preview
    from mmjax.training.loop import train

    train(config, workdir, Preview(config) if config.train.sample_every else None)


def experiment(values, workdir: str | None) -> Experiment:
    """The experiment that `--config` and its overrides describe; without them, the one of the workdir."""
    if values is not None:
        return Experiment.from_config_dict(values)
    if workdir is None:
        raise ConfigError(
            "expected --config FILE to start a run, such as configs/tiny.py, or --workdir to go on with one"
        )
    from mmjax.training.checkpoint import read_config

    return read_config(workdir)


def parse(argv: list[str]) -> list[str]:
    """Parses the command line. What the flag libraries have to say about it becomes one `ConfigError`."""
    try:
        arguments = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # a file that could not be read says so only now
        return arguments
    except flags.UnrecognizedFlagError as error:
        hint = "; settings come after --config FILE" if error.flagname.startswith("config.") else ""
        raise ConfigError(f"{error}{hint}") from error
    except (flags.Error, OSError, SyntaxError, ValueError, TypeError, AttributeError, KeyError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        raise ConfigError("--config: " + " ".join(text.split())) from error


if __name__ == "__main__":
    exits_cleanly(app.run)(main, flags_parser=parse)
    sys.exit(0)
