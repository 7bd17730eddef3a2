"""The lock files: complete pins with hashes, in agreement with pyproject.toml and each other, free of hosts."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN, OTEL, BUILD, DEV, TOOLS = (f"requirements{group}.txt" for group in ("", "-otel", "-build", "-dev", "-tools"))
BENCH, DBT = "tests/benchmarks/requirements.txt", "tests/dbt/requirements.txt"
DIRECT = {
    RUN: PROJECT["project"]["dependencies"],
    OTEL: PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["otel"],
    BUILD: PROJECT["dependency-groups"]["build"] + PROJECT["build-system"]["requires"],
    DEV: PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
    TOOLS: PROJECT["dependency-groups"]["tools"],
    **{
        lock: [
            line
            for line in (ROOT / lock).with_suffix(".in").read_text(encoding="utf-8").splitlines()
            if not line.startswith("#")
        ]
        for lock in (BENCH, DBT)
    },
}


def read_lock(text: str) -> dict[str, str]:
    """The version of each package; refuses whatever is not `name==version`, an optional marker, and hashes."""
    pins: dict[str, str] = {}
    for entry in re.sub(r" *\\\n *", " ", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        match = re.fullmatch(r"([a-z0-9.-]+)==([\w.+!]+)(?: ; [^#@/]+?)?(?: --hash=sha256:[0-9a-f]{64})+", entry)
        if match is None or match[1] in pins:
            raise ValueError(f"not a pin with hashes, or a second one: {entry}")
        pins[match[1]] = match[2]
    return pins


def unmet(direct: list[str], pins: dict[str, str]) -> list[str]:
    """The requirements that no pin meets."""
    return [
        wish
        for wish, requirement in ((wish, Requirement(wish)) for wish in direct)
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]


LOCKS = {name: read_lock((ROOT / name).read_text(encoding="utf-8")) for name in DIRECT}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_direct_requirement(name: str) -> None:
    assert unmet(DIRECT[name], LOCKS[name]) == []


def test_a_direct_requirement_without_a_pin_would_be_found() -> None:
    pins = {"click": "8.4.0", "faust-streaming": "0.15.3"}

    assert unmet(["click>=8.1,<8.4", "faust_streaming==0.15.3", "rich>=14"], pins) == ["click>=8.1,<8.4", "rich>=14"]


@pytest.mark.parametrize("name", [OTEL, DEV])
def test_a_lock_of_more_has_the_run_time_lock_whole(name: str) -> None:
    assert {package: LOCKS[name].get(package) for package in LOCKS[RUN]} == LOCKS[RUN]


def test_the_build_lock_agrees_with_what_is_installed_beside_it() -> None:
    beside = LOCKS[DEV]

    assert {name: beside.get(name, pin) for name, pin in LOCKS[BUILD].items()} == LOCKS[BUILD]


def test_a_benchmark_compares_the_same_versions_but_for_what_quix_streams_excludes() -> None:
    differing = {name for name, pin in LOCKS[BENCH].items() if LOCKS[RUN].get(name, pin) != pin}

    assert differing <= {"pydantic", "pydantic-core"}


def imported(module: str) -> set[str]:
    """The distributions that importing the module loads."""
    loads = (
        f"import sys, {module}; from importlib.metadata import packages_distributions as mapping; names = mapping();"
        "print(*{name for loaded in sys.modules for name in names.get(loaded.partition('.')[0], ())})"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", loads], cwd=ROOT, capture_output=True, check=True)
    return {canonicalize_name(name) for name in done.stdout.decode().split()}


def test_the_python_of_quix_streams_has_all_that_its_yardstick_imports() -> None:
    needed = imported("tests.benchmarks.others.work") & {
        canonicalize_name(Requirement(wish).name) for wish in DIRECT[RUN]
    }

    assert "fastavro" in needed
    assert needed - LOCKS[BENCH].keys() == set()


_HASH = "--hash=sha256:" + "0" * 64


@pytest.mark.parametrize(
    "line",
    [
        "click==8.3.3",
        f"click>=8.1 {_HASH}",
        f"click @ file:click.whl {_HASH}",
        f"click==8.3.3 {_HASH}\nclick==8.3.2 {_HASH}",
        "--index-url=index",
        "--find-links wheels",
    ],
)
def test_a_lock_with_anything_but_hashed_pins_would_be_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a pin"):
        read_lock(line)


@pytest.mark.parametrize("name", DIRECT)
def test_a_lock_names_no_host(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_locks_are_installed_by_one_script_alone(name: str) -> None:
    """What else pip installs is leadstream itself, which needs no index."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if "pip install" in line]

    assert lines
    assert all(
        "--no-deps --no-index /tmp/wheels" in line or "--no-build-isolation --editable ." in line for line in lines
    )


def test_the_version_of_pyproject_is_the_one_that_runs_and_that_compose_names() -> None:
    """A change of version needs `make install`, `make docs` and docker-compose.yml."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    images = {service["image"] for service in compose["services"].values() if "leadstream" in service["image"]}

    assert version("leadstream") == PROJECT["project"]["version"]
    assert images == {f"leadstream:{PROJECT['project']['version']}"}
