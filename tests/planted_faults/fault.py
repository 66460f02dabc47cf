"""A fault: a small mistake in one place of the program, and the tests that should notice it."""

import dataclasses
import hashlib
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row of the table.

    what: the mistake in one line; it names the fault, so no two are the same.
    file: relative to the repository.
    text: stands exactly once in the file.
    replacement: what stands there instead.
    tests: pytest's ids (files, or single tests, the quicker ones first) of which at least one should fail.
    no_fault: why nothing can notice, where the program does the same with the fault; then it may survive.
    """

    what: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]
    no_fault: str = ""

    def problem(self, root: Path) -> str | None:
        """What keeps this fault from being planted in the repository at `root`, or None."""
        path = root / self.file
        if not path.is_file():
            return f"{self.what}: no file {self.file}"
        count = path.read_text().count(self.text)
        if count != 1:
            return f"{self.what}: expected the text once in {self.file}, found it {count} times: {self.text!r}"
        missing = [each for each in self.tests if not _is_test(root, each)]
        return f"{self.what}: no such test: {', '.join(missing)}" if missing else None

    def planted(self, content: str) -> str:
        """The file's content with the fault in it."""
        return content.replace(self.text, self.replacement)

    @property
    def digest(self) -> str:
        """Changes with the fault and with its tests, so that an old result is not taken for a new one."""
        parts = (self.file, self.text, self.replacement, *self.tests)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def problems(faults: tuple[Fault, ...], root: Path) -> list[str]:
    """All that keeps the faults of a table from being planted."""
    names = [fault.what for fault in faults]
    twice = [f"{name}: stands twice in the table" for name in sorted(set(names)) if names.count(name) > 1]
    same = [f"{fault.what}: the replacement is the text itself" for fault in faults if fault.text == fault.replacement]
    return twice + same + [problem for fault in faults if (problem := fault.problem(root))]


def _is_test(root: Path, test: str) -> bool:
    """Whether the file exists, and the function in it; parameters in brackets are pytest's to find."""
    file, _, function = test.partition("::")
    path = root / file
    return path.is_file() and (not function or f"def {function.partition('[')[0]}(" in path.read_text())
