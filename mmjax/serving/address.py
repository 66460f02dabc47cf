"""Where a server answers, and whom it lets in."""

import dataclasses
from collections.abc import Mapping

from mmjax.errors import ConfigError

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

    @property
    def is_local(self) -> bool:
        return not self.share and self.host in LOCAL
