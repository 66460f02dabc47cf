"""The closing report of `make tiny`: does the model keep the person? Asked of drawn people it was never trained on.

    python -m mmjax.tiny --workdir runs/tiny

Samples one clip of each held-out person, and the same clips (prompts, seeds, weights) without the identity. A
recogniser of drawn people, fitted on training people alone, then says how often a clip is closest to its own person
among all of them. The rate stands beside chance, beside the one without the identity, and beside the ceiling: the
recogniser's own rate on real clips.
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mmjax import callable_command, cli, files, media, outputs
from mmjax.config import Experiment
from mmjax.errors import ConfigError, exits_cleanly
from mmjax.evaluation.retrieval import Retrieval, retrieval
from mmjax.faces.embeddings import mean_embedding
from mmjax.records import pipeline
from mmjax.records.schema import Record
from mmjax.records.sources import find_sources
from mmjax.sampling import Batch, Sampler, checked_size, frame_cells, load_sampler
from mmjax.synthetic import galleries, portraits
from mmjax.validation import COUNT
from mmjax.versions import versions
from mmjax.weights import runs

SOURCE = "drawn_clips"
BATCH = 16  # clips denoised together
SHOWN = 8  # people on the contact sheet
FIGURES, SHEET = "report.json", "report.png"  # in the workdir
NAMES = {
    "real": "real clips (the ceiling)",
    "identity": "with the identity",
    "without_identity": "without the identity",
}


@dataclasses.dataclass(frozen=True)
class Clips:
    """One clip a person: [people, frames, height, width, 3] uint8."""

    real: UInt8[np.ndarray, "p f h w 3"]
    identity: UInt8[np.ndarray, "p f h w 3"]
    without_identity: UInt8[np.ndarray, "p f h w 3"]


def tiny(workdir: str | os.PathLike, people: int | None = None, *, overwrite: bool = False) -> dict[str, Retrieval]:
    """Samples clips of held-out people and judges them; prints the figures, and writes `report.json` and `report.png`.

    Args:
      workdir: of a run on drawn people.
      people: how many held-out people to ask about; by default all.
      overwrite: replace the report of an earlier call.

    Returns:
      rank-1 rates by the names of `NAMES`.

    Raises:
      ConfigError: see `held_out_clips`. CheckpointError: no run, or none that can be read.
      OutputError: a report that cannot or may not be written, before anything is sampled.
    """
    workdir = Path(workdir)
    sampler = load_sampler(workdir)
    planned = [outputs.Output("the report", workdir / FIGURES), outputs.Output("the report", workdir / SHEET)]
    with outputs.claim(planned, overwrite=overwrite) as claim:
        return _report(sampler, workdir, people, claim)


def _report(sampler: Sampler, workdir: Path, people: int | None, claim: outputs.Claim) -> dict[str, Retrieval]:
    began = time.monotonic()
    records = held_out_clips(sampler.config, people)
    print(f"asking about {len(records)} people who were not in the training set")
    clips = make_clips(sampler, records)
    rates = judge(sampler.config, records, clips)
    print(describe(rates))  # before anything that may fail: a full disk should not cost the figures
    claim.recheck()
    media.write_png(workdir / SHEET, report_sheet(sampler, records, clips))
    report = {"notice": f"{outputs.MARK}.tiny"}
    report |= {name: dataclasses.asdict(rate) for name, rate in rates.items()}
    report |= {"source": sampler.source, "versions": versions(), "seconds": round(time.monotonic() - began, 1)}
    files.write_json(workdir / FIGURES, report)
    return rates


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Says what `tiny` found, and how to make another video; the last line is the sheet's path."""
    parser = cli.Parser(prog="python -m mmjax.tiny", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--workdir", type=cli.path, required=True, metavar="DIR", help="workdir of a run on drawn people"
    )
    parser.add_argument("--people", type=COUNT, metavar="N", help="held-out people to ask about (default: all)")
    parser.add_argument("--overwrite", action="store_true", help=outputs.OVERWRITE_HELP)
    write = "write pictures of the held-out people and people.csv there, for mmjax.evaluate, and do nothing else"
    parser.add_argument("--write-people", type=cli.path, metavar="DIR", help=write)
    args = parser.parse_args(argv)
    workdir = Path(args.workdir)
    if args.write_people:
        print(galleries.write_people(runs.read_config(workdir), Path(args.write_people), args.people))
        return
    tiny(workdir, args.people, overwrite=args.overwrite)
    print(_how_to_sample(runs.read_config(workdir), workdir))
    print(f"figures: {workdir / FIGURES}\nopen this picture:\n{workdir / SHEET}")


def held_out_clips(config: Experiment, count: int | None = None) -> list[Record]:
    """The first validation record of each held-out person, in the order of the people.

    Raises:
      ConfigError: an experiment without clips of drawn people, or fewer than two people.
    """
    from mmjax.synthetic.builders import BUILDERS  # brings TFDS

    people = config.data.held_out_people if count is None else min(count, config.data.held_out_people)
    if SOURCE not in config.data.sources or people < 2:
        raise ConfigError(f"tiny: expected a run on {SOURCE} and two held-out people or more, found {people} people")
    wanted = [person.name for person in galleries.held_out_people(config, people, frames=1)]
    sources, clips = find_sources(config, BUILDERS), config.data.held_out_people * config.data.clips_per_person
    records = pipeline.validation_records(config, sources, SOURCE, clips)
    first = {str(record["person"]): record for record in reversed(records)}
    return [first[name] for name in wanted]


def make_clips(sampler: Sampler, records: Sequence[Record]) -> Clips:
    """Real clips, generated ones, and generated ones without the identity; person k has seed k."""
    from tqdm import tqdm

    real = sampler.decode(np.stack([record["latents"] for record in records]))
    batches, steps = -(-len(records) // BATCH), sampler.config.sampling.steps
    with tqdm(total=2 * batches * steps, desc="sampling", unit="step") as bar:

        def made(keep: bool):
            return np.concatenate([_sample(sampler, records, at, keep, bar) for at in range(0, len(records), BATCH)])

        return Clips(real, made(True), made(False))


def judge(config: Experiment, records: Sequence[Record], clips: Clips) -> dict[str, Retrieval]:
    """Rank-1 rates of the three kinds of clips among the people of the records."""
    recogniser = galleries.fit_recogniser(config)
    people = galleries.held_out_people(config, len(records), galleries.PICTURES)
    gallery = np.stack([mean_embedding(recogniser.embed(person.frames)) for person in people])
    own = np.arange(len(records))

    def rate(videos):
        return retrieval(np.stack([mean_embedding(recogniser.embed(video)) for video in videos]), gallery, own)

    return {name: rate(getattr(clips, name)) for name in NAMES}


def describe(rates: dict[str, Retrieval]) -> str:
    """The figures as a small table."""
    any_rate = rates["identity"]
    lines = ["", f"closest to its own person among {round(1 / any_rate.chance)} held-out people:"]
    lines += [f"  {NAMES[name]:26}{rate}" for name, rate in rates.items()]
    return "\n".join([*lines, f"  {'chance':26}{any_rate.chance:.1%}", ""])


def report_sheet(sampler: Sampler, records: Sequence[Record], clips: Clips) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of people: reference, four frames with the identity, one without it, one of the real clip."""
    middle, rows = clips.real.shape[1] // 2, []
    for index in media.spread(SHOWN, len(records)):
        cells = [("reference", records[index]["reference"][0]), *frame_cells(clips.identity[index])]
        cells += [("without the identity", clips.without_identity[index, middle]), ("real", clips.real[index, middle])]
        rows.append(media.SheetRow(cells, str(records[index]["caption"])))
    step = sampler.source["step"]
    return media.contact_sheet(rows, title=f"{sampler.config.name}, step {step}: people who were not trained on")


def _how_to_sample(config: Experiment, workdir: Path) -> str:
    """Writes portraits of the people on the sheet, and says how to make a video of one of them."""
    for person in galleries.held_out_people(config, min(SHOWN, config.data.held_out_people), frames=1):
        path = workdir / "people" / f"{person.name}.png"
        if not path.exists():  # it would be the same picture, or is somebody else's
            portraits.save_portrait(path, person.references[0])
    return (
        f"make another video of one of them:\n  python -m mmjax.sample --model {workdir} --reference {path} "
        f'--prompt "A {person.class_word} img smiling in a park" --output person.mp4'
    )


def _sample(sampler: Sampler, records: Sequence[Record], at: int, keep: bool, bar) -> np.ndarray:
    """Clips of one batch; the last one is filled up, so that all have one shape and compile once."""
    seeds = list(range(at, min(at + BATCH, len(records))))
    filled = seeds + seeds[-1:] * (min(BATCH, len(records)) - len(seeds))
    batch: Batch = pipeline.collate([records[index] for index in filled])
    batch["keep_identity"] = np.full(len(filled), keep)
    size = checked_size(sampler.config)
    return sampler.videos(batch, None, filled, size, lambda done, total: bar.update())[: len(seeds)]


callable_command(__name__)

if __name__ == "__main__":
    main()
