"""Makes videos of a person, from pictures of the person and a prompt.

    python -m mmjax.sample --model RUN --reference FACE.png --prompt "A man img is smiling" --output OUT.mp4

Writes OUT.mp4, OUT.png (the references beside frames) and OUT.json (seed, settings, versions, timings). Without a
reference the prompt is plain text and the identity is withheld. The same seed, prompt and references give the same
video on the same machine, but for rounding.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from mmjax import media
from mmjax.errors import ConfigError, DataError, exits_cleanly
from mmjax.sampling import Clip, Request, Sampler, checked_size, frame_cells, load_sampler
from mmjax.training.checkpoint import versions


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Samples what the command line asks for. Anything that the user can mend ends in one line and status 2."""
    args = _parser().parse_args(argv)
    prompts, outputs = _prompts_and_outputs(args)
    for reference in args.reference:
        media.read_picture(reference)  # a broken picture should not be found out after the weights are read
    settings = {"sampler": args.sampler, "steps": args.steps, "guidance": args.guidance}
    settings = {name: value for name, value in settings.items() if value is not None}
    began = time.monotonic()
    sampler = load_sampler(args.model, adapter=args.adapter, weights=args.weights, step=args.step, **settings)
    size = checked_size(sampler.config, args.frames, args.height, args.width)
    print(f"step {sampler.source['step']} of {args.model}, {sampler.source['weights']} weights, {_describe(size)}")
    _warn_if_untrained(sampler, size)
    requests = [
        Request(prompt, tuple(args.reference), args.seed + number, args.negative_prompt)
        for number, prompt in enumerate(prompts)
    ]
    encoded = sampler.encode(requests)
    loading = time.monotonic() - began
    for each, output in zip(encoded, outputs, strict=True):
        began = time.monotonic()
        with tqdm(total=sampler.config.sampling.steps, desc=output.name, unit="step") as bar:
            clip = sampler.denoise([each], size, lambda done, total, bar=bar: bar.update(done - bar.n))[0]
        timings = {"loading_seconds": round(loading, 3), "sampling_seconds": round(time.monotonic() - began, 3)}
        _write(output, sampler, clip, args.fps or sampler.config.data.fps, timings)


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m mmjax.sample", description=__doc__, formatter_class=style)
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="workdir of a training run")
    add("--adapter", metavar="DIR", help="workdir of another run, whose adapter to use")
    add("--weights", choices=("ema", "raw"), default="ema", help="averaged weights where there are any, or raw ones")
    add("--step", type=int, metavar="N", help="checkpoint to use (default: the last)")
    add("--reference", nargs="+", action="extend", default=[], metavar="FACE.png", help="pictures of one person")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", help='with a reference: class word, then "img": "A man img is smiling"')
    prompt.add_argument("--prompts", metavar="FILE", help="one prompt a line; writes OUT-000.mp4, OUT-001.mp4, ...")
    add("--negative_prompt", default="", help="what to steer away from")
    add("--output", required=True, metavar="OUT.mp4")
    add("--seed", type=int, default=0, help="of the first prompt; each further one has the next seed")
    for name in ("frames", "height", "width"):
        add(f"--{name}", type=int, metavar="N", help="default: as trained" + (", 8k + 1" if name == "frames" else ""))
    add("--sampler", choices=("ddim", "dpm"), help="default: the run's")
    add("--steps", type=int, metavar="N", help="denoising steps (default: the run's)")
    add("--guidance", type=float, metavar="X", help="guidance scale, 1 is off (default: the run's)")
    add("--fps", type=float, help="frames a second of the video file (default: the training clips')")
    return parser


def _prompts_and_outputs(args) -> tuple[list[str], list[Path]]:
    """Each prompt with the mp4 it goes to."""
    output = Path(args.output)
    if output.suffix != ".mp4":
        raise ConfigError(f'--output {output}: expected a name that ends in .mp4, found "{output.suffix}"')
    if args.seed < 0 or (args.fps is not None and args.fps <= 0):
        raise ConfigError(f"--seed {args.seed}, --fps {args.fps}: expected a seed of 0 or more and a positive rate")
    if args.prompts is None:
        return [args.prompt], [output]
    try:
        lines = Path(args.prompts).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--prompts {args.prompts}: expected a text file, one prompt a line ({error})") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise DataError(f"--prompts {args.prompts}: expected a prompt or more, found none")
    return prompts, [output.with_name(f"{output.stem}-{number:03d}.mp4") for number in range(len(prompts))]


def _describe(size) -> str:
    return "{} frames of {} x {}".format(*size)


def _warn_if_untrained(sampler: Sampler, size) -> None:
    data = sampler.config.data
    if size[0] not in data.frames or size[1:] != (data.height, data.width):
        trained = ", ".join(map(str, data.frames))
        print(f"note: trained on {trained} frames of {data.height} x {data.width}; other sizes may look worse")


def _write(output: Path, sampler: Sampler, clip: Clip, fps: float, timings: dict) -> None:
    """The video, its contact sheet and its JSON, side by side."""
    request, device = clip.request, jax.devices()[0]
    tags = {"prompt": request.prompt, "seed": str(request.seed), "title": request.prompt}
    media.write_video(output, clip.frames, fps, metadata=tags)
    references = [(f"reference {number + 1}", picture) for number, picture in enumerate(clip.references)]
    row = media.Row([*references, *frame_cells(clip.frames, 6)], request.prompt)
    sheet = media.write_png(output.with_suffix(".png"), media.contact_sheet([row]))
    record = {
        "notice": media.AI_NOTICE,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "references": [str(path) for path in request.references],
        "seed": request.seed,
        "size": dict(zip(("frames", "height", "width"), clip.frames.shape, strict=False)),
        "fps": fps,
        "sampling": dataclasses.asdict(sampler.config.sampling),
        "source": sampler.source,
        "experiment": sampler.config.name,
        "versions": versions(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "timings": timings,
    }
    output.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{output}  (frames to look at: {sheet})")


if __name__ == "__main__":
    main()
