"""What an evaluation computes, made of a protocol and of what the user gave."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmjax.errors import ConfigError, ConversionError
from mmjax.evaluation import tools
from mmjax.evaluation.frames import union
from mmjax.evaluation.metrics.interface import Metric
from mmjax.evaluation.metrics.registry import known_metrics
from mmjax.evaluation.plugins import load_plugins
from mmjax.evaluation.protocols.magicmirror import SUCCESS
from mmjax.evaluation.protocols.protocol import Given
from mmjax.evaluation.protocols.registry import find_protocol
from mmjax.evaluation.success_rates import Threshold
from mmjax.faces.dlib_faces import DLIB, is_installed
from mmjax.faces.packs import default_pack, find_pack


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is computed, apart from what it is computed of.

    embedders: as a user names them. plugins: files of metrics. protocol: of `results["protocol"]`. conditioning:
    fingerprints of what shows people to the model that made the videos, none where that is not known. thresholds: of a
    success; those of metrics that are not computed are left out.
    """

    metrics: Sequence[Metric]
    choose: Callable[[int], Sequence[int]]
    face_models: str = ""
    embedders: Sequence[str] = ()
    points: bool = False
    plugins: Sequence[str] = ()
    protocol: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    conditioning: Sequence[str] = ()
    thresholds: Sequence[Threshold] = ()

    def tool_settings(self) -> tools.ToolSettings:
        return tools.ToolSettings.of(
            self.metrics,
            choose=self.choose,
            face_models=self.face_models,
            embedders=tuple(self.embedders),
            points=self.points,
            plugins=tuple(self.plugins),
        )


def make_plan(
    protocol: str,
    fixed: bool,
    *,
    face_models: str,
    embedders: Sequence[str],
    plugins: Sequence[str] = (),
    clip: str = "",
    curricularface: str = "",
    aesthetic: str = "",
    conditioning: Sequence[str] = (),
) -> Plan:
    """What a protocol computes with what the user gave. Raises `ConfigError` or `CheckpointError`."""
    from mmjax.encoders.embedders import names_of
    from mmjax.faces.detection import detector_file

    chosen, has_dlib = find_protocol(protocol, fixed), is_installed()
    if fixed and not chosen.published:
        raise ConfigError(f"--fixed: expected the --protocol of a publication, whose slips it mends, found {protocol}")
    wanted = [each for each in chosen.embedders if each != DLIB or has_dlib]
    specs = [*wanted, *(each for each in embedders if each not in wanted)]
    face_models = face_models or _detector_of(specs)
    if face_models:
        detector_file(find_pack(face_models))
    if face_models and not specs:
        specs = [_recogniser_of(face_models)]
    names = list(names_of(specs))
    known = known_metrics(names)
    known |= {metric.name: metric for metric in load_plugins(plugins, known)}
    metrics = chosen.metrics(Given(face_models, names, curricularface, clip, aesthetic), known)
    described = {"name": chosen.name, "label": chosen.label, "version": chosen.version, "fixed": fixed}
    described["notes"] = list(chosen.notes)
    return Plan(
        metrics,
        functools.partial(union, chosen.samplings),
        face_models,
        specs,
        bool(face_models) and has_dlib,
        plugins,
        described,
        conditioning,
        SUCCESS,
    )


def _detector_of(specs: Sequence[str]) -> str:
    """The pack among the embedders, whose detector serves all, or the default one; "" where none needs one."""
    from mmjax.encoders.embedders import needs_detector, pack_of

    if packs := [spec for spec in specs if pack_of(spec)]:
        return packs[0]
    alone = [spec for spec in specs if needs_detector(spec)]
    if (alone or not specs) and (default := default_pack()):
        return default
    if alone:
        raise ConfigError(
            f"--embedder {alone[0]}: expected --face-models beside it, whose detector finds the faces; found none"
        )
    return ""


def _recogniser_of(face_models: str) -> str:
    """A pack as the embedder, where none is named."""
    from mmjax.encoders.embedders import name_of

    try:
        name_of(face_models)
    except ConversionError as error:
        raise ConfigError(
            f"--face-models {face_models}: expected one recogniser beside the detector, where no --embedder is given; "
            "give an --embedder, or the folder of a whole pack such as antelopev2 or buffalo_l"
        ) from error
    return face_models
