"""The roll call before JAX starts: process 0 listens at the coordinator's port until all have named themselves.

JAX itself ends a start that cannot work natively, with status 134, and does not say who is missing; a port that is
taken was a segmentation fault. Here every process gets the same line, or all go on and JAX takes the port over. No JAX.
"""

import contextlib
import dataclasses
import errno
import json
import socket
import time
from collections.abc import Mapping

from mmjax.errors import ConfigError, error_text

_VERSION = 1
_AGAIN = 0.3  # seconds until process 0 is tried again
_BRIEF = 2.0  # seconds that somebody has to name himself
_LONGEST = 65536  # bytes of a line
_LATE = 10.0  # seconds for which the others wait longer than process 0: its line says more


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process stands among all: HOST:PORT of process 0, how many there are, its own number."""

    address: str
    processes: int
    process: int

    @property
    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


def attend(place: Place, patience: float) -> None:
    """Returns when all processes are there.

    Args:
      patience: seconds that they have.

    Raises:
      ConfigError: some are missing, which are named; a number is given twice; the port is taken, or nobody answers.
    """
    deadline = time.monotonic() + patience
    if place.process:
        _answer(place, patience, deadline)
        return
    with _listening(place) as listener:
        there: dict[int, _Caller] = {}
        try:
            problem = _called(place, listener, there, deadline) or _missing(place, there, patience)
            for caller in there.values():
                caller.reply(problem)
        finally:
            for caller in there.values():
                caller.connection.close()
    if problem:
        raise ConfigError(problem)


class _Caller:
    """A process that has named itself, and waits for the answer."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(_BRIEF)
        self.connection, said = connection, json.loads(_line(connection))
        if said["mmjax"] != _VERSION:
            raise ValueError("another version")
        self.process, self.processes, self.host = int(said["process"]), int(said["processes"]), str(said["host"])

    def reply(self, problem: str) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"mmjax": _VERSION, "problem": problem}).encode() + b"\n")

    def waits(self) -> bool:
        """Whether it is still there."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.settimeout(_BRIEF)


def _called(place: Place, listener: socket.socket, there: dict[int, _Caller], deadline: float) -> str:
    """Fills in who is there, until all are or the time is over; returns what is wrong with one of them, or nothing."""
    while (left := deadline - time.monotonic()) > 0:
        if len(there) == place.processes - 1:
            for number in [number for number, caller in there.items() if not caller.waits()]:
                there.pop(number).connection.close()  # it has ended since; it may be started again
            if len(there) == place.processes - 1:
                break
        listener.settimeout(min(left, 1.0))
        try:
            connection = listener.accept()[0]
        except TimeoutError:
            continue
        try:
            caller = _Caller(connection)
        except (OSError, ValueError, KeyError, TypeError):  # nobody of ours, such as a port scanner
            connection.close()
            continue
        before = there.get(caller.process)
        there[caller.process] = caller
        if caller.processes != place.processes:
            return (
                f"--processes: expected the same for all, found {place.processes} at process 0, {caller.processes} at "
                f"process {caller.process} on {caller.host}"
            )
        if before is not None and before.waits():
            before.reply(problem := _twice(caller.process, before.host, caller.host))
            return problem
    return ""


def _twice(process: int, one: str, other: str) -> str:
    return (
        f"--process {process}: expected a number of its own for each process, found two of it, on {one} and {other}; "
        "number them from 0"
    )


def _missing(place: Place, there: Mapping[int, _Caller], patience: float) -> str:
    missing = sorted(set(range(1, place.processes)) - set(there))
    if not missing:
        return ""
    named = ", ".join(map(str, missing[:20])) + (", ..." if len(missing) > 20 else "")
    return (
        f"--coordinator {place.address}: expected {place.processes} processes within {patience:.0f} s, found "
        f"{place.processes - len(missing)}; missing: {named}. Look at what they say, and whether they reach this "
        "address; --start_timeout gives them more time"
    )


def _listening(place: Place) -> socket.socket:
    port = place.host_and_port[1]
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        taken = "another program has it" if error.errno == errno.EADDRINUSE else error_text(error)
        raise ConfigError(
            f"--coordinator {place.address}: expected a free port on {socket.gethostname()}, the machine of process 0, "
            f"found: {taken}; give another port, the same for all processes"
        ) from error


def _answer(place: Place, patience: float, deadline: float) -> None:
    """Names this process to process 0, again and again until it is there, and hears whether all are."""
    found = "nothing"
    said = {"mmjax": _VERSION, "process": place.process, "processes": place.processes, "host": socket.gethostname()}
    while (left := deadline + _LATE - time.monotonic()) > 0:
        try:
            with socket.create_connection(place.host_and_port, timeout=max(min(left, 10.0), 0.1)) as connection:
                connection.sendall(json.dumps(said).encode() + b"\n")
                connection.settimeout(max(deadline + _LATE - time.monotonic(), 1.0))
                if line := _line(connection):
                    return _heard(line, place)
                found = "a connection that was closed"
        except OSError as error:
            found = error_text(error)
        time.sleep(_AGAIN)
    raise ConfigError(
        f"--coordinator {place.address}: expected process 0 there within {patience:.0f} s, found: {found}; start it, "
        "and look whether this machine reaches that address and port"
    )


def _heard(line: bytes, place: Place) -> None:
    try:
        problem = json.loads(line)["problem"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"--coordinator {place.address}: expected process 0 of this run there, found another program; give another "
            "port, the same for all processes"
        ) from None
    if problem:
        raise ConfigError(problem)


def _line(connection: socket.socket) -> bytes:
    """Up to the end of a line; empty where the other side closes before."""
    with connection.makefile("rb") as file:
        return file.readline(_LONGEST)
