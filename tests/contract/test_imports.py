"""The import contracts of pyproject.toml hold, and each refuses what it is there to refuse."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("messenger", "leads", "schemas", "ingest", "streams", "sinks"),
    *("runtime", "simulator", "operations", "console", "cli", "leadstream"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to break."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken_contracts(tree: Path) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    kept = done.returncode == 0
    return "" if kept else " ".join(done.stdout.split())


def test_contracts_hold(tree: Path) -> None:
    assert broken_contracts(tree) == ""


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("leads/join.py", "import asyncio", "The rules do no I/O"),
        ("messenger/webhook.py", "import httpx", "The rules do no I/O"),
        ("streams/join.py", "import sinks.send", "Stages meet only in topics"),
        ("schemas/codec.py", "import ingest.app", "Layers"),
        ("runtime/clock.py", "import leads.records", "Plumbing knows no domain"),
        ("operations/access.py", "import click", "Operations and the console know no terminal"),
        ("operations/erase/run.py", "from rich.console import Console", "Operations and the console know no terminal"),
        ("operations/access.py", "import cli.terminal", "Layers"),
        ("operations/access.py", "import console.app", "Layers"),
        ("console/app.py", "import cli.terminal", "Layers"),
        ("cli/main.py", "import leadstream", "The public client is for others"),
        ("runtime/clock.py", "import leadstream.reading", "The public client is for others"),
        ("leadstream/reading.py", "import operations.deployment", "Layers"),
        ("leadstream/reading.py", "import sinks.consume", "Layers"),
        ("console/app.py", "import click", "Operations and the console know no terminal"),
    ],
)
def test_contract_refuses(tree: Path, module: str, line: str, contract: str) -> None:
    source = (tree / module).read_text()
    (tree / module).write_text(f"{source}\n{line}\n")

    said = broken_contracts(tree)

    (tree / module).write_text(source)
    assert re.search(rf"{contract}[^A-Z]* BROKEN", said), said


def test_docs_import_no_test() -> None:
    assert [page.name for page in (ROOT / "docs").glob("*.py") if "tests" in imported_from(page.read_text())] == []
    assert imported_from("import os\nfrom tests.builders import NOON\n") == {"os", "tests"}


def imported_from(source: str) -> set[str]:
    return set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
