"""Where a server answers, and whom it lets in."""

import dataclasses
import socket
from collections.abc import Mapping

from mmjax.errors import ConfigError, error_text

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server answers, and whom. auth: passwords by name; None: everybody.

    Raises `ConfigError` for a server that others could reach without a password.
    """

    host: str = LOCAL[0]
    port: int | None = None
    share: bool = False
    auth: Mapping[str, str] | None = None

    def __post_init__(self):
        if not self.auth and (self.share or self.host not in LOCAL):
            what = "--share" if self.share else f"--host {self.host}"
            raise ConfigError(
                f"{what}: expected --auth NAME:PASSWORD beside it, found none; others could reach the page and have "
                "this machine make videos for them"
            )

    def check(self) -> None:
        """Raises `ConfigError` where the port is taken, or the host is none of this machine's."""
        if self.port is None:
            return
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            socket.create_server((self.host, self.port), family=family).close()
        except OSError as error:
            raise ConfigError(
                f"--host {self.host}, --port {self.port}: expected an address of this machine and a port that is free "
                f"({error_text(error)}); give another one"
            ) from error

    @property
    def is_local(self) -> bool:
        return not self.share and self.host in LOCAL
