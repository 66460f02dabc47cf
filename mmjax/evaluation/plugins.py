'''Metrics from a file of yours: `--plugin FILE.py`, for what needs weights that nobody may pass on.

Such a file has a function `metrics()` that returns objects with the parts of a `Metric` (`metrics/interface.py`).
Where a protocol's table has a column that it cannot fill by itself ("gme", "natural", "inception_score"), a metric of
that name fills it. An example that works as it is:

    """How bright a video is."""

    from mmjax.evaluation.metrics.interface import PIXELS, MeanOverVideos, Score


    class Brightness(MeanOverVideos):
        name = "brightness"  # its column
        title = "mean of all pixels, 0 to 255"
        better = ""  # "higher" | "lower" | "zero": nearer to 0 is better | "": no side is
        needs = frozenset({PIXELS})  # it sees `case.video.frames`, uint8 [n, h, w, 3]
        version = 1  # raise it when its numbers change, lest old ones be kept

        def score(self, case):
            series = case.video.frames.mean(axis=(1, 2, 3))
            return Score(float(series.mean()), series.tolist())


    def metrics():
        return [Brightness()]

The file is run: load what you trust. It may import what it likes, torch included, best inside `score`: metrics that
need pixels are taken in worker processes, each of which loads the file for itself.
'''

import hashlib
import importlib.util
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.errors import ConfigError, error_text
from mmjax.evaluation.metrics.interface import BETTER, NEEDS, Metric

FUNCTION = "metrics"


def load_plugins(files: Sequence[str | os.PathLike], taken: Collection[str] = ()) -> list[Metric]:
    """The metrics of plug-in files, in the order of the files and of what each of them returns.

    Worker processes call this before metrics are sent to them: an object's class is found by its module, whose name
    is made of the file's path.

    Args:
      taken: names of metrics that there are already.

    Raises:
      ConfigError: no such file, one that cannot be run, no function `metrics`, an object that lacks a part of a
        metric, or a name that is taken.
    """
    found: list[Metric] = []
    owners = dict.fromkeys(taken, "mmjax's own")
    for file in map(Path, files):
        for metric in _metrics_of(file):
            if metric.name in owners:
                raise ConfigError(
                    f"plug-in {file}: the name {metric.name!r} is taken by {owners[metric.name]}; give the metric "
                    "another name"
                )
            owners[metric.name] = str(file)
            found.append(metric)
    return found


def fingerprint_plugin(file: str | os.PathLike) -> str:
    """Name of a plug-in and a short hash of its text: scores that another text gave are not this one's."""
    file = Path(file)
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def _metrics_of(file: Path) -> list[Metric]:
    function = getattr(_run(file), FUNCTION, None)
    if not callable(function):
        raise ConfigError(f"plug-in {file}: expected a function {FUNCTION}() that returns metrics, found none")
    try:
        returned = function()
    except Exception as error:  # of somebody else's code, which may raise anything
        raise ConfigError(f"plug-in {file}: {FUNCTION}() failed with {_said(error)}") from error
    if isinstance(returned, str | bytes) or not isinstance(returned, Iterable):
        raise ConfigError(
            f"plug-in {file}: expected {FUNCTION}() to return a list of metrics, found {type(returned).__name__}"
        )
    metrics = list(returned)
    for metric in metrics:
        if wrong := "; ".join(_problems(metric)):
            raise ConfigError(f"plug-in {file}: {_called(metric)} is no metric: {wrong}")
    return metrics


def _run(file: Path) -> ModuleType:
    """The module of a file, run once in a process."""
    if not file.is_file():
        found = "a folder" if file.is_dir() else "nothing"
        raise ConfigError(f"plug-in {file}: expected a Python file, found {found} there; check the path")
    name = f"mmjax_plugin_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plug-in {file}: expected a Python file, whose name ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # of somebody else's code, which may raise anything
        del sys.modules[name]
        raise ConfigError(f"plug-in {file}: it cannot be run: {_said(error)}") from error
    return module


def _problems(metric: Any) -> Iterable[str]:
    """What keeps an object from being a metric."""
    if isinstance(metric, type):
        yield "it is a class; return an object of it"
        return
    for part in ("name", "title"):
        if not isinstance(text := getattr(metric, part, None), str) or not text.strip():
            yield f"{part}: expected a text, found {_shown(metric, part)}"
    if getattr(metric, "better", None) not in BETTER:
        yield f"better: expected {', '.join(map(repr, BETTER))}, found {_shown(metric, 'better')}"
    needs = getattr(metric, "needs", None)
    if not isinstance(needs, frozenset | set) or not needs <= set(NEEDS):
        yield f"needs: expected a frozenset of {', '.join(NEEDS)}, found {_shown(metric, 'needs')}"
    version = getattr(metric, "version", None)
    if not isinstance(version, int) or isinstance(version, bool):
        yield f"version: expected a whole number, found {_shown(metric, 'version')}"
    for part in ("rate", "share"):
        if not isinstance(getattr(metric, part, None), bool):
            yield f"{part}: expected True or False, found {_shown(metric, part)}; MeanOverVideos has one to inherit"
    for part in ("score", "statistic"):
        if not callable(getattr(metric, part, None)):
            hint = "; MeanOverVideos has one to inherit" if part == "statistic" else ""
            yield f"{part}: expected a method, found {_shown(metric, part)}{hint}"


def _shown(metric: Any, part: str) -> str:
    return repr(getattr(metric, part))[:80] if hasattr(metric, part) else "none"


def _called(metric: Any) -> str:
    return metric.__name__ if isinstance(metric, type) else type(metric).__name__


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error_text(error)}"
