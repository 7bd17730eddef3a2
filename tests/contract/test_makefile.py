"""The Makefile installs what a target needs, once, and again when a lock has changed; pip is a stand-in."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    "Makefile",
    "pyproject.toml",
    "requirements.txt",
    "requirements-build.txt",
    "requirements-dev.txt",
    "requirements-tools.txt",
    "requirements-install.sh",
    "tests/benchmarks/requirements.txt",
    "tests/dbt/requirements.txt",
]
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv --clear .venv")
        rm -rf .venv && mkdir -p .venv/bin .venv/lib/python3/site-packages
        cp "$0" .venv/bin/python && echo venv >> notes
        ;;
    *"-m pip install"*--editable*) echo leadstream >> notes ;;
    *"-m pip install"*requirements-dev.txt) echo dev >> notes ;;
    *"-m pip install"*"--requirement requirements.txt --requirement requirements-build.txt") echo run >> notes ;;
    *"-m pip install"*) echo "unexpected: $*" >> notes ;;
esac
"""
NEW = ["venv", "run", "leadstream"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def test_the_run_time_lock_comes_first_and_the_development_lock_when_needed(clone: Path) -> None:
    assert make(clone, "install") == NEW
    assert make(clone, "docs") == ["dev"]
    assert make(clone, "install") == make(clone, "docs") == []


def test_development_first_has_the_same_end(clone: Path) -> None:
    assert make(clone, "docs") == [*NEW, "dev"]
    assert make(clone, "install") == make(clone, "docs") == []


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-build.txt"])
def test_a_changed_lock_makes_a_new_environment(clone: Path, lock: str) -> None:
    make(clone, "docs")
    change(clone / lock)

    assert make(clone, "install") == NEW
    assert make(clone, "docs") == ["dev"]


def test_a_changed_development_lock_makes_a_new_environment_too(clone: Path) -> None:
    make(clone, "docs")
    change(clone / "requirements-dev.txt")

    assert make(clone, "install") == []
    assert make(clone, "docs") == [*NEW, "dev"]


def test_a_changed_pyproject_installs_leadstream_alone_again(clone: Path) -> None:
    make(clone, "docs")
    change(clone / "pyproject.toml")

    assert make(clone, "docs") == ["leadstream"]


def test_a_checkout_that_changes_only_times_installs_nothing(clone: Path) -> None:
    make(clone, "docs")
    for name in FILES:
        (clone / name).touch()

    assert make(clone, "docs") == []


def make(clone: Path, target: str) -> list[str]:
    """What was installed, in order."""
    notes = clone / "notes"
    notes.write_text("")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", target, "PYTHON=./python"], cwd=clone, env=environ, check=True, capture_output=True)
    return notes.read_text().split("\n")[:-1]


def change(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
