"""Videos made batch by batch, so that nothing is lost that was computed.

Before anything slow the files are looked at, and the first one is locked. Latents go to the disk before they are
decoded and stay there until video, sheet and record are whole: whatever fails in between, a full disk, the decoder,
Ctrl-C, ends in one line with the command that goes on from them.
"""

import contextlib
import dataclasses
import itertools
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax import outputs
from mmjax.credentials import Signer
from mmjax.errors import DataError, MMJaxError, OutputError, error_text
from mmjax.sampling import products
from mmjax.sampling.latents import read_latents
from mmjax.sampling.products import PlannedVideo
from mmjax.sampling.size import Size
from mmjax.sampling.text_to_video import Clip, Encoded, Request, Sampler


@dataclasses.dataclass(frozen=True)
class Job:
    """The videos that are still to be made; see `claimed`.

    finished: how many more stand there already. latents: where the clean latents are kept, None for nowhere.
    again: what the command is called that makes those that are left, once this one was stopped.
    """

    sampler: Sampler
    todo: Sequence[tuple[PlannedVideo, Request]]
    finished: int
    noise: Float[np.ndarray, "T h w C"] | None
    latents: Path | None
    claim: outputs.Claim
    again: str

    def run(self, at_once: int = 1) -> list[Clip]:
        """Makes the videos. Raises `OutputError` where one cannot be written, with the command that goes on.

        at_once: denoised together, for devices that one video does not fill, where they have one size and equally many
        references.
        """
        clips: list[Clip] = []
        try:
            encoded = self.sampler.encode([request for _, request in self.todo]) if self.todo else []
            pairs = [(video, each) for (video, _), each in zip(self.todo, encoded, strict=True)]
            for batch in _batches(pairs, at_once):
                for clip in self._make(batch):
                    clips.append(clip)
        except KeyboardInterrupt as stop:
            whole, count = self.finished + len(clips), self.finished + len(self.todo)
            others = f"{whole} of {count} videos are whole, and {self.again} makes the others"
            said = [text for text in (str(stop), others if count > 1 else "") if text]
            raise KeyboardInterrupt("; ".join(said)) from None
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            hint = "--low-memory takes less, and so do fewer frames or a smaller size"
            raise MMJaxError(f"{self.todo[len(clips)][0].path}: the device ran out of memory; {hint}") from error
        return clips

    def _make(self, pairs: Sequence[tuple[PlannedVideo, Encoded]]) -> Iterator[Clip]:
        """The clips of a batch; the latents of all of them are kept before the first is decoded."""
        from tqdm import tqdm

        noise = None if self.noise is None else self.noise[None]
        steps, (first, _), *others = self.sampler.config.sampling.steps, *pairs
        name = f"{first.path.name} and {len(others)} more" if others else first.path.name
        with tqdm(total=steps, desc=name, unit="step") as bar:
            progress = lambda done, total: bar.update(done - bar.n)  # noqa: E731
            latents = self.sampler.latents([each for _, each in pairs], first.size, progress, noise)
        kept = [
            products.keep_latents(values, video, self._wanted())
            for values, (video, _) in zip(latents, pairs, strict=True)
        ]
        for values, saved, (video, each) in zip(latents, kept, pairs, strict=True):
            with _kept(self.sampler, video, saved):
                clip = Clip(self.sampler.decode(values[None])[0], each.pictures, each.request, each.warnings)
                self.claim.recheck(video.path, video.sheet, video.record)
                products.write(video, clip, self.sampler)
            if saved and self.latents is None:
                saved.unlink(missing_ok=True)
            print(f"{video.path}  (frames to look at: {video.sheet})")
            yield clip

    def _wanted(self) -> Path | None:
        """Where the latents are to be kept, unless somebody wrote there in the meantime."""
        try:
            if self.latents:
                self.claim.recheck(self.latents)
            return self.latents
        except OutputError as error:
            print(f"note: {error}")
            return None


def _batches(pairs: Sequence[tuple[PlannedVideo, Encoded]], at_once: int) -> Iterator[list]:
    """Neighbours of one size with equally many references, at most `at_once` together."""
    by_shape = itertools.groupby(pairs, key=lambda pair: (len(pair[1].pictures), pair[0].size))
    for _, alike in by_shape:
        alike = list(alike)
        for begin in range(0, len(alike), at_once):
            yield alike[begin : begin + at_once]


@contextlib.contextmanager
def claimed(
    sampler: Sampler,
    requests: Sequence[Request],
    paths: Sequence[str | os.PathLike],
    size: Size,
    fps: float,
    *,
    frames: Sequence[int] | None = None,
    noise: Float[np.ndarray, "T h w C"] | None = None,
    latents: str | os.PathLike | None = None,
    inputs: outputs.Inputs = (),
    overwrite: bool = False,
    go_on: bool = False,
    signer: Signer | None = None,
) -> Iterator[Job]:
    """The job of one video for each request, while its files are ours to write.

    Args:
      frames: of each video, in place of those of `size`.
      inputs: files that are read beside the requests' references.
      overwrite: replace what mmjax made.
      go_on: leave out videos that are finished with the same settings, and say so.
      signer: puts a manifest into videos and sheets.

    Raises:
      OutputError: what cannot or may not be written. DataError: starting noise of another shape.
    """
    shape = sampler.denoiser.latent_shape(size)
    if noise is not None and noise.shape != shape:
        raise DataError(f"starting noise: expected {list(shape)}, found {list(noise.shape)}")
    sizes = [size if frames is None else (frames[number], *size[1:]) for number in range(len(requests))]
    videos = [products.video(sampler, *each, fps, noise, signer) for each in zip(requests, paths, sizes, strict=True)]
    pairs = list(zip(videos, requests, strict=True))
    todo = [pair for pair in pairs if not (go_on and pair[0].is_finished())]
    planned = [output for video, _ in todo for output in video.outputs()]
    if todo:
        largest = sampler.denoiser.latent_shape(max(video.size for video, _ in todo))
        planned.append(products.latents_output(videos[0], largest, latents))
    references = [ref for request in requests for ref in request.references if isinstance(ref, str | os.PathLike)]
    read = [*inputs, *files_of(signer), *(("--reference", path) for path in dict.fromkeys(references))]
    with outputs.claim(planned, read, overwrite, lock=videos[0].path if videos else None) as claim:
        if finished := len(pairs) - len(todo):
            print(f"{finished} of {len(pairs)} videos are finished already, with the same settings")
        again = "the same command" if go_on else "the same command without --overwrite"
        yield Job(sampler, todo, finished, noise, Path(latents) if latents else None, claim, again)


def decode(
    sampler: Sampler,
    latents: str | os.PathLike,
    path: str | os.PathLike,
    fps: float | None,
    overwrite: bool,
    signer: Signer | None = None,
) -> None:
    """Writes the video of a latents file, with sheet and record; the latents stay.

    Args:
      fps: frames a second, by default those of the settings behind the latents or of the training clips.

    Raises:
      OutputError: what cannot or may not be written. DataError: latents of another model, or damaged ones.
    """
    values = read_latents(latents, sampler.config.autoencoder)
    video = products.decoded_video(sampler, values.shape, products.settings_behind(latents), path, fps, signer)
    with (
        outputs.claim(video.outputs(), [("--decode", latents), *files_of(signer)], overwrite) as claim,
        _kept(sampler, video, Path(latents)),
    ):
        clip = Clip(sampler.decode(values[None])[0], (), Request(video.settings["prompt"]))
        claim.recheck()
        products.write(video, clip, sampler)
    print(f"{video.path}  (frames to look at: {video.sheet})")


@contextlib.contextmanager
def _kept(sampler: Sampler, video: PlannedVideo, latents: Path | None) -> Iterator[None]:
    """Has what fails in the block say where the latents are and which command goes on from them."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(sampler, video, latents)) from None
    except Exception as error:
        hint = _how_to_go_on(sampler, video, latents)
        if isinstance(error, OSError):
            where = error.filename if isinstance(error.filename, str) else video.path
            raise OutputError(f"{where} cannot be written ({error_text(error)}); {hint}") from error
        if isinstance(error, MMJaxError):
            raise type(error)(f"{error}; {hint}") from error
        if _is_out_of_memory(error):
            raise MMJaxError(f"{video.path}: decoding ran out of memory (--low-memory takes less); {hint}") from error
        print(hint)
        raise


def files_of(signer: Signer | None) -> list[tuple[str, Path]]:
    """The files of a signer, by their flags."""
    return [("--c2pa-cert", signer.certificate), ("--c2pa-key", signer.key)] if signer else []


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error))


def _how_to_go_on(sampler: Sampler, video: PlannedVideo, latents: Path | None) -> str:
    if latents is None:
        return "the latents could not be kept"
    flags = {"model": sampler.source.get("model", "MODEL"), "decode": latents, "output": video.path}
    flags |= {"fps": video.settings["fps"]} | {name.removeprefix("--"): path for name, path in files_of(video.signer)}
    command = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in flags.items())
    return f"the latents are safe: python -m mmjax.sample {command} goes on from there"
