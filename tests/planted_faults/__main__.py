"""Plants faults one at a time and says which of them the tests find.

    python -m tests.planted_faults [--only PATTERN] [--list] [--resume FILE]

The working tree is only read: faults are planted in a copy of its tracked files, in a temporary folder. First the tests
are run once without a fault, since tests that fail anyway find everything.
"""

import argparse
import dataclasses
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.planted_faults.fault import Fault, problems
from tests.planted_faults.running import Outcome, copy_repository, run_tests, try_fault, warm_up
from tests.planted_faults.table import FAULTS


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 where nothing survives but what is no fault, else 1; 2 where the table does not fit."""
    flags = _flags().parse_args(arguments)
    chosen = [fault for fault in FAULTS if re.search(flags.only, f"{fault.file} {fault.what}", re.IGNORECASE)]
    if flags.list:
        print(*(f"{fault.file}: {fault.what}" for fault in chosen), f"{len(chosen)} faults", sep="\n")
        return 0
    known = _read(flags.resume) if flags.resume else {}
    todo = [fault for fault in chosen if fault.digest not in known]
    print(f"{len(chosen)} faults, of which {len(chosen) - len(todo)} have a result already", flush=True)
    with tempfile.TemporaryDirectory(prefix="planted-faults-") as folder:
        copy_repository(Path(folder))
        if wrong := problems(FAULTS, Path(folder)):
            print("the table does not fit the tracked files:", *wrong, sep="\n", file=sys.stderr)
            return 2
        warm_up()
        if todo and not flags.unchecked and not _sound(todo, Path(folder)):
            return 2
        for number, fault in enumerate(todo, 1):
            outcome = known[fault.digest] = try_fault(fault, Path(folder), flags.limit)
            _write(flags.resume, outcome)
            print(f"{number}/{len(todo)} {_line(fault, outcome)}", flush=True)
    return _report(chosen, known)


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.planted_faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="a regular expression for file and description")
    parser.add_argument("--list", action="store_true", help="print the faults and plant none")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="results, a line of JSON each: read, and added to")
    parser.add_argument("--limit", type=float, default=900, metavar="SECONDS", help="for the tests of one fault")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests without a fault first")
    return parser


def _sound(faults: list[Fault], copy: Path) -> bool:
    """Whether the tests of these faults pass as the program is."""
    tests = tuple(dict.fromkeys(test for fault in faults for test in fault.tests))
    code, output = run_tests(tests, copy, limit=3600)
    if code != 0:
        print("without any fault the tests do not pass:", output[-3000:], sep="\n", file=sys.stderr)
    return code == 0


def _line(fault: Fault, outcome: Outcome) -> str:
    return f"{outcome.verdict:8} {outcome.seconds:6.1f} s  {fault.file}: {fault.what}  {outcome.by.partition(' ')[0]}"


def _report(faults: list[Fault], outcomes: dict[str, Outcome]) -> int:
    """Prints counts and what was not found; returns the exit status."""
    counts = Counter(outcomes[fault.digest].verdict for fault in faults)
    print(f"{len(faults)} faults: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    left = [fault for fault in faults if outcomes[fault.digest].verdict != "found"]
    for fault in left:
        reason = f"no fault: {fault.no_fault}" if fault.no_fault else "a test is missing"
        print(f"{outcomes[fault.digest].verdict}: {fault.file}: {fault.what} ({reason})")
        print(outcomes[fault.digest].output, end="")
    return int(any(not fault.no_fault for fault in left))


def _read(file: Path) -> dict[str, Outcome]:
    lines = file.read_text().splitlines() if file.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    return {each.digest: each for each in outcomes if each.verdict in ("found", "survived")}


def _write(file: Path | None, outcome: Outcome) -> None:
    if file:
        with file.open("a") as lines:
            lines.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
