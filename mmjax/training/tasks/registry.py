"""From an experiment to what is trained: a new kind of experiment is a row here and a module beside it."""

from mmjax.config import Experiment
from mmjax.training.tasks.diffusion import DiffusionTask
from mmjax.training.tasks.task import Task
from mmjax.training.tasks.vae import VAETask
from mmjax.training_settings import TrainingExperiment
from mmjax.vae_experiment import VAEExperiment

_TASKS: dict[type[TrainingExperiment], type[Task]] = {Experiment: DiffusionTask, VAEExperiment: VAETask}


def make_task(config: TrainingExperiment) -> Task:
    """The task of an experiment."""
    return _TASKS[type(config)](config)
