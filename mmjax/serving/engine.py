"""What a server needs of a sampler: the reference check with the found face, and one video of a form.

    engine = Engine(load_sampler("mini"))
    engine.warm_up()  # what can be read and compiled before the first request comes
    Worker(store, engine).start()

A lock stands round the detector, so a picture that is given while prompt and pictures of a video are encoded waits for
it: that is noticed where a large text encoder is read anew for each video (`mmjax.serving.residency`).
"""

import dataclasses
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmjax import provenance
from mmjax.credentials import Signer
from mmjax.errors import DataError, PromptError
from mmjax.sampling import Sampler, checked_size, products
from mmjax.sampling.text_to_video import Clip
from mmjax.serving.form import AskedVideo, Form
from mmjax.serving.jobs import MadeVideo
from mmjax.serving.uploads import Look, named
from mmjax.serving.worker import Watch

_SHARE = 0.05  # of the time that previews may take


class Engine:
    """A sampler that several threads ask; one video is made at a time.

    signer: signs what is made (`mmjax.credentials.open_signer`).
    """

    def __init__(self, sampler: Sampler, signer: Signer | None = None):
        self.sampler, self._signer = sampler, signer
        self._checking = threading.Lock()  # face detectors are not made for several threads

    def look(self, paths: Sequence[Path]) -> list[Look]:
        """The reference check of one person's pictures. Raises `MMJaxError` for what cannot serve."""
        with self._checking:
            notes = self.sampler.check(paths)
            found = self.sampler.find_faces(paths)
        if not found:
            return [Look(tuple(notes))] + [Look()] * (len(paths) - 1)
        of_pictures = {note for each in found for note in each.warnings}
        of_all = [note for note in notes if note not in of_pictures]
        looks = [Look(each.warnings, each.picture, tuple(each.face.box)) for each in found]
        return [dataclasses.replace(looks[0], notes=(*of_all, *looks[0].notes)), *looks[1:]]

    def check(self, videos: Sequence[AskedVideo]) -> list[str]:
        """What is to be said of prompts before they wait in the queue. Raises `MMJaxError` for what cannot serve."""
        return self.sampler.check_prompts([video.request for video in videos])

    def warm_up(self) -> None:
        """Reads the weights, and compiles a step of the usual video, its decoder and that of its first frame."""
        size = checked_size(self.sampler.config)
        self.sampler.estimate(size)
        _ = self.sampler.params
        shape = self.sampler.config.autoencoder.latent_shape(*size)
        for frames in {1, shape[0]}:
            self.sampler.decode(np.zeros((1, frames, *shape[1:]), np.float32))

    def make(self, form: Form, video: AskedVideo, folder: Path, watch: Watch) -> MadeVideo:
        """One video with its sheet and its record, none of which has a path or a name of this machine."""
        began, size = time.monotonic(), (form.frames, *form.size)
        sampler = self.sampler.with_settings(**video.sampling)
        watch.doing("reading prompt and pictures")
        pictures = dict(enumerate(video.request.references, 1))
        try:
            with self._checking:
                encoded = sampler.encode([video.request])[0]
        except (DataError, PromptError) as error:
            raise type(error)(named(str(error), pictures)) from None
        watch.doing("denoising")
        latents = sampler.latents([encoded], size, watch.step, glimpse=_Glimpses(sampler, watch))
        watch.doing("decoding")
        frames = sampler.decode(latents)[0]
        notes = [named(each, pictures) for each in encoded.warnings]
        settings = products.video(sampler, video.request, folder, size, sampler.config.data.fps).settings
        folder.mkdir(exist_ok=True)
        made = products.PlannedVideo(folder / "video.mp4", provenance.without_paths(settings), self._signer)
        products.write(made, Clip(frames, encoded.pictures, video.request, notes), sampler)
        return MadeVideo(video.label, folder, made.settings, notes, time.monotonic() - began)


class _Glimpses:
    """Decodes the first frame of what is emerging, as often as takes no more than a share of the time."""

    def __init__(self, sampler: Sampler, watch: Watch):
        self._sampler, self._watch = sampler, watch
        self._next, self._share = 0.0, 1.0  # the first one may have been compiled: how long it took, tells nothing

    def __call__(self, clean) -> None:
        began = time.monotonic()
        if began < self._next:
            return
        self._watch.preview(self._sampler.decode(np.asarray(clean[:, :1]))[0, 0])
        ended = time.monotonic()
        self._next, self._share = ended + (ended - began) * (1 / self._share - 1), _SHARE
