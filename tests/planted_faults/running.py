"""Plants one fault at a time in a copy of the repository and runs its tests there.

Importing JAX, torch and diffusers takes longer than most of the tests. So they are imported once, and each run of the
tests is a fork of the process that has them; of mmjax itself and of its tests that process has imported nothing that a
fork keeps.
"""

import dataclasses
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.planted_faults.fault import Fault

ROOT = Path(__file__).resolve().parents[2]
VERDICTS = {0: "survived", 1: "found"}  # by pytest's exit code; every other one means that the tests did not run
_QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # in half the time
_HEAVY = (
    *("numpy", "jax", "jax.numpy", "flax.linen", "optax", "orbax.checkpoint", "grain.python", "PIL.Image", "pytest"),
    *("jax.experimental.pallas.ops.tpu.splash_attention", "torch", "diffusers", "transformers"),
    *("diffusers.schedulers.scheduling_ddim_cogvideox", "diffusers.schedulers.scheduling_dpm_cogvideox"),
    *("diffusers.models.autoencoders.autoencoder_kl_cogvideox", "diffusers.pipelines.cogvideo.pipeline_cogvideox"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault: "found" (by the test `by`), "survived", "timeout", or "error", with pytest's words."""

    what: str
    digest: str
    verdict: str
    seconds: float
    by: str = ""
    output: str = ""


def warm_up() -> None:
    """Imports what the tests import, as far as it is installed. No JAX backend is started: it would not survive a fork.

    No bytecode is written from now on: a fault of the same length, planted within the same second, would go unseen.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK_COMPILATION}".strip()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax-tests"))
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    for name in _HEAVY:
        try:
            importlib.import_module(name)
        except ImportError:  # the tests that want it skip
            print(f"{name} is not installed", file=sys.stderr)


def copy_repository(folder: Path) -> None:
    """The tracked files as they are in the working tree, which is only read."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def try_fault(fault: Fault, copy: Path, limit: float) -> Outcome:
    """Plants the fault in the copy, runs its tests, and takes it out again."""
    path = copy / fault.file
    sound, began = path.read_text(), time.monotonic()
    path.write_text(fault.planted(sound))
    try:
        code, output = run_tests(fault.tests, copy, limit)
    finally:
        path.write_text(sound)
    verdict = "timeout" if code is None else VERDICTS.get(code, "error")
    # a fault that keeps the tests from being imported is noticed as well
    verdict = "found" if verdict == "error" and "ERROR collecting" in output else verdict
    failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    by = failed[0].split(" ", 1)[1] if failed else ""
    told = output[-3000:] if verdict in ("error", "timeout") else ""
    return Outcome(fault.what, fault.digest, verdict, round(time.monotonic() - began, 1), by[:300], told)


def run_tests(tests: tuple[str, ...], copy: Path, limit: float) -> tuple[int | None, str]:
    """(pytest's exit code, or None after `limit` seconds; what it printed)."""
    with tempfile.TemporaryFile("w+") as output:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _run_here(tests, copy, output.fileno())
        code = _waited(child, limit)
        output.seek(0)
        return code, output.read()


def _run_here(tests: tuple[str, ...], copy: Path, output: int) -> None:
    """In the fork: pytest in the copy, whatever it prints into `output`. Never returns."""
    code = 70
    try:
        os.setsid()  # with what the tests start themselves, it can be killed as one
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "mmjax")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests]))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _waited(child: int, limit: float) -> int | None:
    """The exit code of the child; after `limit` seconds it is killed, and None is the answer."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
