"""The command line of entry points that take an experiment: `--config FILE` and `--config.KEY=VALUE`.

A file with several experiments takes the name of one behind a colon, `--config FILE:NAME`: its `get_config(NAME)`.

Everything is checked before JAX starts: a setting that is unknown, of the wrong type or out of range ends the program
with status 2 and one message.

Paths are treated alike in every flag of every command: `path` reads them, as the `type` of an argparse flag or through
`define_path`; in an experiment's settings `experiment` does.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from mmjax.config import BEST, Experiment
from mmjax.errors import ConfigError, MMJaxError, exits_cleanly
from mmjax.vae_experiment import VAEExperiment, experiment_of
from mmjax.validation import COUNT_OR_NONE


class Parser(argparse.ArgumentParser):
    """`argparse`'s, for commands without an experiment: a mistake is one `ConfigError`, without the usage around it."""

    def error(self, message: str):
        raise ConfigError(message)


PROGRAMS = "~/.cache/mmjax/programs"  # where the commands without an experiment keep compiled programs


def run(main: Callable[[], None], define_flags: Callable[[], None], default: Path | None = None) -> None:
    """Defines the flags, parses the command line and calls `main()`, which asks `flags.FLAGS` for what was given.

    Flags are defined here and not where modules are imported, so that one process may import several entry points whose
    flags have the same names. The user's mistakes become one message and status 2.

    Args:
      define_flags: defines the entry point's own flags, beside `--config` and `--compilation_cache`.
      default: the experiment's file where `--config` names none.
    """

    def checked(arguments: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax reports every file otherwise
        if len(arguments) > 1:
            raise ConfigError(f"{arguments[1]}: unknown argument; settings are given as --config.KEY=VALUE")
        main()

    def parsed(arguments: list[str]) -> list[str]:
        try:
            return _parse(_with_config(arguments, default))
        except SystemExit:
            sys.exit(0)  # absl has answered --help, and would end with 1

    _define_flags()
    define_flags()
    exits_cleanly(app.run)(checked, flags_parser=parsed)
    sys.exit(0)


def path(text: str) -> str:
    """A path as a flag gives it, `~` at its beginning being a home: shells leave that to us in --output=~/x.mp4."""
    return os.path.expanduser(text)


def checkpoint_step(text: str) -> int | str:
    """Which checkpoint of a run a flag asks for: a step, or "best", for `type=` of argparse."""
    return text if text == BEST else COUNT_OR_NONE(text)


def define_path(name: str, default: str | None, help: str, multi: bool = False) -> None:
    """Defines an absl flag for a path, or with `multi` for several."""
    parser, serializer = _PathParser(), flags.ArgumentSerializer()
    if multi:
        flags.DEFINE_multi(parser, serializer, name, default, help)
    else:
        flags.DEFINE(parser, name, default, help, serializer=serializer)
    _show_in_help(name)


def keep_compiled_programs(folder: str | None) -> None:
    """Turns on JAX's persistent compilation cache in `folder`, unless there is none or the environment names one."""
    import jax

    if folder and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.realpath(path(folder)))


def experiment() -> Experiment:
    """The experiment of a diffusion model that `--config` and its overrides describe.

    Raises `ConfigError` for settings that cannot work, where there are none, and for an experiment that trains a VAE.
    """
    found = training_experiment()
    if not isinstance(found, Experiment):
        raise ConfigError(
            f"--config: expected the experiment of a diffusion model, such as configs/faces.py, found {found.name}, "
            "which trains a VAE: python -m mmjax.train alone takes it"
        )
    return found


def training_experiment(workdir: str | None = None) -> Experiment | VAEExperiment:
    """The experiment, of either kind, that `--config` and its overrides describe; without them, that of the workdir.

    Raises `ConfigError` for settings that cannot work, and where neither is given.
    """
    if flags.FLAGS.config is not None:
        return experiment_of(_with_homes(flags.FLAGS.config))
    if workdir is None:
        raise ConfigError(
            "expected --config FILE to start a run, such as configs/tiny.py, or --workdir to go on with one"
        )
    from mmjax.weights.runs import read_experiment

    return read_experiment(workdir)


class _PathParser(flags.ArgumentParser):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        return path(argument)

    def flag_type(self) -> str:
        return "string"


def _with_homes(config: ConfigDict) -> ConfigDict:
    """The settings with paths below a home written out; other words do not begin so."""

    def expanded(value):
        if isinstance(value, str) and value.startswith("~"):
            return path(value)
        return tuple(map(expanded, value)) if isinstance(value, tuple) else value

    for name, value in config.items(preserve_field_references=True):
        if isinstance(value, ConfigDict):
            _with_homes(value)
        elif expanded(value) != value:
            config[name] = expanded(value)
    return config


def _define_flags() -> None:
    """The flags of every entry point that takes an experiment; `--help` lists them beside its own."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Experiment: a Python file with get_config(), FILE or FILE:NAME; --config.KEY=VALUE changes a setting.",
        lock_config=False,
        accept_new_attributes=True,  # an unknown setting gets through to `Experiment`, which names the nearest one
    )
    define_path("compilation_cache", None, "Folder in which JAX keeps compiled programs between runs.")
    _show_in_help("config")


def _show_in_help(name: str) -> None:
    """Lists a flag that is defined here in the `--help` of the command, beside the flags of its own module."""
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def _with_config(argv: list[str], default: Path | None) -> list[str]:
    """The command line with a `--config`: the one that is named, that of the run in `--workdir`, or the default."""
    argv = [_config_path(*pair) for pair in zip(["", *argv], argv, strict=False)]
    if _values(argv, "config"):
        return argv
    for workdir in map(path, _values(argv, "workdir")[-1:]):
        if (Path(workdir) / "config.json").is_file():
            from mmjax.weights import runs

            default = f"{runs.__file__}:{workdir}"
    return argv if default is None else [argv[0], f"--config={default}", *argv[1:]]


def _values(argv: list[str], flag: str) -> list[str]:
    """What is given for a flag, as `--flag=value` or as `--flag value`."""
    found = []
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}"):
            found.append(value if equals else following)
    return found


def _refuse_repeated(argv: list[str]) -> None:
    """Refuses a list that is given twice: the flag library would join both, where another flag's last value counts."""
    for name in dict.fromkeys(argument.lstrip("-").partition("=")[0] for argument in argv[1:]):
        values = _values(argv, name)
        if len(values) > 1 and "." in name and isinstance(flags.FLAGS[name], flags.MultiFlag):
            raise ConfigError(
                f"--{name} is given {len(values)} times, as {' and '.join(values)}: expected all its values at once, "
                f'as --{name}="(1, 2)"'
            )


def _config_path(before: str, argument: str) -> str:
    """An argument with `~` expanded where it is the experiment's file, whose flag is not ours to define."""
    name, equals, value = argument.partition("=")
    if equals and name.lstrip("-") == "config":
        return f"{name}={path(value)}"
    return path(argument) if before in ("--config", "-config") else argument


def _parse(argv: list[str]) -> list[str]:
    """Parses the command line. What the flag libraries have to say about it becomes one `ConfigError`."""
    try:
        arguments = flags.FLAGS(argv)
        _refuse_repeated(argv)
        if flags.FLAGS.config is not None:
            flags.FLAGS.config.to_dict()  # a file that could not be read says so only now
        return arguments
    except flags.UnrecognizedFlagError as error:
        hint = "; settings come after --config FILE" if error.flagname.startswith("config.") else ""
        raise ConfigError(f"{error}{hint}") from error
    except flags.Error as error:  # which names its flag
        if "get_config() takes 0 positional arguments" in str(error):
            file, _, name = _values(argv, "config")[-1].partition(":")
            raise ConfigError(f"--config {file}:{name}: expected {file}, which has no variants to name") from error
        raise ConfigError(" ".join(str(error).split())) from error
    except Exception as error:  # whatever the user's file raises when it is run
        kind = "" if isinstance(error, (OSError, SyntaxError, ValueError, MMJaxError)) else f"{type(error).__name__}: "
        text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"--config: {kind}{' '.join(text.split())}") from error
