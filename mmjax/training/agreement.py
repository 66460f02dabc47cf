"""What the processes of a run must have in common before the first step: settings, code, records, the workdir.

Each of them says what it has, through the store of `mmjax.peers`; where they differ, all raise the same message.
"""

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError, DataError
from mmjax.peers import Peers
from mmjax.training_settings import TrainingExperiment
from mmjax.validation import settings_of
from mmjax.versions import digest_of_code, versions

_GRACE = 20.0  # seconds that a network file system has to show a file that another machine wrote
_NAMED = 4  # differences that a message names


def check_settings(peers: Peers, config: TrainingExperiment) -> None:
    """Refuses processes whose settings, paths included, or whose code are not the same (`ConfigError`)."""
    if peers.count == 1:
        return
    mine = {"the kind of experiment": type(config).__name__} | settings_of(config) | _code()
    if problem := peers.agree("settings", _text(mine), differences):
        raise ConfigError(
            f"expected the same settings at all processes of a run, found {problem}; start all with the same command "
            "line and the same packages"
        )


def check_records(peers: Peers, order: str, encoders: Mapping[str, str]) -> None:
    """Refuses processes that found other records under the same names (`DataError`).

    Args:
      order: `pipeline.order_fingerprint`.
      encoders: that made the records, by their fingerprints.
    """
    mine = json.loads(order) | {f"encoder of {what}": name for what, name in encoders.items()}
    if problem := peers.agree("records", _text(mine), differences):
        raise DataError(
            f"expected the same records at all processes of a run, found {problem}; put them where all see the same "
            "files, or copy them again"
        )


def check_shared(peers: Peers, workdir: Path) -> None:
    """Refuses a workdir that is not one folder for all processes (`ConfigError`); process 0 has made it."""
    if peers.count == 1:
        return
    path = workdir / peers.agree("token", "", lambda said: f".shared-{secrets.token_hex(8)}")
    try:
        if peers.index == 0:
            path.touch()
        peers.agree("written", "", lambda said: "")
        where = "" if _appears(path) else f"process {peers.index} on {socket.gethostname()} ({workdir})"
        lacking = peers.agree("seen", where, lambda said: ", ".join(filter(None, said)))
    finally:
        if peers.index == 0:
            path.unlink(missing_ok=True)
    if lacking:
        raise ConfigError(
            f"--workdir {workdir}: expected one folder that all processes see, found that what process 0 writes there "
            f"does not come to {lacking} within {_GRACE:.0f} s; give a folder on storage that all machines share"
        )


def differences(said: list[str]) -> str:
    """Which entries differ, and what each process has: "seed = 0 at process 0, 1 at process 1"; empty for none.

    Args:
      said: of each process, a JSON object.
    """
    found = [json.loads(text) for text in said]
    names = sorted({name for each in found for name in each})
    different = [name for name in names if len({_text(each.get(name)) for each in found}) > 1]
    lines = [f"{name} = {_by_process([each.get(name) for each in found])}" for name in different[:_NAMED]]
    more = [f"{len(different) - _NAMED} more"] if len(different) > _NAMED else []
    return " and ".join([*lines, *more])


def _by_process(values: list[Any]) -> str:
    """Each value with the first process that has it, and how many more do."""
    where: dict[str, list[int]] = {}
    for number, value in enumerate(values):
        where.setdefault(_shown(value), []).append(number)
    return ", ".join(
        f"{value} at process {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")
        for value, numbers in where.items()
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _code() -> dict[str, str]:
    """Versions of the packages that compute, and what mmjax's own files hold: a checkout has no version."""
    found = versions() | {"mmjax's files": digest_of_code()}
    return {f"version of {name}": version for name, version in found.items() if name != "python"}


def _appears(path: Path) -> bool:
    """Whether a file that was written elsewhere is seen here, after a while at the latest."""
    until = time.monotonic() + _GRACE
    while True:
        try:
            if path.name in os.listdir(path.parent):  # looks at the folder anew, as asking for the file does not
                return True
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
