"""Which models come with the package, and where they lie."""

import importlib.resources
import os
from pathlib import Path

from mmjax.weights.shipped import is_shipped

HERE = Path(str(importlib.resources.files(__package__)))


def names() -> list[str]:
    """The models that came with this installation; empty where none has its weights."""
    return sorted(each.name for each in HERE.iterdir() if is_shipped(each))


def find(name_or_folder: str | os.PathLike) -> Path:
    """The folder of the model that comes under this name; anything else is a path, and what lies there goes before."""
    given = Path(name_or_folder)
    is_name = given.name == os.fspath(name_or_folder) and not given.exists()
    return HERE / given.name if is_name and given.name in names() else given


def there_are() -> str:
    """The names, for messages."""
    return ", ".join(names()) or "none in this installation"
