"""What an exported adapter says of itself, in the `__metadata__` of its file (METHOD 7) and in a converted folder.

All values are strings, those of JSON where they have parts. Of paths the last name is kept: files are given away.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from mmjax import config as c
from mmjax.conversion.recognise import ADAPTER_FORMAT
from mmjax.errors import CheckpointError, MMJaxError
from mmjax.outputs import MARK
from mmjax.validation import is_free, settings_of
from mmjax.versions import versions
from mmjax.weights.runs import as_json, from_json

VERSION = 1
UNKNOWN_LICENCE = "unknown"
_BASES = {  # layers, heads, position (METHOD 1) -> who published a base of these sizes, and its licence
    (30, 30, "sincos"): ("CogVideoX-2B", "Apache-2.0"),
    (42, 48, "rope"): ("CogVideoX-5B", "CogVideoX License"),
    (42, 48, "rope_slice"): ("CogVideoX1.5-5B", "CogVideoX License"),
}
_ELSEWHERE = ("runtime", "mesh")  # how the run was computed; whoever uses its weights has settings of their own
_RECOGNISERS = "insightface recognition models: non-commercial research"


@dataclasses.dataclass(frozen=True)
class Base:
    """The transformer that an adapter was trained on.

    fingerprint: of its values (`mmjax.weights.base`). name: of the published model, or what else is known of it.
    sha256: of the published files that it was converted from, where the run still found their folder.
    """

    fingerprint: str
    name: str
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class AdapterRecord:
    """Where an adapter's weights come from.

    config: the run's experiment, with the last names of paths. weights: "ema" or "raw". encoders: their fingerprints,
    by what they encode. versions: of the packages that exported it.
    """

    config: c.Experiment
    step: int
    weights: str
    base: Base
    encoders: Mapping[str, str]
    licence: str
    versions: Mapping[str, str] = dataclasses.field(default_factory=versions)

    def to_strings(self) -> dict[str, str]:
        """The metadata, but for what belongs to a file; `from_strings` is the inverse."""
        experiment = {name: group for name, group in as_json(self.config).items() if name not in _ELSEWHERE}
        parts = {
            "model": experiment.pop("model"),
            "experiment": experiment,
            "base": dataclasses.asdict(self.base),
            "encoders": dict(self.encoders),
            "versions": dict(self.versions),
        }
        return {
            "format": ADAPTER_FORMAT,
            "format_version": str(VERSION),
            "notice": f"{MARK}.convert",
            "step": str(self.step),
            "weights": self.weights,
            "licence": self.licence,
            **{name: json.dumps(value) for name, value in parts.items()},
        }

    @classmethod
    def from_strings(cls, found: Mapping[str, str], where: str) -> "AdapterRecord":
        """Raises `CheckpointError` that names `where` they stood, for what is none, damaged or of a newer version."""
        check_version(found, where)
        try:
            parts = {name: json.loads(found[name]) for name in ("model", "experiment", "base", "encoders", "versions")}
            return cls(
                config=from_json(parts["experiment"] | {"model": parts["model"]}, where),
                step=int(found["step"]),
                weights=found["weights"],
                base=Base(**parts["base"]),
                encoders=_texts(parts["encoders"]),
                licence=found["licence"],
                versions=_texts(parts["versions"]),
            )
        except MMJaxError as error:
            raise CheckpointError(f"{error}; it was written by another version of mmjax") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{where}: expected an adapter's metadata, found others ({error})") from error


def check_version(metadata: Mapping[str, str], where: str, kind: str = "an adapter") -> None:
    """Refuses the metadata of another version of the format (`CheckpointError`), newer ones with what to do."""
    found = metadata.get("format_version", "")
    if found.isdecimal() and int(found) > VERSION:
        raise CheckpointError(
            f"{where}: expected {kind} of format {VERSION} or before, found format {found}, of a newer mmjax; update "
            "mmjax"
        )
    if found != str(VERSION):
        raise CheckpointError(f"{where}: expected {kind} of format {VERSION}, found format {found!r}")


def without_paths(config: c.Experiment) -> c.Experiment:
    """The experiment with the last names of its paths, which stand among the settings that are free to change."""
    values = dataclasses.asdict(config)
    for name, value in settings_of(config).items():
        if is_free(c.Experiment, name):
            *groups, last = name.split(".")
            functools.reduce(dict.__getitem__, groups, values)[last] = _last_name(value)
    return c.Experiment.from_config_dict(values)


def known_licence(config: c.Experiment) -> str:
    """What is known of the licences that an adapter's use is bound to; the user may know more."""
    t = config.model.transformer
    known = []
    if found := _BASES.get((t.layers, t.heads, t.position)):
        known.append("{1} (of the base, {0})".format(*found))
    if config.encoders.face in c.OF_PHOTOGRAPHS:
        known.append(_RECOGNISERS)
    return "; ".join(known) or UNKNOWN_LICENCE


def _last_name(value: Any) -> Any:
    if isinstance(value, str):
        return value.rstrip("/").rpartition("/")[2]
    return tuple(map(_last_name, value)) if isinstance(value, tuple) else value


def _texts(found: Any) -> dict[str, str]:
    if not all(isinstance(each, str) for each in (*found.keys(), *found.values())):
        raise ValueError("expected names and texts")
    return found
