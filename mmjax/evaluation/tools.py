"""Opens what looks at videos: detector, embedders, landmarks. In each worker, and once before to find out whether it
works.

`mmjax.encoders` brings JAX, so that it is imported here alone, when something is opened.
"""

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.evaluation.decoding import Choose
from mmjax.evaluation.looking import Tools, look_at_picture, look_at_video
from mmjax.evaluation.metrics.interface import PIXELS, Metric
from mmjax.evaluation.observation import Observation, Subject
from mmjax.evaluation.plugins import load_plugins
from mmjax.evaluation.store import Kept

_NOBODY = (0.0,)  # seconds of a picture


@dataclasses.dataclass(frozen=True)
class ToolSettings:
    """What to open, to be sent to workers.

    choose: frames to look at. face_models: a pack by name or folder, "" to look for no faces. embedders: as a user
    names them. points: dlib's 68 landmarks are wanted. plugins: files of `mmjax.evaluation.plugins`. pickled: the
    metrics that need pixels; those of plug-ins can be unpickled when their files are loaded.
    """

    choose: Choose
    face_models: str = ""
    embedders: tuple[str, ...] = ()
    points: bool = False
    plugins: tuple[str, ...] = ()
    pickled: bytes = b""

    @classmethod
    def of(cls, metrics: Sequence[Metric], **given: Any) -> "ToolSettings":
        """With the metrics among these that need pixels."""
        return cls(**given, pickled=pickle.dumps([metric for metric in metrics if PIXELS in metric.needs]))

    def metrics(self) -> list[Metric]:
        """Those that need pixels, in any process."""
        load_plugins(self.plugins)
        return pickle.loads(self.pickled) if self.pickled else []


@dataclasses.dataclass(frozen=True, eq=False)
class LookAt:
    """A task: a picture of a person, or a video with whoever should be in it and what it was asked to show."""

    path: Path
    is_video: bool
    subject: Subject | None = None
    prompt: str = ""


def open_tools(settings: ToolSettings) -> Tools:
    """Raises `CheckpointError` or `ConfigError` for what cannot be opened."""
    from mmjax.encoders.embedders import open_embedders
    from mmjax.faces.detection import load_detector
    from mmjax.faces.packs import find_pack

    detect = load_detector(find_pack(settings.face_models)) if settings.face_models else None
    points = None
    if settings.points:
        from mmjax.faces.dlib_faces import landmarks68

        points = landmarks68
    return Tools(settings.choose, detect, open_embedders(settings.embedders), points, settings.metrics())


def fingerprints(settings: ToolSettings) -> tuple[dict[str, str], dict[str, str]]:
    """(of the embedders by name, of the detector under "detector"), by opening all of them once."""
    tools = open_tools(settings)
    detector: dict[str, str] = {"detector": tools.detect.fingerprint} if tools.detect else {}
    return {name: each.fingerprint for name, each in tools.embedders.items()}, detector


def look(tools: Tools, task: LookAt) -> Kept:
    """What `Workers` runs for each task. Raises `DataError` for what cannot be read."""
    if task.is_video:
        return Kept(*look_at_video(tools, task.path, task.subject, task.prompt))
    faces, size, thumbnail = look_at_picture(tools, task.path)
    return Kept(Observation(size, np.array(_NOBODY), np.zeros(1, int), 1, faces, (thumbnail,)))
