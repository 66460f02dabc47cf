"""Makes videos of a person, from pictures of the person and a prompt.

    python -m mmjax.sample --model weights/cogvideox-5b --adapter runs/mine --face-models antelopev2 \\
        --reference FACE.jpg --prompt "A man img is smiling" --output OUT.mp4

MODEL is a folder of converted CogVideoX weights or the workdir of a training run. Writes OUT.mp4, OUT.png (the
references beside frames) and OUT.json (seed, settings, versions, timings). Without a reference the prompt is plain text
and no identity; converted weights without an adapter are plain CogVideoX. The same seed, prompt and
references give the same video on the same machine, but for rounding.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from mmjax import callable_command, cli, files, media
from mmjax.config import FPS, FRAMES, GUIDANCE, IDENTITY_SCALE, PIXELS, STEPS
from mmjax.diffusion.samplers import SAMPLERS
from mmjax.errors import ConfigError, DataError, exits_cleanly
from mmjax.sampling import Clip, Encoded, Request, Sampler, Size, checked_size, frame_cells, load_sampler
from mmjax.sampling.latents import read_latents
from mmjax.validation import COUNT_OR_NONE, SEED, Number
from mmjax.versions import versions

RESPONSIBLE_USE = (
    "note: use pictures of yourself or of people who agreed; do not deceive, harass or impersonate. The video says in "
    "its metadata that a model made it."
)
_SETTINGS = ("sampler", "steps", "guidance", "identity_scale")
_LOADED = ("adapter", "weights", "step", "photomaker", "face_models", "precision", "low_memory", "text_cache", "strict")


def sample(
    sampler: Sampler,
    requests: Sequence[Request],
    outputs: Sequence[str | os.PathLike],
    *,
    size: Size | None = None,
    fps: float | None = None,
    noise: Float[np.ndarray, "T h w C"] | None = None,
    latents: str | os.PathLike | None = None,
) -> list[Clip]:
    """Makes the videos of the requests, one after the other, and writes each beside its contact sheet and its record.

    Args:
      sampler: from `load_sampler`.
      outputs: an .mp4 for each request; the sheet is the .png and the record the .json of the same name.
      size: (frames, height, width); by default the longest that the model was trained on.
      fps: frames a second of the video files; by default the training clips'.
      noise: to start from, in place of the request's own; for one request alone.
      latents: .npy file in which the clean latents are kept; for one request alone.

    Raises:
      ConfigError, DataError, PromptError: requests that cannot work, before anything is denoised.
    """
    paths = [Path(output) for output in outputs]
    if len(paths) != len(requests):
        raise ConfigError(f"outputs: expected a file for each of the {len(requests)} requests, found {len(paths)}")
    if len(requests) > 1 and (latents or noise is not None):
        raise ConfigError(f"latents, noise: expected one request beside them, found {len(requests)}")
    size = checked_size(sampler.config, *(size or ()))
    fps = FPS.checked("fps", sampler.config.data.fps if fps is None else fps)
    made = []
    for path, encoded in zip(paths, sampler.encode(requests), strict=True):
        clip = _sample(sampler, encoded, size, path, noise, latents)
        _write(path, sampler, clip, fps)
        made.append(clip)
    return made


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Samples what the command line asks for. Anything that the user can mend ends in one line and status 2."""
    args = _parser().parse_args(argv)
    cli.keep_compiled_programs(args.compilation_cache)
    requests, outputs = _requests_and_outputs(args)
    settings = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    sampler = load_sampler(args.model, **{name: getattr(args, name) for name in _LOADED}, **settings)
    size, fps = checked_size(sampler.config, args.frames, args.height, args.width), args.fps or sampler.config.data.fps
    print(_title(sampler, size))
    if args.decode:
        latents = read_latents(args.decode, sampler.config.autoencoder)
        media.write_video(outputs[0], sampler.decode(latents[None])[0], fps)
        print(outputs[0])
        return
    noise = None
    if args.init_latents:
        noise = read_latents(args.init_latents, sampler.config.autoencoder, sampler.denoiser.latent_shape(size))
    _check(args, sampler, requests, size)
    sample(sampler, requests, outputs, size=size, fps=fps, noise=noise, latents=args.save_latents)


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = cli.Parser(prog="python -m mmjax.sample", description=__doc__, formatter_class=style)
    add = parser.add_argument_group("what to make").add_argument
    add("--model", required=True, metavar="DIR", help="converted CogVideoX weights, or the workdir of a training run")
    add("--adapter", metavar="DIR", help="workdir of a run, whose adapter to use")
    add("--reference", nargs="+", action="extend", default=[], metavar="FACE.jpg", help="pictures of one person")
    add("--lenient", dest="strict", action="store_false", help="take references that are small, blurred or turned away")
    add("--prompt", help='with a reference: class word, then "img": "A man img is smiling"')
    add("--prompts", metavar="FILE", help="one prompt a line; writes OUT-000.mp4, OUT-001.mp4, ...")
    add("--negative-prompt", "--negative_prompt", default="", help="what to steer away from")
    add("--output", required=True, metavar="OUT.mp4")
    add("--seed", type=SEED, default=0, help="0 to 2^64 - 1, of the first video; each further one has the next")
    add("--videos", type=Number(int, 1, 10_000), default=1, metavar="N", help="videos for each prompt")
    add = parser.add_argument_group("size").add_argument
    for name, number in {"frames": FRAMES, "height": PIXELS, "width": PIXELS}.items():
        grid = ", 8k + 1" if name == "frames" else ""
        add(f"--{name}", type=number, metavar="N", help=f"default: as trained{grid}")
    add("--fps", type=FPS, metavar="X", help="frames a second of the video file (default: the training clips')")
    add = parser.add_argument_group("sampling").add_argument
    rows = "; ".join(f"{name}: {rule.description}" for name, rule in SAMPLERS.items())
    add("--sampler", choices=tuple(SAMPLERS), help=f"default: the model's. {rows}")
    add("--steps", type=STEPS, metavar="N", help="denoising steps (default: the model's)")
    add("--guidance", type=GUIDANCE, metavar="X", help="guidance scale, 1 is off (default: the model's)")
    add("--identity-scale", type=IDENTITY_SCALE, metavar="X", help="how strongly the identity acts; 1 is as trained")
    add("--init-latents", metavar="FILE.npy", help="noise to start from: [latent frames, height, width, channels]")
    add("--save-latents", metavar="FILE.npy", help="keep the clean latents")
    add("--decode", metavar="FILE.npy", help="decode latents that were saved, and do nothing else")
    add = parser.add_argument_group("weights and machine").add_argument
    add("--weights", choices=("ema", "raw"), default="ema", help="averaged weights where there are any, or raw ones")
    add("--step", type=COUNT_OR_NONE, metavar="N", help="checkpoint to use (default: the last)")
    add("--photomaker", metavar="DIR", help="converted PhotoMaker V2 weights (default: MODEL/photomaker)")
    add("--face-models", metavar="PACK", help="insightface model pack, by name or folder (default: MODEL/face_models)")
    add("--precision", help="bfloat16 or float32 (default: the run's; bfloat16 for converted weights)")
    add("--low-memory", action="store_true", help="weights wait in host memory, the decoder works in tiles; slower")
    add("--text-cache", metavar="DIR", help="keep the embeddings of prompts, for later runs")
    add(
        "--compilation-cache", metavar="DIR", default=cli.PROGRAMS, help="keep compiled programs (default: %(default)s)"
    )
    return parser


def _requests_and_outputs(args) -> tuple[list[Request], list[Path]]:
    """Each video with the mp4 it goes to."""
    output = Path(args.output)
    if output.suffix != ".mp4":
        raise ConfigError(f'--output {output}: expected a name that ends in .mp4, found "{output.suffix}"')
    prompts = [prompt for prompt in _prompts(args) for _ in range(args.videos)]
    requests = [
        Request(prompt, tuple(args.reference), args.seed + number, args.negative_prompt)
        for number, prompt in enumerate(prompts)
    ]
    if len(requests) > 1 and (args.save_latents or args.init_latents):
        raise ConfigError(
            f"--save-latents, --init-latents: expected one video, found {len(requests)}; give --seed alone"
        )
    if args.prompts is None and args.videos == 1:
        return requests, [output]
    return requests, [output.with_name(f"{output.stem}-{number:03d}.mp4") for number in range(len(requests))]


def _prompts(args) -> list[str]:
    if (args.prompt is None) == (args.prompts is None) and not args.decode:
        raise ConfigError("expected --prompt TEXT or --prompts FILE, one of them")
    if args.prompts is None:
        return [args.prompt or ""]
    try:
        lines = Path(args.prompts).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--prompts {args.prompts}: expected a text file, one prompt a line ({error})") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise DataError(f"--prompts {args.prompts}: expected a prompt or more, found none")
    return prompts


def _title(sampler: Sampler, size: Size) -> str:
    source, (frames, height, width) = sampler.source, size
    weights = f", step {source['step']}, {source['weights']} weights" if "step" in source else ""
    adapter = f" with the adapter of {source['adapter']}" if "adapter" in source else ""
    return f"{source['model']}{adapter}{weights}: {frames} frames of {height} x {width}"


def _check(args, sampler: Sampler, requests: Sequence[Request], size: Size) -> None:
    """Everything that can be said before anything slow starts."""
    data = sampler.config.data
    if size[0] not in data.frames or size[1:] != (data.height, data.width):
        trained = ", ".join(map(str, data.frames))
        print(f"note: trained on {trained} frames of {data.height} x {data.width}; other sizes may look worse")
    if args.reference:
        print(RESPONSIBLE_USE)
        for warning in sampler.check(args.reference):
            print(f"note: {warning}")
    for warning in sampler.check_prompts(requests):
        print(f"note: {warning}")
    estimate = sampler.estimate(size, len(args.reference))
    print(estimate)
    if not estimate.fits:
        hint = "take fewer frames or a smaller size" if args.low_memory else "add --low-memory, or take a smaller size"
        print(f"note: that is more than the device offers; it will probably run out of memory: {hint}")


def _sample(
    sampler: Sampler,
    encoded: Encoded,
    size: Size,
    output: Path,
    noise: np.ndarray | None,
    kept: str | os.PathLike | None,
) -> Clip:
    """Denoises and decodes one video. Its latents are on disk in between, so that a failed decoder costs nothing."""
    from tqdm import tqdm

    saved = Path(kept) if kept else output.with_suffix(".latents.npy")
    noise = None if noise is None else noise[None]
    with tqdm(total=sampler.config.sampling.steps, desc=output.name, unit="step") as bar:
        latents = sampler.latents([encoded], size, lambda done, total: bar.update(done - bar.n), noise)
    with files.written_whole(saved, ".npy") as partial:
        np.save(partial, latents[0])
    try:
        frames = sampler.decode(latents)[0]
    except Exception:
        print(f"decoding failed; the latents are kept: --decode {saved} --output {output} tries again")
        raise
    if not kept:
        saved.unlink()
    return Clip(frames, encoded.pictures, encoded.request)


def _write(output: Path, sampler: Sampler, clip: Clip, fps: float) -> None:
    """The video, its contact sheet and its JSON, side by side."""
    began, device, request = time.monotonic(), jax.devices()[0], clip.request
    tags = {"prompt": request.prompt, "seed": str(request.seed), "title": request.prompt}
    media.write_video(output, clip.frames, fps, metadata=tags)
    references = [(f"reference {number + 1}", picture) for number, picture in enumerate(clip.references)]
    row = media.SheetRow([*references, *frame_cells(clip.frames, 6)], request.prompt)
    sheet = media.write_png(output.with_suffix(".png"), media.contact_sheet([row]))
    seconds = {f"{part}_seconds": round(spent, 3) for part, spent in sampler.seconds.items()}
    record = {
        "notice": media.AI_NOTICE,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "references": [str(path) for path in request.references],
        "seed": request.seed,
        "size": dict(zip(("frames", "height", "width"), clip.frames.shape, strict=False)),
        "fps": fps,
        "sampling": dataclasses.asdict(sampler.config.sampling),
        "precision": dataclasses.asdict(sampler.config.precision),
        "source": sampler.source,
        "experiment": sampler.config.name,
        "versions": versions(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "timings": seconds | {"writing_seconds": round(time.monotonic() - began, 3)},
    }
    files.write_json(output.with_suffix(".json"), record)
    print(f"{output}  (frames to look at: {sheet})")


callable_command(__name__)

if __name__ == "__main__":
    main()
