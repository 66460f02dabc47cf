"""What a result was made with: versions of Python and of the packages whose change may change numbers."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("mmjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, str]:
    """{"python": "3.12.1", "jax": "0.11.2", ...}.

    mmjax that is not installed runs from a "source checkout"; another package that is missing is "not installed".
    """
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def digest_of_code() -> str:
    """Of the files of mmjax itself: a checkout has no version, and two machines may have two."""
    digest, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source checkout" if package == "mmjax" else "not installed"
