"""The protocols by name. A new one is a file and a line here."""

import difflib
from collections.abc import Callable

from mmjax.errors import ConfigError
from mmjax.evaluation.protocols import consisid, magicmirror, opens2v
from mmjax.evaluation.protocols.protocol import EvaluationProtocol

_PROTOCOLS: dict[str, Callable[[bool], EvaluationProtocol]] = {
    magicmirror.OURS: magicmirror.mmjax,
    magicmirror.NAME: magicmirror.magicmirror,
    consisid.NAME: consisid.consisid,
    opens2v.NAME: opens2v.opens2v_human,
    f"{opens2v.NAME}-1.0": lambda fixed: opens2v.opens2v_human(fixed, "1.0"),
}
NAMES = tuple(_PROTOCOLS)
DEFAULT = magicmirror.OURS


def find_protocol(name: str = DEFAULT, fixed: bool = False) -> EvaluationProtocol:
    """The protocol of this name, as published or with its known slips mended. Raises `ConfigError` for another name."""
    if name not in _PROTOCOLS:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"protocol {name!r}: expected one of {', '.join(NAMES)}{hint}")
    return _PROTOCOLS[name](fixed)
