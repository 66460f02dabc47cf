"""Converts published weights, both ways, and exports the adapter of a training run.

python -m mmjax.convert cogvideox --source zai-org/CogVideoX-5b --output weights/5b
python -m mmjax.convert transformer --source zai-org/CogVideoX-5b --output weights/transformer
python -m mmjax.convert transformer --source weights/transformer --output diffusers/transformer --reverse
python -m mmjax.convert adapter --source runs/mine --output mine.safetensors
python -m mmjax.convert vae --source runs/mini_vae --output weights/mini_vae
"""

import argparse
from pathlib import Path

import jax

from mmjax import callable_command, cli, conversion
from mmjax.conversion.vae import COMPONENT
from mmjax.errors import ConversionError, exits_cleanly
from mmjax.training import vae_folder
from mmjax.weights import export

VAE = COMPONENT.name  # which may come from a run as well


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
) -> conversion.Report:
    """Converts published weights into a folder that mmjax loads, or back; or what a run has trained.

    Args:
      component: one of `mmjax.conversion.COMPONENTS`, such as "transformer", or "cogvideox" for a whole pipeline;
        or "adapter", whose direction follows from the source (`mmjax.weights.export`).
      source: a published folder, weights file or hub id; with `reverse` a converted folder. Of an adapter: a run's
        workdir, or a file or folder that this has written. Of a VAE also the workdir of a run that trained it.
      output: folder to write; of an adapter, of a run or a folder, a file that ends in .safetensors.
      reverse: write the published files from a converted folder.
      dtype: "float32" or "bfloat16" casts; by default everything keeps the source's dtype, bit for bit.
      tokenizer: folder of the text encoder's tokenizer, where it is not beside the source.
      overwrite: replace what mmjax converted there before; other files in the folder stay.
      step: of the run whose adapter or VAE is exported, "best" or by default the last checkpoint's.
      licence: of an exported adapter, in place of what is known of its base's.

    Raises:
      ConversionError: with all that does not fit. CheckpointError: a converted folder or a run that is not complete.
      OutputError: an adapter's file that cannot be written.
    """
    if component == conversion.ADAPTER:
        of_adapter = {"step": step, "dtype": dtype, "licence": licence, "overwrite": overwrite}
        return _convert_adapter(source, output, reverse, tokenizer, of_adapter)
    if licence is not None:
        raise ConversionError(f"--licence: expected the component {conversion.ADAPTER} beside it, found {component}")
    if component == VAE and not reverse and vae_folder.is_run(source):
        if tokenizer:
            raise ConversionError("--tokenizer: expected none with a VAE, which takes no text")
        return vae_folder.convert_run(source, output, step=step, dtype=dtype, overwrite=overwrite)
    if step is not None:
        raise ConversionError(f"--step: expected a run as the source beside it, found {component} of {source}")
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


def _convert_adapter(source, output, reverse, tokenizer, settings) -> conversion.Report:
    if reverse or tokenizer:
        raise ConversionError(
            f"{'--reverse' if reverse else '--tokenizer'}: expected none with an adapter, found one; a run or a folder "
            "becomes a file, and a file a folder"
        )
    return export.convert_adapter(source, output, **settings)


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
        "exports the adapter of a training run as one file, or its VAE as a folder.",
        epilog=_components(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("component", help="what to convert; see below")
    parser.add_argument(
        "--source",
        type=cli.path,
        required=True,
        help="published folder (a model's or a pipeline's), weights file or hub id; a converted folder to go back; "
        "for an adapter: a run's workdir, or what was made of one; for a VAE also a run's workdir",
    )
    parser.add_argument(
        "--output", type=cli.path, required=True, help="folder to write; for a run's adapter FILE.safetensors"
    )
    parser.add_argument("--reverse", action="store_true", help="write the published files from a converted folder")
    parser.add_argument("--dtype", help="cast to float32 or bfloat16 (default: keep the source's dtype, bit for bit)")
    parser.add_argument(
        "--tokenizer", type=cli.path, help="folder of the text encoder's tokenizer, when it is not beside the source"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace this component as converted there before, and nothing else"
    )
    of_run, of_adapter = "of a run: ", "of an adapter: "
    parser.add_argument(
        "--step",
        type=cli.checkpoint_step,
        metavar="N",
        help=f"{of_run}the checkpoint, or best (default: the last)",
    )
    parser.add_argument(
        "--licence", metavar="TEXT", help=f"{of_adapter}its licence (default: what is known of the base's)"
    )
    return parser


def _components() -> str:
    """The components with a line each."""
    lines = {conversion.PIPELINE: "a whole CogVideoX pipeline: transformer, vae, text-encoder, tokenizer and scheduler"}
    lines |= {name: kind.summary for name, kind in conversion.COMPONENTS.items()}
    lines[conversion.ADAPTER] = "of a run: RUN -> FILE.safetensors -> DIR (--adapter and train.adapter take all three)"
    return "\n".join(["components:", *(f"  {name:<14}{summary}" for name, summary in lines.items())])


callable_command(__name__)

if __name__ == "__main__":
    main()
