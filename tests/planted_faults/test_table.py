"""Every planted fault can still be planted: its text stands once in its file, and its tests exist. None is run here."""

import dataclasses

import pytest

from tests.planted_faults.fault import Fault, problems
from tests.planted_faults.running import ROOT, copy_repository
from tests.planted_faults.table import FAULTS

LEAST = 80
ROW = Fault("a sum is a difference", "program.py", "one + two", "one - two", ("test_program.py::test_sum[small]",))


@pytest.fixture
def program(tmp_path):
    """A repository that `ROW` fits."""
    (tmp_path / "program.py").write_text("def total(one, two):\n    return one + two\n")
    (tmp_path / "test_program.py").write_text("def test_sum(size):\n    pass\n")
    return tmp_path


def test_the_table_fits_the_program():
    assert problems(FAULTS, ROOT) == []
    assert len(FAULTS) >= LEAST


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"file": "nowhere.py"}, "no file nowhere.py"),
        ({"text": "one * two"}, "expected the text once in program.py, found it 0 times"),
        ({"text": "one"}, "found it 2 times"),
        ({"replacement": "one + two"}, "the replacement is the text itself"),
        ({"tests": ("test_nothing.py",)}, "no such test: test_nothing.py"),
        ({"tests": ("test_program.py::test_su",)}, "no such test: test_program.py::test_su"),
    ],
)
def test_a_row_that_does_not_fit_is_named(program, change, complaint):
    assert problems((ROW,), program) == []
    (found,) = problems((dataclasses.replace(ROW, **change),), program)
    assert found.startswith("a sum is a difference: ") and complaint in found


def test_two_rows_of_one_name_are_refused(program):
    assert problems((ROW, ROW), program) == ["a sum is a difference: stands twice in the table"]


def test_a_fault_changes_its_text_alone(program):
    assert ROW.planted((program / "program.py").read_text()) == "def total(one, two):\n    return one - two\n"


def test_a_result_belongs_to_its_row_alone():
    changes = {"text": "a"}, {"replacement": "b"}, {"tests": ("c",)}, {"file": "d"}
    assert len({ROW.digest, *(dataclasses.replace(ROW, **change).digest for change in changes)}) == 5
    assert dataclasses.replace(ROW, what="in other words", no_fault="a reason").digest == ROW.digest


def test_faults_are_planted_in_a_copy(tmp_path):
    copy_repository(tmp_path)
    for file in {fault.file for fault in FAULTS}:
        assert (tmp_path / file).read_bytes() == (ROOT / file).read_bytes()
        assert not (tmp_path / file).samefile(ROOT / file)
