"""Python in a process of its own, in which libraries cannot be imported that a GPU machine may not have."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What sampling from features and benchmarks take: JAX's stack, numbers, configuration, and pillow, which is small.
ALLOWED = {"jax", "flax", "optax", "orbax-checkpoint", "protobuf", "numpy", "scipy", "ml_dtypes", "jaxtyping"}
ALLOWED |= {"absl-py", "ml_collections", "pillow"}
_MODULES = {"tensorflow-datasets": "tensorflow_datasets", "orbax-checkpoint": "orbax"}  # where the names differ
_NOT_OURS = {"cv2", "datasets", "diffusers", "tensorflow", "tokenizers", "torch"}  # that others bring along


def requirements() -> set[str]:
    """The packages of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")}


BLOCKED = sorted(_NOT_OURS | {_MODULES.get(name, name) for name in requirements() - ALLOWED})
_BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
"""


def run(code: str, *, block: bool = True) -> subprocess.CompletedProcess:
    """Runs the code in the repository's root, by default with every package of `BLOCKED` out of reach."""
    command = [sys.executable, "-c", (_BLOCK if block else "") + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
