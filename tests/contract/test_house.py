"""Rules of the house that no tool checks: sizes, names, what may not be written, what an import may not do."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.metrics import Metrics
from schemas.topics import TOPICS

ROOT = Path(__file__).parents[2]
PACKAGES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
CODE = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OTHERS = [*(ROOT / "docs").glob("*.py"), *(ROOT / "examples").glob("*.py")]

LONGEST_MODULE = 350
GRAB_BAGS = {"base", "common", "handler", "handlers", "helpers", "manager", "misc", "service", "util", "utils"}
# In parts, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"(?<![\w.$}<-])/(?:" + "|".join(("work", "home", "root", "Users")) + r")/\w")
# A name in a string is one of ours, to be replaced behind its module's back.
PRODUCT = re.compile("leadstream", re.IGNORECASE)
PATCHING = re.compile("unittest" + r"\.mock|mock" + r"\.patch|monkeypatch" + r"\.setattr\(\s*[\"']")


def test_a_module_can_be_read_in_one_sitting() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (*CODE, *OTHERS)}

    assert {path: count for path, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_module_is_a_grab_bag() -> None:
    named = [path.relative_to(ROOT) for path in (*CODE, *TESTS, *OTHERS)]

    assert [path for path in named if GRAB_BAGS & {path.stem, *path.parts[:-1]}] == []


def test_a_module_says_what_it_is_and_a_package_file_holds_nothing() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (*CODE, *TESTS, *OTHERS)}

    # The names of the public API are those that `import leadstream` gives.
    public = ROOT / "leadstream" / "__init__.py"
    empty = {path for path in trees if path.name == "__init__.py"} - {public}
    full = [path for path in empty if trees[path].body]
    silent = [path for path, tree in trees.items() if path not in empty and not _says_what_it_is(tree)]
    assert (full, silent) == ([], [])


def test_nothing_written_here_belongs_to_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in _tracked_texts()
        for match in MACHINE_PATHS.finditer(path.read_text(encoding="utf-8"))
    ]

    assert found == []


@pytest.mark.parametrize("text", ["cd /{}/main", 'open("/{}/file")', "PATH=/{}/bin"])
@pytest.mark.parametrize("place", ["work", "home", "root", "Users"])
def test_a_path_of_one_machine_would_be_found(text: str, place: str) -> None:
    assert MACHINE_PATHS.search(text.format(place))


def test_tests_pass_fakes_in_and_patch_nothing() -> None:
    assert [path for path in TESTS if PATCHING.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("text", ["from unittest.{} import Mock", "@{}.patch('a.b')", "monkeypatch.{}('a.b', 1)"])
def test_a_patch_would_be_found(text: str) -> None:
    assert PATCHING.search(text.format("setattr" if "monkey" in text else "mock"))


def test_what_meta_sends_and_allows_does_not_name_this_product() -> None:
    assert [
        path for path in sorted((ROOT / "messenger").rglob("*.py")) if PRODUCT.search(path.read_text("utf-8"))
    ] == []


@pytest.mark.parametrize("text", ["run `leadstream up`", "leadstream's app", "set LEADSTREAM_APP_ID"])
def test_the_name_of_this_product_would_be_found(text: str) -> None:
    assert PRODUCT.search(text)


def test_topics_are_named_in_one_place() -> None:
    # `leads` is a package and a table as well.
    names = {topic.name for topic in TOPICS} - {"leads"}
    elsewhere = [path for path in CODE if path != ROOT / "schemas" / "topics.py"]

    assert {path: names & set(_strings(path)) for path in elsewhere if names & set(_strings(path))} == {}


def test_every_metric_is_counted_somewhere() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE if path.name != "metrics.py")

    assert [name for name in vars(Metrics()) if re.search(rf"metrics\.{name}\b", code) is None] == []


def test_importing_a_module_opens_nothing() -> None:
    imported = subprocess.run(
        [sys.executable, "-m", "tests.contract.import_watch", *PACKAGES], cwd=ROOT, capture_output=True, text=True
    )

    assert (imported.returncode, imported.stdout) == (0, ""), imported.stderr


def test_an_import_that_opens_something_would_be_found(tmp_path: Path) -> None:
    package = tmp_path / "eager"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "client.py").write_text("import httpx\nCLIENT = httpx.Client()\n")

    imported = subprocess.run(
        [sys.executable, ROOT / "tests" / "contract" / "import_watch.py", "eager"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert imported.stdout == "eager.client: Client.__init__"


def _says_what_it_is(tree: ast.Module) -> bool:
    first, *_ = (ast.get_docstring(tree) or "").split("\n\n", 1)
    return first.endswith((".", ":"))


def _tracked_texts() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            yield ROOT / name


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
