"""The files in `configs/`, with the names of their variants."""

import importlib.util
from pathlib import Path

from mmjax import config as c
from mmjax.vae_experiment import VAEExperiment, experiment_of

_FOLDER = Path(__file__).resolve().parents[2] / "configs"


def _module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(file: str) -> c.Experiment | VAEExperiment:
    """The experiment of FILE or FILE:NAME, a file in `configs/`, of either kind."""
    file, *name = file.split(":")
    return experiment_of(_module(_FOLDER / file).get_config(*name))


CONFIGS = [
    path.name + name
    for path in sorted(_FOLDER.glob("*.py"))
    for name in [f":{variant}" for variant in getattr(_module(path), "VARIANTS", ())] or [""]
]
DIFFUSION = [file for file in CONFIGS if isinstance(load(file), c.Experiment)]
VAES = [file for file in CONFIGS if file not in DIFFUSION]
