"""Weights that are read when they are needed."""

from collections.abc import Callable
from typing import Generic, TypeVar

Params = TypeVar("Params")


class LazyWeights(Generic[Params]):
    """Parameters that `read` brings to the device at the first `get`, and that leave it at `free`."""

    def __init__(self, read: Callable[[], Params]):
        self._read, self._params = read, None

    @property
    def loaded(self) -> bool:
        """Whether the parameters are there now."""
        return self._params is not None

    def get(self) -> Params:
        """The parameters, read unless they are there."""
        if self._params is None:
            self._params = self._read()
        return self._params

    def free(self) -> None:
        """Lets go of them; the next `get` reads them again."""
        self._params = None
