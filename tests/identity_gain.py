"""python -m tests.identity_gain --records DIR --face-models PACK --embedder FILE --folder DIR [--config.KEY=VALUE ...]

Does the identity loss make samples of people never seen more alike to them, and what does it cost? Trains
`configs/faces.py` on prepared pictures (`python -m mmjax.prepare`) with and without it, from the same seeds, and prints
a table: at the end of each run, clips of held-out people in the eyes of a recogniser that neither conditions the model
nor judges its loss. What has been trained already in the folder is not trained again.

    conditions   the recogniser of --face-models, whose embeddings the records hold
    judges       --judge, by default the same (the paper's loss compares with the embedding that conditions)
    reports      --embedder
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {  # by the tags of a run's metrics.jsonl
    "cosine to the own person": "identity/own",
    "to others": "identity/other",
    "own person nearest": "identity/retrieval",
    "frames without a face": "identity/no_face",
}
SPEED = "speed/seconds_per_step"
NAN = float("nan")


def main(arguments: list[str] | None = None) -> int:
    """The exit status: that of the first training that fails, else 0."""
    flags, settings = _flags().parse_known_args(arguments)
    runs = {
        (seed, weight): flags.folder / f"seed-{seed}-weight-{weight:g}"
        for seed in flags.seeds
        for weight in (0.0, flags.weight)
    }
    for (seed, weight), workdir in runs.items():
        status = subprocess.run(_command(flags, seed, weight, workdir, settings), cwd=ROOT).returncode
        if status:
            return status
    print(table({key: figures(workdir) for key, workdir in runs.items()}, flags.weight))
    return 0


def figures(workdir: Path) -> dict[str, float]:
    """The last value of each of `FIGURES`, NaN where no face was found, and the median of the seconds a step took."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = {tag: [row[tag] for row in rows if tag in row] for tag in (*FIGURES.values(), SPEED)}
    return {tag: float(np.median(values)) if tag == SPEED else [NAN, *values][-1] for tag, values in found.items()}


def table(found: dict[tuple[int, float], dict[str, float]], weight: float) -> str:
    """A Markdown table of what `figures` found, by seed and weight, and the mean differences with their spread."""
    heads = [*FIGURES, "s a step"]
    lines = ["| seed | identity loss | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    for (seed, of), values in found.items():
        shown = [f"{value:.4f}" for value in values.values()]
        lines.append(f"| {seed} | {of:g} | " + " | ".join(shown) + " |")
    seeds, cells = sorted({seed for seed, _ in found}), []
    for tag in (*FIGURES.values(), SPEED):
        gains = [found[seed, weight][tag] - found[seed, 0.0][tag] for seed in seeds]
        spread = f" +- {np.std(gains, ddof=1):.4f}" if len(gains) > 1 else ""
        cells.append(f"{np.mean(gains):+.4f}{spread}")
    return "\n".join(
        [*lines, f"| {len(seeds)} seeds | what it changes (mean, deviation) | " + " | ".join(cells) + " |"]
    )


def _command(flags: argparse.Namespace, seed: int, weight: float, workdir: Path, settings: list[str]) -> list[str]:
    given = {
        "seed": seed,
        "encoders.face_models": flags.face_models,
        "loss.identity.weight": weight,
        "loss.identity.judge": flags.judge or flags.face_models,
        "data.sources": (str(flags.records),),
        "data.weights": (1.0,),
        "data.batches": (flags.batch,),
        "data.frames": (1,),
        "train.steps": flags.steps,
        "train.sample_every": flags.steps,  # at the end
        "train.sample_count": flags.people,
        "train.validate_every": flags.steps,
        "train.checkpoint_every": 0,
        "train.identity_embedder": flags.embedder,
    }
    line = [sys.executable, "-m", "mmjax.train", f"--config={ROOT / 'configs' / 'faces.py'}", f"--workdir={workdir}"]
    return [*line, *(f"--config.{key}={value}" for key, value in given.items()), *settings]


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.identity_gain", description=__doc__.splitlines()[2])
    path = lambda text: Path(text).absolute()  # noqa: E731
    parser.add_argument("--records", type=path, required=True, help="a folder of pictures that mmjax.prepare wrote")
    parser.add_argument("--face-models", type=path, required=True, help="the pack that made the records")
    parser.add_argument("--judge", type=path, help="recogniser of the loss")
    parser.add_argument("--embedder", type=path, required=True, help="recogniser that reports")
    parser.add_argument("--folder", type=path, required=True, help="takes a workdir for each run")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--people", type=int, default=64, help="held-out people who are sampled")
    parser.add_argument("--weight", type=float, default=0.1, help="of the identity loss, where it is on")
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1, 2))
    return parser


if __name__ == "__main__":
    sys.exit(main())
