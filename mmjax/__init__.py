"""MagicMirror in JAX: one photo of a person and a prompt become a video of that person, without tuning.

    import mmjax

    mmjax.convert("cogvideox", "zai-org/CogVideoX-5b", "weights/5b")
    mmjax.prepare(config, "records", ["photos", "clips"])  # config: an mmjax.Experiment, see configs/
    mmjax.train(config, "runs/mine")
    sampler = mmjax.load_sampler("weights/5b", adapter="runs/mine")
    mmjax.sample(sampler, [mmjax.Request("A man img smiling", ["face.jpg"])], ["smiling.mp4"])
    mmjax.evaluate("report", {"ours": "videos"}, "people", face_models="antelopev2")
    mmjax.demo(sampler)  # a page to try it

Importing this starts nothing: JAX and the rest come with the first name that is used. Where to begin reading:
METHOD.md (the method), `config` (every setting), `models/magicmirror/model.py`, `training/loop.py`,
`sampling/text_to_video.py`. The packages build on one another in this order: nn, diffusion, faces; models; conversion;
weights; encoders; records, evaluation, pretrained; synthetic, preparation, training, sampling; serving; and the
commands beside this file.
"""

import importlib
import sys
import types
from inspect import Signature, signature  # by name: `mmjax.inspect` is a command
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmjax.bench import bench
    from mmjax.config import Experiment
    from mmjax.convert import convert
    from mmjax.demo import demo
    from mmjax.errors import MMJaxError
    from mmjax.evaluate import evaluate
    from mmjax.inspect import inspect
    from mmjax.prepare import prepare
    from mmjax.quickstart import quickstart
    from mmjax.sample import sample
    from mmjax.sampling import Clip, Request, Sampler, load_sampler
    from mmjax.tiny import tiny
    from mmjax.train import train

__all__ = [
    "Clip",
    "Experiment",
    "MMJaxError",
    "Request",
    "Sampler",
    "bench",
    "convert",
    "demo",
    "evaluate",
    "inspect",
    "load_sampler",
    "prepare",
    "quickstart",
    "sample",
    "tiny",
    "train",
]

_HOMES = {"Experiment": "mmjax.config", "MMJaxError": "mmjax.errors"}
_HOMES |= dict.fromkeys(("Clip", "Request", "Sampler", "load_sampler"), "mmjax.sampling")


class _Command(types.ModuleType):
    """A command's module that can be called, as the function of its own name.

    `mmjax.train` is the module of `python -m mmjax.train`: Python sets it as this package's attribute at its first
    import, whatever stood there. So that `mmjax.train(config, workdir)` works before and after, the module itself is
    made callable.
    """

    def __call__(self, *args, **kwargs):
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        return signature(self._function)

    @property
    def _function(self):
        return getattr(self, self.__name__.rpartition(".")[2])


def callable_command(name: str) -> None:
    """Makes the module of a command callable; each command asks for it at its end, with its `__name__`."""
    if name != "__main__":
        sys.modules[name].__class__ = _Command


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"mmjax has no {name!r}; it offers {', '.join(__all__)}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    return importlib.import_module(f"mmjax.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if sys.argv[:1] == ["-m"]:  # what Python calls a command that it is about to run as `python -m mmjax.NAME`
    from mmjax.errors import stop_while_imported

    stop_while_imported()
