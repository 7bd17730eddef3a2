"""A library in another version than the pinned one is refused at start, by name."""

import tomllib
from pathlib import Path

import pytest

from runtime.bounded_http import PINS
from runtime.versions import WrongVersion, require_versions
from streams.engine import transport

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_installed_versions_are_the_ones_that_we_pin() -> None:
    require_versions(PINS | transport.PINS)


def test_another_version_is_refused_by_name_with_what_to_do() -> None:
    with pytest.raises(WrongVersion, match=r"aiokafka \S+ is installed, .* exactly 0\.0\.1: run `pip install aiokaf"):
        require_versions({"aiokafka": "0.0.1"})


@pytest.mark.parametrize(("package", "pin"), (PINS | transport.PINS).items())
def test_pyproject_pins_what_the_code_asserts(package: str, pin: str) -> None:
    wishes = (wish.partition("==") for wish in PROJECT["project"]["dependencies"])

    assert {name.partition("[")[0]: exact for name, _, exact in wishes}[package] == pin
