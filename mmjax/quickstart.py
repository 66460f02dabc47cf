"""`make quickstart`: from a photograph of a real face to a clip on a CPU, by the model that comes with mmjax.

    python -m mmjax.quickstart --output runs/quickstart                      # scikit-image's portrait of an astronaut
    python -m mmjax.quickstart --output runs/me --reference me.jpg --prompt "A man img looks at the camera"

Writes the clip with its contact sheet and its record as `mmjax.sample` does, and says how alike the person in it is to
the photograph. Beside that stand clips of twenty other people, made in the same way: people who do not exist, whose
portraits the model draws itself, from a prompt alone. All are compared by the recogniser that shows faces to the model,
since no other comes with a package: its figures flatter all clips alike (`mmjax.evaluate --embedder` takes another).
"""

import dataclasses
import importlib.util
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmjax import callable_command, cli, files, media, outputs, sample
from mmjax.errors import CheckpointError, DataError, exits_cleanly
from mmjax.evaluation.retrieval import Retrieval, retrieval
from mmjax.faces.embeddings import mean_embedding
from mmjax.sampling import Clip, Request, Sampler, checked_size, frame_cells, load_sampler
from mmjax.validation import Number
from mmjax.versions import versions

if TYPE_CHECKING:
    from mmjax.encoders.recogniser import FaceRecogniser

MODEL, PROMPT = "mini", "A woman img looks at the camera"
PEOPLE = 20  # others
CLIP, FIGURES, SHEET = "clip.mp4", "report.json", "report.png"  # in the folder of the results
_CLASSES = ("woman", "man")  # of the others, in turn
_DRAWN = 3  # portraits that are drawn for each that is wanted, at most: a drawing without a face shows nobody
_SEED = 1000  # of the first drawn portrait; clips have those from 0
_ACROSS = 10  # people in a row of the sheet


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody with a clip. embedding: of it, and of the reference; None where no face was found."""

    reference: UInt8[np.ndarray, "side side 3"]
    frames: UInt8[np.ndarray, "frames h w 3"]
    reference_embedding: Float[np.ndarray, " width"]
    embedding: Float[np.ndarray, " width"] | None


@dataclasses.dataclass(frozen=True)
class Likeness:
    """How alike a person's clip is to the photograph, and the clips of others; None for a clip without a face.

    nearest: of all people's clips, those nearest to their own reference; None where there are not two with a face.
    """

    own: float | None
    others: Sequence[float | None]
    nearest: Retrieval | None


def quickstart(
    output: str | os.PathLike,
    reference: str | os.PathLike | None = None,
    prompt: str = PROMPT,
    *,
    model: str | os.PathLike = MODEL,
    people: int = PEOPLE,
    overwrite: bool = False,
) -> Likeness:
    """Makes a clip of the person on a photograph and compares it with clips of others; prints what it found.

    Args:
      output: folder for the clip, the sheet and the figures.
      reference: the photograph; by default the portrait that scikit-image ships.
      prompt: with class word and trigger.
      model: what `load_sampler` takes.
      people: how many others.
      overwrite: replace what an earlier call wrote.

    Raises:
      CheckpointError: no such model, or no portrait. DataError: a photograph that cannot serve. PromptError: a prompt
      that does not say whom it shows. OutputError: results that cannot or may not be written, before anything is made.
    """
    from mmjax.encoders.recogniser import load_recogniser  # insightface's libraries

    began, output = time.monotonic(), Path(output)
    reference = astronaut() if reference is None else Path(reference)
    report = [outputs.Output("the report", output / name) for name in (FIGURES, SHEET)]
    with outputs.claim(report, overwrite=overwrite) as claim:
        sampler = load_sampler(model, strict=False)
        recogniser = load_recogniser(sampler.config.encoders.face_models)
        request = Request(prompt, [str(reference)])
        (clip,) = sample.sample(sampler, [request], [output / CLIP], overwrite=overwrite)
        seconds = {"first_clip": round(time.monotonic() - began, 1)}
        print(f"{output / CLIP} after {seconds['first_clip']} s")
        person = _person(sampler, recogniser, clip)
        others = list(_others(sampler, recogniser, people))
        likeness = compare(person, others)
        seconds["everything"] = round(time.monotonic() - began, 1)
        print(describe(likeness, people))
        claim.recheck()
        media.write_png(output / SHEET, report_sheet(person, others, likeness, prompt))
        files.write_json(output / FIGURES, _figures(sampler, likeness, seconds))
    return likeness


def astronaut() -> Path:
    """The portrait of Eileen Collins that scikit-image ships, by NASA, in the public domain. Nothing is imported.

    Raises `CheckpointError` where scikit-image is not installed.
    """
    found = importlib.util.find_spec("skimage")
    path = Path(found.origin).parent / "data" / "astronaut.png" if found and found.origin else None
    if path is None or not path.is_file():
        raise CheckpointError(
            "expected scikit-image's portrait of an astronaut, found it not installed; pip install scikit-image, or "
            "give --reference FACE.jpg"
        )
    return path


def compare(person: Person, others: Sequence[Person]) -> Likeness:
    """Cosines of clips to the person's photograph, and how many clips are nearest to their own reference."""
    own, *rest = [_cosine(each.embedding, person.reference_embedding) for each in (person, *others)]
    everybody = (person, *others)
    shown = [index for index, each in enumerate(everybody) if each.embedding is not None]
    nearest = None
    if shown and len(everybody) > 1:
        gallery = np.stack([each.reference_embedding for each in everybody])
        nearest = retrieval(np.stack([everybody[index].embedding for index in shown]), gallery, shown)
    return Likeness(own, rest, nearest)


def describe(likeness: Likeness, people: int) -> str:
    """The figures in a few lines."""
    others = [each for each in likeness.others if each is not None]
    lines = ["", "how alike a clip is to the photograph, by the recogniser that also shows it to the model (cosine):"]
    lines.append(f"  the person's own clip        {_said(likeness.own)}")
    if others:
        lines.append(f"  {len(others)} other people's clips     {np.mean(others):.3f}, at most {max(others):.3f}")
    lost = people - len(likeness.others)
    if lost:
        lines.append(f"  {lost} of {people} others are missing: the model drew no face that could be a reference")
    if blank := len(likeness.others) - len(others):
        lines.append(f"  {blank} clips of others show no face that was found")
    if likeness.nearest is not None:
        lines.append(f"nearest to their own reference, of all clips with a face: {likeness.nearest}")
    return "\n".join([*lines, ""])


def report_sheet(
    person: Person, others: Sequence[Person], likeness: Likeness, prompt: str
) -> UInt8[np.ndarray, "h w 3"]:
    """The photograph beside frames of its clip; below, the others' drawn portraits above the middle of their clips."""
    cells = [("photograph", person.reference), *frame_cells(person.frames, _ACROSS - 1)]
    rows = [media.SheetRow(cells, f"{prompt}: {_said(likeness.own)} alike")]
    for start in range(0, len(others), _ACROSS):
        part = list(zip(others, likeness.others, strict=True))[start : start + _ACROSS]
        title = "people who do not exist, drawn by the model, and below their clips" if not start else ""
        rows.append(media.SheetRow([("drawn", each.reference) for each, _ in part], title))
        clips = [(f"{_said(alike)} alike", each.frames[len(each.frames) // 2]) for each, alike in part]
        rows.append(media.SheetRow(clips))
    return media.contact_sheet(rows, title="one photograph to a clip, and how alike other people's clips are to it")


def _others(sampler: Sampler, recogniser: "FaceRecogniser", count: int) -> Iterator[Person]:
    """Up to so many people who do not exist, with a clip each."""
    from tqdm import tqdm

    size, found = checked_size(sampler.config), 0
    with tqdm(total=count, desc="other people", unit="clip") as bar:
        for number in range(_DRAWN * count):
            if found == count:
                return
            word = _CLASSES[number % len(_CLASSES)]
            drawn = Request(f"A {word} looks at the camera", seed=_SEED + number)
            portrait = sampler.sample([drawn], (1, *size[1:]))[0].frames[0]
            request = Request(f"A {word} img looks at the camera", [Image.fromarray(portrait)], seed=found)
            try:
                sampler.check(request.references)
            except DataError:  # no face, or several
                continue
            yield _person(sampler, recogniser, sampler.sample([request])[0])
            found += 1
            bar.update()


def _person(sampler: Sampler, recogniser: "FaceRecogniser", clip: Clip) -> Person:
    """The person of a clip; the reference's embedding is the one that the model was shown."""
    (encoded,) = sampler.encode([clip.request])
    seen = [each for each in recogniser.embed(clip.frames) if each is not None]
    found = mean_embedding(np.stack(seen)) if seen else None
    return Person(clip.references[0], clip.frames, encoded.features["id_embedding"][0], found)


def _cosine(one: np.ndarray | None, other: np.ndarray) -> float | None:
    return None if one is None else float(mean_embedding(one[None]) @ mean_embedding(other[None]))


def _said(cosine: float | None) -> str:
    return "no face found" if cosine is None else f"{cosine:.3f}"


def _figures(sampler: Sampler, likeness: Likeness, seconds: dict[str, float]) -> dict:
    return {
        "notice": f"{outputs.MARK}.quickstart",
        **dataclasses.asdict(likeness),
        "embedder": sampler.config.encoders.face_models,
        "source": sampler.source,
        "versions": versions(),
        "seconds": seconds,
    }


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Says what `quickstart` found, and how to make another clip; the last line is the sheet's path."""
    parser = cli.Parser(prog="python -m mmjax.quickstart", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=cli.path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--reference", type=cli.path, metavar="FACE.jpg", help="a photograph (default: an astronaut's portrait)"
    )
    parser.add_argument("--prompt", default=PROMPT, help="class word, then img (default: %(default)s)")
    parser.add_argument("--model", type=cli.path, default=MODEL, metavar="DIR|NAME", help="default: %(default)s")
    others = "other people to compare with (default: %(default)s)"
    parser.add_argument("--people", type=Number(int, 0, 1000), default=PEOPLE, metavar="N", help=others)
    parser.add_argument("--overwrite", action="store_true", help=outputs.OVERWRITE_HELP)
    args = parser.parse_args(argv)
    cli.keep_compiled_programs(cli.PROGRAMS)
    print(sample.RESPONSIBLE_USE)
    output, given = Path(args.output), {name: getattr(args, name) for name in ("model", "people", "overwrite")}
    quickstart(output, args.reference, args.prompt, **given)
    print(
        f"make a clip of somebody else:\n  python -m mmjax.sample --model {args.model} --reference FACE.jpg "
        f'--prompt "A man img looks at the camera" --output person.mp4\nopen this picture:\n{output / SHEET}'
    )


callable_command(__name__)

if __name__ == "__main__":
    main()
