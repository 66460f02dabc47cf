"""python -m tests.kills [--count 50] [--seed 0] [--folder DIR]"""

import argparse
import functools
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 where nothing was lost."""
    flags = _flags().parse_args(arguments)
    os.environ["JAX_PLATFORMS"] = "cpu"
    from tests.kills.killing import PHASES
    from tests.kills.survival import survive

    folder, began = flags.folder or Path(tempfile.mkdtemp(prefix="mmjax-kills-")), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kills = survive(folder, flags.count, random.Random(flags.seed), functools.partial(print, flush=True))
    except AssertionError as error:
        print(f"LOST: {error}\nwhat there is of it stands in {folder}", file=sys.stderr)
        return 1
    for phase in PHASES:
        met = [each for each in kills if each.met == phase]
        print(f"in {phase}: {len(met)}, of them {sum(each.alone for each in met)} of the main process alone")
    print(f"older checkpoints met half deleted: {sum(each.half_deleted for each in kills)}")
    print(f"aimed at, met: {dict(Counter((each.aimed, each.met) for each in kills))}")
    print(f"{len(kills)} kills, seed {flags.seed}, {time.monotonic() - began:.0f} s: every last checkpoint was whole,")
    print("no batch was repeated or lost, and the end is the same bit for bit")
    if not flags.folder:
        shutil.rmtree(folder)
    return 0


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.kills")
    parser.add_argument("--count", type=int, default=50, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="an empty folder for the runs, which stay there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
