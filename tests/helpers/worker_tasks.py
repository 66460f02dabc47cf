"""What workers are given to do in tests; they import it, so that there is neither pytest nor JAX here."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from mmjax.errors import ConfigError
from mmjax.preparation.inputs.decoding import read_photo, video_frames
from mmjax.preparation.processes.worker import beat
from mmjax.preparation.reasons import Rejected
from mmjax.preparation.settings import Settings


def look(item) -> tuple[str, tuple]:
    """What a worker does with an item in the tests: decodes all of it."""
    settings = Settings()
    if item.kind == "photo":
        return "picture", read_photo(item, settings).shape
    shapes = [pixels.shape for _, _, pixels in video_frames(item, settings)]
    return "video", (len(shapes), *shapes[0])


def misbehave(task: str):
    """What a worker does in the tests of workers."""
    if task == "hang":
        time.sleep(60)
    elif task == "hang in C":
        ctypes.PyDLL(None).sleep(60)  # and keeps Python's lock
    elif task == "slow but alive":
        for _ in range(30):
            time.sleep(0.1)
            beat()
    elif task == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif task == "exit":
        os._exit(3)
    elif task == "memory":
        return len(bytearray(3 << 30))
    elif task == "bug":
        raise ZeroDivisionError("of the function")
    elif task == "rejected":
        raise Rejected("blurred", "as it should", 0.1)
    elif task == "configuration":
        raise ConfigError("captioner: expected a function")
    elif task == "once" and not os.path.exists(_fragile[0]):
        Path(_fragile[0]).touch()
        os._exit(1)
    elif task == "modules":
        return sorted({"jax", "pytest", "tensorflow"} & set(sys.modules))
    elif task == "pid":
        return os.getpid()
    return task.upper()


_fragile = [""]


def start(path: str) -> None:
    """Initializer of `misbehave`."""
    if path == "wrong":
        raise ConfigError("detector: expected a folder")
    if path == "dead":
        os._exit(7)
    _fragile[0] = path
