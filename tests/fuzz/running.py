"""One command line in a process of its own, forked from one that has imported everything, and what is wrong with it."""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

STATUSES = (0, 2, 130, 143)
_SERVES = "Ctrl-C ends it"  # what a page says that stands; it is interrupted then
_INSIDE = ("sample", "convert", "evaluate", "inspect", "demo")  # parse their arguments themselves, not through absl


def import_all() -> None:
    """Imports what the entry points import, and starts no backend of JAX: forked processes start their own."""
    for name in (
        *_INSIDE,
        "train",
        "prepare",
        "bench",
        "sampling",
        "training.loop",
        "preparation.run",
        "evaluation.run",
    ):
        importlib.import_module(f"mmjax.{name}")
    for name in ("transformers", "av", "cv2", "tensorflow_datasets", "grain.python", "insightface.model_zoo"):
        importlib.import_module(name)


def run(entry: str, line: list[str], here: Path, limit: float) -> tuple[int | None, str, float]:
    """(exit status, or None where it took longer than `limit` seconds; what it printed; seconds)."""
    began, log, serves = time.monotonic(), here / "printed", False
    child = os.fork()
    if child == 0:
        _become(entry, line, log)
    while time.monotonic() - began < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), time.monotonic() - began
        if entry == "demo" and not serves and log.exists() and _SERVES in log.read_text(errors="replace"):
            serves = True
            os.kill(child, signal.SIGINT)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, log.read_text(errors="replace"), time.monotonic() - began


def problem(status: int | None, printed: str) -> str:
    """What is wrong; empty where nothing is. Who waits for another process of many, and says so, does not hang."""
    if status is None:
        return "" if "waiting for process" in printed else "hangs"
    if "Traceback (most recent call last)" in printed:
        return "traceback"
    if status not in STATUSES:
        return f"status {status}"
    return "status 2 without a word" if status == 2 and not printed.strip() else ""


def changed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    """Names an input that is not what it was; empty where all are. New ones are fine: records are drawn on demand, and
    a report that stands beside inputs may be gone on with by a later line.
    """
    wrong = [path for path in before if before[path] != after.get(path)]
    return f"changed input: {wrong[0]}" if wrong else ""


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file: what must be the same afterwards."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        if path.is_file():
            found[str(path)] = stat.st_size, stat.st_mtime_ns
    return found


def _become(entry: str, line: list[str], log: Path) -> None:
    """The forked process: never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
        os.chdir(log.parent)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [f"mmjax.{entry}", *line]
        module = importlib.import_module(f"mmjax.{entry}")
        if entry in _INSIDE:
            module.main(line)
        else:
            from mmjax import cli

            default = module._EXPERIMENT if entry == "prepare" else None
            cli.run(module.main, module.define_flags, default=default)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
