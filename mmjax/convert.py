"""Converts published weights, both ways, and exports what training runs have learned.

python -m mmjax.convert cogvideox --source zai-org/CogVideoX-5b --output weights/5b
python -m mmjax.convert transformer --source zai-org/CogVideoX-5b --output weights/transformer
python -m mmjax.convert transformer --source weights/transformer --output diffusers/transformer --reverse
python -m mmjax.convert adapter --source runs/mine --output mine.safetensors
python -m mmjax.convert vae --source runs/mini_vae --output weights/mini/vae
python -m mmjax.convert transformer --source runs/mini_base --output weights/mini/transformer
python -m mmjax.convert pretrained --source runs/mini_stage2 --about about.json --output mini
"""

import argparse
from pathlib import Path

import jax

from mmjax import callable_command, cli, conversion
from mmjax.conversion.vae import COMPONENT
from mmjax.errors import ConversionError, exits_cleanly
from mmjax.pretrained import packing
from mmjax.training import vae_folder
from mmjax.weights import export, export_base, runs

_OF_RUNS = f"{conversion.ADAPTER}, {conversion.PRETRAINED}, or a run's transformer or vae"

VAE = COMPONENT.name


def convert(
    component: str,
    source: str | Path,
    output: str | Path,
    *,
    reverse: bool = False,
    dtype: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    step: int | str | None = None,
    licence: str | None = None,
    about: str | Path | None = None,
) -> conversion.Report:
    """Converts published weights into a folder that mmjax loads, or back; or what a run has learned.

    Args:
      component: one of `mmjax.conversion.COMPONENTS`, such as "transformer", or "cogvideox" for a whole pipeline;
        "adapter", whose direction follows from the source (`mmjax.weights.export`), or "pretrained", a run's whole
        model as files to give away (`mmjax.pretrained.packing`).
      source: a published folder, weights file or hub id, or of a transformer or a VAE a run's workdir; with `reverse` a
        converted folder. Of an adapter or a pretrained model: a workdir, or what this has written.
      output: folder to write; of an adapter, of a run or a folder, a file that ends in .safetensors.
      reverse: write the published files from a converted folder; of a pretrained model, converted folders of its files.
      dtype: "float32" or "bfloat16" casts; by default everything keeps the source's dtype, bit for bit. Of a
        pretrained model "int8" or "float16", or some of them by part.
      tokenizer: folder of the text encoder's tokenizer, where it is not beside the source.
      overwrite: replace what mmjax converted there before; other files in the folder stay.
      step: of the run, "best" or by default the last checkpoint's.
      licence: of an adapter or a pretrained model, in place of what is known of its base's.
      about: of a pretrained model, the JSON file of what its makers know of it.

    Raises:
      ConversionError: with all that does not fit. CheckpointError: a converted folder or a run that is not complete.
      OutputError: files of an adapter or a pretrained model that cannot be written.
    """
    of_run = {"step": step, "dtype": dtype, "overwrite": overwrite}
    if component == conversion.ADAPTER:
        _refuse(component, reverse=reverse, tokenizer=tokenizer, about=about)
        return export.convert_adapter(source, output, licence=licence, **of_run)
    if component == conversion.PRETRAINED:
        of_packing = {"step": step, "dtype": dtype, "licence": licence, "about": about}
        _refuse(component, tokenizer=tokenizer, **(of_packing if reverse else {}))
        if reverse:
            return packing.unpack(source, output, overwrite=overwrite)
        return packing.pack(source, output, overwrite=overwrite, **of_packing)
    _refuse(component, licence=licence, about=about)
    if component == "transformer" and runs.is_workdir(source):
        _refuse(component, reverse=reverse, tokenizer=tokenizer)
        return export_base.convert_base(source, output, **of_run)
    if component == VAE and not reverse and runs.is_workdir(source):
        _refuse(component, tokenizer=tokenizer)
        return vae_folder.convert_run(source, output, **of_run)
    _refuse(component, step=step)
    if reverse and tokenizer:
        raise ConversionError("--tokenizer: expected no --reverse beside it; the converted folder holds the tokenizer")
    settings = {"dtype": dtype, "overwrite": overwrite} | ({} if reverse else {"tokenizer": tokenizer})
    try:
        if component == conversion.PIPELINE:
            direction = conversion.convert_pipeline_back if reverse else conversion.convert_pipeline
            return direction(source, output, **settings)
        direction = conversion.convert_back if reverse else conversion.convert
        return direction(component, source, output, **settings)
    except OSError as error:  # of the source: those of the output are told where it is written
        what = error.filename or source
        raise ConversionError(f"{what}: expected files that can be read, found: {error.strerror or error}") from error


def _refuse(component: str, **given) -> None:
    """Flags that mean nothing with this component and source (`ConversionError`)."""
    said, hint = {
        conversion.ADAPTER: ("an adapter", "; a run or a folder becomes a file, and a file a folder"),
        conversion.PRETRAINED: ("a pretrained model in this direction", ""),
    }.get(component, (f"{component} of this source", f"; it goes with what a run has learned, {_OF_RUNS}"))
    for name, value in given.items():
        if value not in (None, False):
            raise ConversionError(
                f"--{name}: expected none with {said}, found one{hint if name != 'tokenizer' else ''}"
            )


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Parses the command line, converts, and prints what was written. Weights never touch an accelerator."""
    args = _parser().parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    print(convert(**vars(args)))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="python -m mmjax.convert",
        description="Converts published weights into a folder that mmjax loads onto any mesh, or back;\n"
        "exports what a training run has learned: its adapter, its base, its VAE, its whole model.",
        epilog=_components(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("component", help="what to convert; see below")
    parser.add_argument(
        "--source",
        type=cli.path,
        required=True,
        help="published folder (a model's or a pipeline's), weights file or hub id; a converted folder to go back; "
        "for an adapter, a transformer, a VAE or a pretrained model: a run's workdir, or what was made of one",
    )
    parser.add_argument(
        "--output", type=cli.path, required=True, help="folder to write; for a run's adapter FILE.safetensors"
    )
    parser.add_argument("--reverse", action="store_true", help="the way back, to a converted folder's published files")
    parser.add_argument(
        "--dtype",
        help="cast to float32 or bfloat16 (default: keep the source's dtype, bit for bit); of a pretrained model int8 "
        "(the default), float16, or vae=float16,base=int8,adapter=int8",
    )
    parser.add_argument(
        "--tokenizer", type=cli.path, help="folder of the text encoder's tokenizer, when it is not beside the source"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace this component as converted there before, and nothing else"
    )
    of_run = "of what a run has learned: "
    parser.add_argument(
        "--step",
        type=cli.checkpoint_step,
        metavar="N",
        help=f"{of_run}the run's checkpoint, or best (default: the last)",
    )
    parser.add_argument("--licence", metavar="TEXT", help=f"{of_run}its licence (default: what is known of the base's)")
    parser.add_argument(
        "--about", type=cli.path, metavar="FILE.json", help="of a pretrained model: what its makers know of it"
    )
    return parser


def _components() -> str:
    """The components with a line each."""
    lines = {conversion.PIPELINE: "a whole CogVideoX pipeline: transformer, vae, text-encoder, tokenizer and scheduler"}
    lines |= {name: kind.summary for name, kind in conversion.COMPONENTS.items()}
    lines[conversion.ADAPTER] = "of a run: RUN -> FILE.safetensors -> DIR (--adapter and train.adapter take all three)"
    lines[conversion.PRETRAINED] = (
        "a run's whole small model: RUN -> DIR (--model takes it) -> converted folders (--reverse)"
    )
    return "\n".join(["components:", *(f"  {name:<14}{summary}" for name, summary in lines.items())])


callable_command(__name__)

if __name__ == "__main__":
    main()
