"""A test's folder and its mark name the same suite; a test that had only one of them would run in no suite."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The suites that `make test` leaves out.
MARKS = {
    "browser": "browser",
    "benchmarks": "benchmark",
    "compose": "compose",
    "dbt": "dbt",
    "faults": "faults",
    "install": "install",
    "observability": "observability",
}


@pytest.mark.parametrize("folder", MARKS)
def test_every_file_of_the_folder_has_the_mark_of_its_suite(folder: str) -> None:
    mark = re.compile(rf"^(pytestmark = .*| +)pytest\.mark\.{MARKS[folder]}\b", re.MULTILINE)

    files = list((ROOT / "tests" / folder).rglob("test_*.py"))

    assert files
    assert [file.name for file in files if not mark.search(file.read_text())] == []


def test_no_other_file_has_such_a_mark() -> None:
    mark = re.compile(rf"\bmark\.({'|'.join(MARKS.values())})\b")
    tests = ROOT / "tests"

    marked = {file.relative_to(tests).parts[0] for file in tests.rglob("*.py") if mark.search(file.read_text())}

    assert marked == set(MARKS)


def test_make_test_names_every_other_folder() -> None:
    [tested] = re.findall(r"^TESTED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert {*tested.split(), *MARKS} == {file.parent.name for file in (ROOT / "tests").glob("*/__init__.py")}
