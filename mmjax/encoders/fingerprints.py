"""Fingerprints: what an encoder's features depend on, as one line that people can read and programs can compare.

    t5/1 weights=ab12cd34ab12cd34 length=226 id_tokens=2 dtype=bfloat16

A name with a version, then key=value. The version rises when the same settings give other features. An experiment knows
some of an encoder's values from its configuration alone; records made by that encoder carry all of them, so the line
that is expected may be shorter than the one that is found (`agrees`).
"""


def fingerprint(name: str, **values) -> str:
    """The line for `name`, such as "t5/1", and its values, in which blanks become colons."""
    return " ".join([name, *(f"{key}={':'.join(str(value).split())}" for key, value in values.items())])


def agrees(found: str, expected: str, but: tuple[str, ...] = ()) -> bool:
    """Whether `found` has the name and version of `expected` and all of its values; it may have more of them.

    Keys in `but` may differ, such as "dtype" where it only matters that the weights are the same.
    """
    (name, *values), (wanted, *needed) = found.split(), expected.split()
    return name == wanted and {each for each in needed if each.partition("=")[0] not in but} <= set(values)
