"""Converts published weights, both ways.

python -m mmjax.convert cogvideox --source zai-org/CogVideoX-5b --output weights/5b
python -m mmjax.convert transformer --source zai-org/CogVideoX-5b --output weights/transformer
python -m mmjax.convert transformer --source weights/transformer --output diffusers/transformer --reverse
"""

import argparse

import jax

from mmjax import callable_command, conversion
from mmjax.errors import ConversionError, exits_cleanly

convert = conversion.convert


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Parses the command line, converts, and prints what was written. Weights never touch an accelerator."""
    args = _parser().parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    settings = {"dtype": args.dtype, "overwrite": args.overwrite}
    if args.reverse and args.tokenizer:
        raise ConversionError("--tokenizer: expected no --reverse beside it; the converted folder holds the tokenizer")
    if not args.reverse:
        settings["tokenizer"] = args.tokenizer
    if args.component == conversion.PIPELINE:
        direction = conversion.convert_pipeline_back if args.reverse else conversion.convert_pipeline
        print(direction(args.source, args.output, **settings))
    else:
        direction = conversion.convert_back if args.reverse else conversion.convert
        print(direction(args.component, args.source, args.output, **settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmjax.convert",
        description="Converts published weights into a folder that mmjax loads onto any mesh, or back.",
        epilog=_components(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("component", help="what to convert; see below")
    parser.add_argument(
        "--source",
        required=True,
        help="published folder (a model's or a pipeline's), weights file or hub id; a converted folder to go back",
    )
    parser.add_argument("--output", required=True, help="folder to write; it must not exist")
    parser.add_argument("--reverse", action="store_true", help="write the published files from a converted folder")
    parser.add_argument("--dtype", help="cast to float32 or bfloat16 (default: keep the source's dtype, bit for bit)")
    parser.add_argument("--tokenizer", help="folder of the text encoder's tokenizer, when it is not beside the source")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that mmjax wrote before")
    return parser


def _components() -> str:
    """The components with a line each."""
    lines = {conversion.PIPELINE: "a whole CogVideoX pipeline: transformer, vae, text-encoder, tokenizer and scheduler"}
    lines |= {name: kind.summary for name, kind in conversion.COMPONENTS.items()}
    return "\n".join(["components:", *(f"  {name:<14}{summary}" for name, summary in lines.items())])


callable_command(__name__)

if __name__ == "__main__":
    main()
