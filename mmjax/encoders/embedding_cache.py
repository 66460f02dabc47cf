"""Embeddings of prompts kept in a folder, so that a prompt that was encoded once needs no T5."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np

from mmjax import files
from mmjax.errors import ConfigError

_DIGEST = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class EmbeddingCache:
    """A folder of embeddings: one `.npy` for each key, and behind its bytes their SHA-256."""

    folder: Path

    def read(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """The embedding of a key, or None where there is none that is whole and has this shape."""
        try:
            data = (self.folder / f"{key}.npy").read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
            return None
        values = np.load(io.BytesIO(data[:-_DIGEST]), allow_pickle=False)
        return values if values.shape == shape else None

    def write(self, key: str, values: np.ndarray) -> None:
        """Keeps an embedding. Raises `ConfigError` where the folder cannot be written."""
        data = io.BytesIO()
        np.save(data, values)
        try:
            files.write_bytes(self.folder / f"{key}.npy", data.getvalue() + hashlib.sha256(data.getvalue()).digest())
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: embeddings of prompts cannot be kept there ({error}); give another folder"
            ) from error
