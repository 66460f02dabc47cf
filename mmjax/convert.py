"""Converts published weights, both ways.

python -m mmjax.convert transformer --source zai-org/CogVideoX-5b --output weights/transformer
python -m mmjax.convert transformer --source weights/transformer --output diffusers/transformer --reverse
"""

import argparse

import jax

from mmjax import conversion
from mmjax.errors import exits_cleanly


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    """Parses the command line, converts, and prints what was written. Weights never touch an accelerator."""
    args = _parser().parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    direction = conversion.convert_back if args.reverse else conversion.convert
    print(direction(args.component, args.source, args.output, dtype=args.dtype, overwrite=args.overwrite))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmjax.convert",
        description="Converts published weights into a folder that mmjax loads onto any mesh, or back.",
    )
    parser.add_argument("component", help=f"what to convert: {', '.join(conversion.COMPONENTS)}")
    parser.add_argument(
        "--source",
        required=True,
        help="diffusers folder (a model's or a pipeline's), .safetensors file or hub id; a converted folder to go back",
    )
    parser.add_argument("--output", required=True, help="folder to write; it must not exist")
    parser.add_argument("--reverse", action="store_true", help="write diffusers' files from a converted folder")
    parser.add_argument("--dtype", help="cast to float32 or bfloat16 (default: keep the source's dtype, bit for bit)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that mmjax wrote before")
    return parser


if __name__ == "__main__":
    main()
