"""Typed records from nested dictionaries: every unknown, mistyped or impossible setting is told, all at once.

A record is a frozen dataclass whose `problems()` yields (setting, value, what is allowed). Types are those of its
annotations: int, float, bool, str, other records, and tuple[X, ...] of any of these.

Which numbers a thing takes is a `Number`, the same one for a setting (`within`), a flag (`type=` of argparse) and an
argument from Python (`Number.checked`): NaN, infinity and what no experiment can mean are refused by all of them.
"""

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import TypeVar

from mmjax.errors import ConfigError

T = TypeVar("T")

LARGEST_INT = 2**31 - 1  # of what counts something: sizes, steps, intervals
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # float32 holds it


@dataclasses.dataclass(frozen=True)
class Number:
    """The numbers from `low` to `high`, ends included unless `above`, which leaves `low` out.

    kind: int or float; where a float is meant, a whole number does as well.
    note: what some of them mean, such as "1 is off".
    """

    kind: type
    low: float = 0
    high: float = LARGEST_INT
    note: str = ""
    above: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.kind is int else "a number"
        span = f"{'above' if self.above else 'of'} {_plain(self.low)} {'up ' * self.above}to {_plain(self.high)}"
        return f"{kind} {span}" + (f" ({self.note})" if self.note else "")

    def holds(self, value) -> bool:
        """Whether the value is one of these numbers; no NaN is, nor is True."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (self.kind is float and isinstance(value, float))):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def checked(self, name: str, value):
        """The value itself, as this kind of number. Raises `ConfigError` that names what it is for."""
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()  # NumPy's numbers
        if not self.holds(value):
            raise ConfigError(f"{name} = {value}: expected {self}")
        return self.kind(value)

    def __call__(self, text: str):
        """What a flag says, for `type=` of argparse, which names the flag."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.holds(value):
            raise argparse.ArgumentTypeError(f"{text}: expected {self}")
        return value


COUNT = Number(int, 1)
COUNT_OR_NONE = Number(int, 0)
SEED = Number(int, 0, 2**64 - 1)  # `mmjax.seeds` uses all 64 bits
SHARE = Number(float, 0, 1)


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
    """Problems of the settings that are not above zero, or beyond what can be counted."""
    for name in names:
        value = getattr(record, name)
        if not value > 0:
            yield name, value, "a positive number"
        elif value > LARGEST_INT:
            yield name, value, f"a positive number, at most {LARGEST_INT:,}"


def within(record, **allowed: Number):
    """Problems of the settings that are none of their allowed numbers; of a tuple, those of its entries."""
    for name, number in allowed.items():
        value = getattr(record, name)
        for each in value if isinstance(value, tuple) else (value,):
            if not number.holds(each):
                yield name, each, str(number)


def one_of(record, **allowed: tuple):
    """Problems of the settings that have none of their allowed values."""
    for name, values in allowed.items():
        if getattr(record, name) not in values:
            yield name, repr(getattr(record, name)), "one of " + ", ".join(values)


def chosen(name: str, variants: Mapping[str, T]) -> T:
    """What a configuration's file has under a name, for `get_config(name)`: that of `--config FILE:NAME`.

    Raises `ConfigError` that lists the names.
    """
    if name not in variants:
        near = difflib.get_close_matches(name, variants, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name!r}: expected FILE:NAME, with a NAME among {', '.join(variants)}{hint}")
    return variants[name]


def _plain(number: float) -> str:
    """3, 0.5 and 18446744073709551615, not 3.0 or 1.84e+19."""
    return str(int(number)) if number == int(number) else f"{number:g}"


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
        if -LARGEST_FLOAT <= value <= LARGEST_FLOAT:
            return float(value)
        wrong.append(f"{path} = {value}: expected a finite number")  # NaN is within nothing
        return 0.0
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    name = "a list" if isinstance(hint, types.GenericAlias) else hint.__name__
    wrong.append(f"{path} = {value!r}: expected {name}, found {type(value).__name__}")
    return value
