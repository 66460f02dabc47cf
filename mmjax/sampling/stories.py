"""Stories: one film of several shots that show the same person, from a file of shots and pictures of the person.

    from mmjax.sampling.stories import make_story, read_shots

    record = make_story(sampler, read_shots("story.toml"), ["face.jpg"], "story.mp4")

Each shot is a clip of its own, STORY-001.mp4 and so on, with its sheet and its record as of any video; the film is put
together from their files. A story that was stopped goes on where it was: clips that stand there with the same settings
are left out. One whose shots were changed wants `overwrite`, and then only the changed ones are made anew. Shots of one
length that fill the devices together are made together, which may round differently than one by one.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mmjax import outputs
from mmjax.config import FPS
from mmjax.credentials import Signer
from mmjax.encoders import embedders
from mmjax.encoders.prompts import split_at_trigger
from mmjax.encoders.recogniser import FaceRecogniser, load_recogniser
from mmjax.errors import CheckpointError, ConfigError, ConversionError, DataError, MMJaxError, OutputError, error_text
from mmjax.evaluation.identity import SimilarityToPeople
from mmjax.pictures import read_picture
from mmjax.sampling import job, products
from mmjax.sampling.film import PERSON, Likeness, PlannedFilm, planned_film, shot_line, write_film
from mmjax.sampling.shots import Shot, count_text, frames_of, read_shots
from mmjax.sampling.size import checked_size
from mmjax.sampling.text_to_video import Request, Sampler

__all__ = ["Shot", "Story", "claimed", "make_story", "read_shots"]


@dataclasses.dataclass(frozen=True)
class Story:
    """A film that is to be made; see `claimed`.

    film: with all of its clips. clips: those that are still to be made; None where the film is whole already.
    """

    film: PlannedFilm
    clips: job.Job | None
    claim: outputs.Claim | None
    references: Sequence[np.ndarray]
    likeness: Likeness

    def lines(self) -> Iterator[str]:
        """What each shot is going to be."""
        for number, shot in enumerate(self.film.settings["shots"], 1):
            yield f"{shot_line(number, shot)}, {count_text(shot['frames'])}: {shot['prompt']}"

    def run(self, at_once: int = 1) -> dict:
        """Makes the clips that are left, then the film; returns what is in its record.

        Raises `OutputError` for what cannot be written, and as `Job.run` does.
        """
        if self.clips is None:
            print(f"{self.film.path} is finished already, with the same settings")
            return self.film.read_record()
        self.clips.run(at_once)
        with _shots_are_whole(self.film):
            self.claim.recheck()
            record = write_film(self.film, self.references, self.likeness)
        for number, shot in enumerate(record["shots"], 1):
            print(shot_line(number, shot))
        print(f"{self.film.path}  (frames to look at: {self.film.sheet})")
        return record


def make_story(
    sampler: Sampler,
    shots: Sequence[Shot],
    references: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    size: Sequence[int | None] = (None, None, None),
    fps: float | None = None,
    seed: int = 0,
    negative_prompt: str = "",
    embedder: str = "",
    overwrite: bool = False,
    signer: Signer | None = None,
) -> dict:
    """Makes the clips of the shots and the film, each beside its sheet and its record; leaves out what is there.

    Args:
      sampler: from `load_sampler`.
      shots: from `read_shots`.
      references: pictures of one person, who is in all shots; none for plain text.
      output: the film's .mp4.
      size: (frames, height, width), by default those of the longest clips that the model was trained on; frames are
        those of shots that do not say how long they are.
      fps: frames a second of the film; by default the training clips'.
      seed: of the first shot; each further one that does not say its own has the next.
      negative_prompt: of shots that do not say their own.
      embedder: who says how alike shots and references are, as `mmjax.encoders.embedders` takes it; by default the
        model's own face pack, where it has one.
      overwrite: replace the film, and clips whose shots were changed, where mmjax made them.
      signer: signs film, clips and sheets; from `mmjax.credentials.open_signer`.

    Returns:
      what the film's record says.

    Raises:
      DataError: a shot that cannot be made, by its name. PromptError: a prompt that says nothing of the person.
      ConfigError, CheckpointError: a size or an embedder that cannot be used; all of this before anything slow.
      OutputError: what cannot or may not be written.
    """
    given = dict(size=size, fps=fps, seed=seed, negative_prompt=negative_prompt, embedder=embedder)
    given["signer"] = signer
    with claimed(sampler, shots, references, output, **given, overwrite=overwrite) as story:
        return story.run(sampler.at_once)


@contextlib.contextmanager
def claimed(
    sampler: Sampler,
    shots: Sequence[Shot],
    references: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    size: Sequence[int | None] = (None, None, None),
    fps: float | None = None,
    seed: int = 0,
    negative_prompt: str = "",
    embedder: str = "",
    inputs: outputs.Inputs = (),
    overwrite: bool = False,
    signer: Signer | None = None,
) -> Iterator[Story]:
    """The story while its files are ours to write; arguments and errors as of `make_story`.

    Args:
      inputs: files that are read beside the references.
    """
    if not shots:
        raise ConfigError("shots: expected a shot or more, found none")
    size = checked_size(sampler.config, *size)
    fps = FPS.checked("fps", sampler.config.data.fps if fps is None else fps)
    shots = [dataclasses.replace(shot, where=shot.where or f"shot {n}") for n, shot in enumerate(shots, 1)]
    requests = [_request(shot, references, seed + n, negative_prompt) for n, shot in enumerate(shots)]
    longest = max(sampler.config.data.frames, default=1)
    frames = [frames_of(shot, fps, longest, size[0]) for shot in shots]
    for shot, request in zip(shots, requests, strict=True):
        _check_prompt(sampler, shot, request)
    paths = _clip_paths(Path(output), len(shots))
    sizes = [(count, *size[1:]) for count in frames]
    planned = zip(requests, paths, sizes, strict=True)
    film = planned_film(output, [products.video(sampler, *each, fps, signer=signer) for each in planned])
    spec = embedder or sampler.config.encoders.face_models
    if film.is_whole(spec):
        yield Story(film, None, None, (), Likeness(None))
        return
    pictures = [np.asarray(read_picture(path)) for path in references]
    likeness = _likeness(sampler, pictures, spec, required=bool(embedder))
    read = [*inputs, *job.files_of(signer), *(("--reference", path) for path in references)]
    how = dict(frames=frames, inputs=inputs, overwrite=overwrite, go_on=True, signer=signer)
    with (
        outputs.claim(film.outputs(), read, overwrite) as claim,
        job.claimed(sampler, requests, paths, size, fps, **how) as clips,
    ):
        yield Story(film, clips, claim, pictures, likeness)


def _request(shot: Shot, references: Sequence[str | os.PathLike], seed: int, negative_prompt: str) -> Request:
    negative = negative_prompt if shot.negative_prompt is None else shot.negative_prompt
    return Request(shot.prompt, tuple(references), seed if shot.seed is None else shot.seed, negative)


def _check_prompt(sampler: Sampler, shot: Shot, request: Request) -> None:
    """Raises what is wrong with a shot's prompts or seed, with the shot's name."""
    try:
        if request.references:
            split_at_trigger(request.prompt)
        sampler.check_prompts([request])
    except MMJaxError as error:
        raise type(error)(f"{shot.where}: {error}") from error


def _clip_paths(output: Path, count: int) -> list[Path]:
    if output.suffix != ".mp4":
        raise ConfigError(f'--output {output}: expected a name that ends in .mp4, found "{output.suffix}"')
    return [output.with_name(f"{output.stem}-{number:03d}.mp4") for number in range(1, count + 1)]


def _likeness(sampler: Sampler, pictures: Sequence[np.ndarray], spec: str, required: bool) -> Likeness:
    """Who compares shots with references; where nobody can, the note says why, or it is raised if `required`."""
    if not pictures or not spec:
        why = "no face pack is at hand; --embedder names one" if pictures else "there is no reference"
        return Likeness(None, spec, f"likeness is not measured: {why}")
    try:
        recogniser = load_recogniser(spec, sampler.config.encoders.face_models)
        part = _part_in_model(sampler, recogniser.fingerprint)
        return Likeness(_similarity(recogniser, pictures, independent=not part), spec, part)
    except MMJaxError as error:
        if required:
            raise type(error)(f"--embedder {spec}: {error}") from error
        return Likeness(None, spec, f"likeness is not measured: {error}")


def _similarity(recogniser: FaceRecogniser, pictures: Sequence[np.ndarray], independent: bool) -> SimilarityToPeople:
    try:
        return SimilarityToPeople(recogniser, {PERSON: pictures}, independent)
    except DataError as error:
        raise DataError("it finds no face on the references; give another embedder or other pictures") from error


def _part_in_model(sampler: Sampler, fingerprint: str) -> str:
    """What the recogniser has to do with the model, empty for nothing; a doubt is told as a part."""
    try:
        parts = [
            embedders.part_in_training(fingerprint, line, sampler.config.loss.identity)
            for line in sampler.conditioned_by()
        ]
    except (CheckpointError, ConversionError) as error:
        return f"perhaps the judge of the identity loss, which cannot be read: {error}"
    return next(filter(None, parts), "")


@contextlib.contextmanager
def _shots_are_whole(film: PlannedFilm) -> Iterator[None]:
    """Has what fails in the block say that no shot is lost."""
    hint = f"all {len(film.clips)} shots are whole, and the same command puts the film together"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(hint) from None
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else film.path
        raise OutputError(f"{where} cannot be written ({error_text(error)}); {hint}") from error
