"""A model that computes nothing, for tests of what stands round one."""

import threading
from pathlib import Path

import numpy as np

from mmjax.errors import DataError
from mmjax.serving.form import Offer, checked_form
from mmjax.serving.jobs import FILES, MadeVideo
from mmjax.serving.limits import Limits
from mmjax.serving.uploads import Look

LIMITS = Limits(picture_bytes=2**20, picture_pixels=1_000_000, pictures=3, waiting=4, waiting_of_one=2)
OFFER = Offer((1, 9), ((16, 16), (8, 8)), 8, 4, 6.0, True, LIMITS)
VALUES = {"prompt": "A man is smiling", "class_word": "person", "compare": "one", "second_prompt": "", "likeness": 1}
VALUES |= {"frames": 9, "size": "16 x 16", "steps": 4, "guidance": 6, "seed": 7, "negative_prompt": "", "consent": True}


def form(**changes):
    return checked_form(VALUES | changes, OFFER)


class FakeModel:
    """Makes each video in as many steps as asked for; waits before each where `pause` is set."""

    def __init__(self):
        self.going, self.reached = threading.Event(), threading.Event()
        self.going.set()
        self.made, self.error = [], None

    def look(self, paths):
        """Refuses pictures that hold "bad", and notes those that hold "odd"; more than one person where they differ."""
        contents = [Path(path).read_bytes() for path in paths]
        for path, content in zip(paths, contents, strict=True):
            if b"bad" in content:
                raise DataError(f"reference {path}: expected a face, found none")
        if len({b"other" in content for content in contents}) > 1:
            raise DataError(f"references: expected pictures of one person, found 2 people ({paths[0]}, {paths[-1]})")
        return [
            Look((f"reference {path}: odd; look again",) if b"odd" in content else (), None, (1, 1, 9, 9))
            for path, content in zip(paths, contents, strict=True)
        ]

    def check(self, videos):
        return []

    def make(self, form, video, folder, watch):
        watch.doing("denoising")
        for step in range(1, form.steps + 1):
            self.reached.set()
            self.going.wait(5)
            watch.step(step, form.steps)
            watch.preview(np.full((16, 16, 3), 40 * step, np.uint8))
        if self.error:
            raise self.error
        assert all(path.is_file() for path in video.request.references)
        folder.mkdir()
        for name in FILES:
            (folder / name).write_text(video.request.prompt)
        self.made.append(video.request.prompt)
        settings = {"prompt": video.request.prompt, "sampling": video.sampling, "reference_hashes": []}
        return MadeVideo(video.label, folder, settings, (), 1.0)
