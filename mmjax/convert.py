"""Converts published weights, both ways.

python -m mmjax.convert cogvideox --source zai-org/CogVideoX-5b --output weights/5b
python -m mmjax.convert transformer --source zai-org/CogVideoX-5b --output weights/transformer
python -m mmjax.convert transformer --source weights/transformer --output diffusers/transformer --reverse
"""

import argparse
from pathlib import Path

import jax

from mmjax import callable_command, cli, conversion
from mmjax.errors import ConversionError, exits_cleanly


def convert(
    component: str,
    source: str | Path,
    output: str | Path,
    *,
    reverse: bool = False,
    dtype: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
) -> conversion.Report:
    """Converts published weights into a folder that mmjax loads, or back.

    Args:
      component: one of `mmjax.conversion.COMPONENTS`, such as "transformer", or "cogvideox" for a whole pipeline.
      source: a published folder, weights file or hub id; with `reverse` a converted folder.
      output: folder to write.
      reverse: write the published files from a converted folder.
      dtype: "float32" or "bfloat16" casts; by default everything keeps the source's dtype, bit for bit.
      tokenizer: folder of the text encoder's tokenizer, where it is not beside the source.
      overwrite: replace what mmjax converted there before; other files in the folder stay.

    Raises:
      ConversionError: with all that does not fit. CheckpointError: a converted folder that is not complete.
    """
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


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Parses the command line, converts, and prints what was written. Weights never touch an accelerator."""
    args = _parser().parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    print(convert(**vars(args)))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog="python -m mmjax.convert",
        description="Converts published weights into a folder that mmjax loads onto any mesh, or back.",
        epilog=_components(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("component", help="what to convert; see below")
    parser.add_argument(
        "--source",
        type=cli.path,
        required=True,
        help="published folder (a model's or a pipeline's), weights file or hub id; a converted folder to go back",
    )
    parser.add_argument("--output", type=cli.path, required=True, help="folder to write")
    parser.add_argument("--reverse", action="store_true", help="write the published files from a converted folder")
    parser.add_argument("--dtype", help="cast to float32 or bfloat16 (default: keep the source's dtype, bit for bit)")
    parser.add_argument(
        "--tokenizer", type=cli.path, help="folder of the text encoder's tokenizer, when it is not beside the source"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace this component as converted there before, and nothing else"
    )
    return parser


def _components() -> str:
    """The components with a line each."""
    lines = {conversion.PIPELINE: "a whole CogVideoX pipeline: transformer, vae, text-encoder, tokenizer and scheduler"}
    lines |= {name: kind.summary for name, kind in conversion.COMPONENTS.items()}
    return "\n".join(["components:", *(f"  {name:<14}{summary}" for name, summary in lines.items())])


callable_command(__name__)

if __name__ == "__main__":
    main()
