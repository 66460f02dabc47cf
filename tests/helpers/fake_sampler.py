"""A sampler that computes nothing, for tests of what stands round one: the `sampler` fixture runs commands with it."""

import errno
from pathlib import Path

import numpy as np
import pytest

from mmjax import files, media, sample
from mmjax.sampling import Sampler
from mmjax.sampling.text_to_video import Encoded
from tests.helpers import tiny_run

LATENTS = np.random.default_rng(0).uniform(-1, 1, (9, 16, 16, 3)).astype(np.float32)
SETTINGS = {"prompt": "a", "references": [], "size": {"frames": 9, "height": 16, "width": 16}, "fps": 8.0}
SAFE = "the latents are safe: python -m mmjax.sample"


class Fake(Sampler):
    """Makes the same latents of every request at once."""

    def __init__(self):
        config = tiny_run.experiment(data={"frames": (9,)})
        super().__init__(config, {}, tiny_run.mesh_of(config), source={"model": "runs/x"})
        self.made = []  # prompts that were denoised

    def check(self, references):
        return []

    def estimate(self, size, references=1):
        return type("Estimate", (), {"fits": True, "__str__": lambda self: "an estimate"})()

    def encode(self, requests):
        return [Encoded(request, {}, np.zeros(0), []) for request in requests]

    def latents(self, encoded, size, progress=None, noise=None):
        self.made += [each.request.prompt for each in encoded]
        return LATENTS[None]

    def decode(self, latents):
        return np.round((latents + 1) * 127.5).astype(np.uint8)


def command(*given, output="clip.mp4"):
    return ["--model", "runs/x", "--output", output, "--compilation-cache", "", *map(str, given)]


def ends(capsys, *given, status=2, **changed):
    """The last line that the command leaves on stderr."""
    with pytest.raises(SystemExit) as stopped:
        sample.main(command(*given, **changed))
    said = capsys.readouterr().err
    assert stopped.value.code == status and "Traceback" not in said
    return said.splitlines()[-1]


def there():
    return sorted(path.name for path in Path().iterdir())


CLIP = ["clip.json", "clip.mp4", "clip.png"]
PROMPT = ("--prompt", "a man")


FULL = OSError(errno.ENOSPC, "No space left on device")


def fails(monkeypatch, where, error=FULL):
    """Has one of the writers fail after half of its work."""
    module, name = {"video": (media, "write_video"), "sheet": (media, "write_png"), "record": (files, "write_json")}[
        where
    ]

    def fail(path, *_, **__):
        with files.written_whole(path) as partial:
            partial.write_bytes(b"half")
            raise error

    monkeypatch.setattr(module, name, fail)
