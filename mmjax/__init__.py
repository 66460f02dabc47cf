"""MagicMirror in JAX: one photo of a person and a prompt become a video of that person, without tuning.

    import mmjax

    mmjax.train(config, "runs/mine")                      # config: an mmjax.Experiment, see configs/
    sampler = mmjax.load_sampler("weights/5b", adapter="runs/mine")
    clip = sampler.sample([mmjax.Request("A man img smiling", ["face.jpg"])])[0]

Importing this starts nothing: JAX and the rest come with the first name that is used. Where to begin reading:
METHOD.md (the method), `config` (every setting), `models/magicmirror/model.py`, `training/loop.py`,
`sampling/text_to_video.py`. The packages build on one another in this order: nn, diffusion, faces; models; conversion;
weights; encoders; records, evaluation; synthetic, preparation, training, sampling; and the commands beside this file.
"""

import importlib
import sys
import types

_NAMES = {"Experiment": "mmjax.config", "Request": "mmjax.sampling", "load_sampler": "mmjax.sampling"}
_COMMANDS = ("train", "prepare", "convert")

__all__ = [*_NAMES, *_COMMANDS]


class _Command(types.ModuleType):
    """A command's module that can be called, as the function of its own name.

    `mmjax.train` is the module of `python -m mmjax.train`: Python sets it as this package's attribute at its first
    import, whatever stood there. So that `mmjax.train(config, workdir)` works before and after, the module itself is
    made callable.
    """

    def __call__(self, *args, **kwargs):
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def callable_command(name: str) -> None:
    """Makes the module of a command callable; each of `_COMMANDS` asks for it when it is imported."""
    if name != "__main__":
        sys.modules[name].__class__ = _Command


def __getattr__(name: str):
    if name in _COMMANDS:
        return importlib.import_module(f"mmjax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"mmjax has no {name!r}; it offers {', '.join(__all__)}")


def __dir__():
    return sorted({*globals(), *__all__})
