"""Typed records from nested dictionaries: every unknown, mistyped or impossible setting is told, all at once.

A record is a frozen dataclass whose `problems()` yields (setting, value, what is allowed). Types are those of its
annotations: int, float, bool, str, other records, and tuple[X, ...] of any of these.
"""

import dataclasses
import difflib
import types
import typing

from mmjax.errors import ConfigError


def validated_record(cls, values: dict):
    """A `cls` from nested dictionaries; settings that are left out keep their defaults.

    Raises `ConfigError` that names each wrong setting, its value and what is allowed.
    """
    wrong: list[str] = []
    record = _build(cls, values, "", wrong)
    if not wrong:
        _check(record, "", wrong)
    if wrong:
        raise ConfigError("the configuration cannot work:\n" + "\n".join(f"  {line}" for line in wrong))
    return record


def free(default):
    """A setting that may differ when a run is resumed: a path, an interval, how something is computed."""
    return dataclasses.field(default=default, metadata={"free": True})


def is_free(cls, name: str) -> bool:
    """Whether the setting with this dotted name, or a group that it stands in, is `free`."""
    for part in name.split("."):
        field = next((field for field in dataclasses.fields(cls) if field.name == part), None)
        if field is None or field.metadata.get("free"):
            return field is not None
        cls = typing.get_type_hints(cls)[part]
        if not dataclasses.is_dataclass(cls):
            return False
    return False


def settings_of(record, path: str = "") -> dict[str, object]:
    """The settings of a record and of the records in it, by their dotted names."""
    flat = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        inner = dataclasses.is_dataclass(value)
        flat |= settings_of(value, f"{path}{field.name}.") if inner else {f"{path}{field.name}": value}
    return flat


def off_grid(value: int, unit: int, rest: int = 0) -> str:
    """Empty for a positive whole number `unit * k + rest`; else the nearest of these, such as "49 or 57"."""
    if value >= 1 and value % unit == rest:
        return ""
    below = (value - rest) // unit * unit + rest
    return " or ".join(str(each) for each in (below, below + unit) if each > 0)


def positive(record, *names: str):
    """Problems of the settings that are not above zero."""
    for name in names:
        if not getattr(record, name) > 0:
            yield name, getattr(record, name), "a positive number"


def one_of(record, **allowed: tuple):
    """Problems of the settings that have none of their allowed values."""
    for name, values in allowed.items():
        if getattr(record, name) not in values:
            yield name, repr(getattr(record, name)), "one of " + ", ".join(values)


def _check(record, path: str, wrong: list[str]):
    before = len(wrong)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            _check(value, f"{path}{field.name}.", wrong)
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                if dataclasses.is_dataclass(item):
                    _check(item, f"{path}{field.name}.{number}.", wrong)
    if hasattr(record, "problems") and len(wrong) == before:  # how parts fit together is asked of sound parts only
        wrong += [f"{path}{key} = {value}: expected {allowed}" for key, value, allowed in record.problems()]


def _build(cls, values, path: str, wrong: list[str]):
    hints, kept = typing.get_type_hints(cls), {}
    if not isinstance(values, dict):
        wrong.append(f"{path.rstrip('.')} = {values!r}: expected a group of settings")
        return cls()
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1)
            hint = f"did you mean {path}{near[0]}?" if near else f"known here: {', '.join(hints)}"
            wrong.append(f"{path}{key}: unknown setting; {hint}")
        else:
            kept[key] = _coerce(hints[key], value, f"{path}{key}", wrong)
    return cls(**kept)


def _coerce(hint, value, path: str, wrong: list[str]):
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{path}.", wrong)
    if isinstance(hint, types.GenericAlias):  # tuple[X, ...]
        if isinstance(value, (list, tuple)):
            kind = hint.__args__[0]
            numbered = dataclasses.is_dataclass(kind)
            paths = (f"{path}.{number}" if numbered else path for number in range(len(value)))
            return tuple(_coerce(kind, item, name, wrong) for item, name in zip(value, paths, strict=True))
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = "a list" if isinstance(hint, types.GenericAlias) else hint.__name__
    wrong.append(f"{path} = {value!r}: expected {name}, found {type(value).__name__}")
    return value
